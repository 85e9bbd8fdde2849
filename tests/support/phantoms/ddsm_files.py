"""The phantom as an archive of DDSM's form: volumes of cases with .ics, .LJPEG and .OVERLAY files, and its oddities.

Leftover files beside those of a case, a case in two folders, compressed copies, exchanged sides in headers, .ics files
with an empty first line or without an age: all of them occur in the archive.
"""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.writing import Job, appearing, check, write_patients
from diagram_ray.errors import DataError
from tests.support.phantoms.ddsm_case import MOST_PATIENTS, Outlined, PhantomCase, PhantomFilm, Points, phantom_case
from tests.support.phantoms.ljpeg_encoder import encode

STRAYS = ("{name}.LEFT_CC.LJPEG.1", "{name}.RIGHT_MLO.OVERLAYu", "{ics}~", "TAPE_{name}.COMB.16_PGM", "#mv.sh#", "jpeg")
"""Files that the first patient's folder holds besides its own."""
DOUBLED, COMPRESSED = 0, 1
"""Numbers of the patients who stand in two folders, and whose files are compressed."""

_STEPS = {(0, -1): 0, (1, -1): 1, (1, 0): 2, (1, 1): 3, (0, 1): 4, (-1, 1): 5, (-1, 0): 6, (-1, -1): 7}


def make_ddsm_phantom(
    out: Path,
    patients: int,
    seed: int,
    difficulty: float = 0.4,
    height: int = 416,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes `patients` synthetic patients to `out` as cancers/cancer_01/case0001/..., four films each.

    Lesions, arguments and errors are those of `make_phantom`; `ddsm_case.phantom_case` tells what a patient's files
    hold. The first patient stands in two volumes, the second one's files are compressed.
    """
    check(out, patients, seed, difficulty, height, workers)
    if patients > MOST_PATIENTS:
        raise DataError(f"phantom: patients is {patients}; DDSM's names are enough for {MOST_PATIENTS}")
    with appearing(out) as folder:
        jobs = [(folder, number, seed, difficulty, height) for number in range(patients)]
        write_patients(write_case, jobs, workers, progress)


def write_case(job: Job) -> None:
    """Writes one patient's files. Runs in a worker process."""
    root, number, seed, difficulty, height = job
    grid = Grid(height)
    case = phantom_case(seed, number, difficulty, grid)
    volume = f"{case.kind}_{1 + number % 2:02d}"
    folder = root / f"{case.kind}s" / volume / f"case{case.number:04d}"
    folder.mkdir(parents=True)
    name = f"{case.letter}_{case.number:04d}_1"
    (folder / f"{name.replace('_', '-')}.ics").write_text(ics_text(case, grid.spacing))
    for film in case.films:
        data = encode(film.grey, predictor=7, precision=16, swapped=number % 3 == 0)
        (folder / f"{name}.{film.view}.LJPEG").write_bytes(data)
        if film.abnormalities:
            (folder / f"{name}.{film.view}.OVERLAY").write_text(overlay_text(film, 5 - round(4 * difficulty)))
    if number == DOUBLED:
        shutil.copytree(folder, folder.parent.with_name(f"{case.kind}_09") / folder.name)
        for stray in STRAYS:
            (folder / stray.format(name=name, ics=f"{name.replace('_', '-')}.ics")).write_bytes(b"left over\n")
    if number == COMPRESSED:
        _compress(folder)


def ics_text(case: PhantomCase, spacing: float) -> str:
    """The .ics file of a case whose pixels have `spacing` mm."""
    bits = 16 if case.digitizer.startswith("DBA") else 12
    odd = case.plan.number % 2
    lines = [
        *([""] if odd else []),
        "ics_version 1.0",
        f"filename {case.letter}-{case.number:04d}-1",
        f"DATE_OF_STUDY 1 {case.plan.date[4:]} {case.plan.date[:4]}",
        "PATIENT_AGE" if odd else "PATIENT_AGE 55",
        "FILM ",
        "FILM_TYPE REGULAR",
        f"DENSITY {case.plan.density}",
        "DATE_DIGITIZED 7 22 1997 ",
        f"DIGITIZER {case.digitizer}",
        "SEQUENCE",
        *(
            f"{film.view} LINES {film.grey.shape[0]} PIXELS_PER_LINE {film.grey.shape[1]} BITS_PER_PIXEL {bits} "
            f"RESOLUTION {1000 * spacing:.1f} {'OVERLAY' if film.abnormalities else 'NON_OVERLAY'}"
            for film in sorted(case.films, key=lambda film: film.view)
        ),
    ]
    return "".join(f"{line}\n" for line in lines)


def overlay_text(film: PhantomFilm, subtlety: int) -> str:
    """The .OVERLAY file of a film with abnormalities."""
    lines = [f"TOTAL_ABNORMALITIES {len(film.abnormalities)}"]
    for number, one in enumerate(film.abnormalities, start=1):
        lines += [f"ABNORMALITY {number}", *(f"LESION_TYPE {lesion}" for lesion in one.lesions)]
        lines += [f"ASSESSMENT {_assessment(one)}", f"SUBTLETY {subtlety}", f"PATHOLOGY {one.pathology}"]
        lines += [f"TOTAL_OUTLINES {len(one.outlines)} "]
        for place, outline in enumerate(one.outlines):
            lines += ["\tCORE" if place else "BOUNDARY", chain_code(outline)]
    return "".join(f"{line}\n" for line in lines)


def chain_code(corners: Points) -> str:
    """'x y c c c #': the closed way along straight lines from corner to corner, pixel by pixel."""
    codes = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        way = np.abs(there - here).max()
        passed = here + np.rint(np.arange(way + 1)[:, None] * (there - here) / max(way, 1)).astype(np.int64)
        codes += [_STEPS[dx, dy] for dx, dy in np.diff(passed, axis=0).tolist()]
    return " ".join(map(str, [*corners[0], *codes, "#"]))


def _assessment(one: Outlined) -> int:
    return {"MALIGNANT": 5, "UNPROVEN": 3}.get(one.pathology, 2)


def _compress(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
