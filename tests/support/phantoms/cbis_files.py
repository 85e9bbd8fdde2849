"""The phantom as a download of CBIS-DDSM: DICOM images, masks and crops, four tables, and their oddities.

Line breaks in fields of the tables; names of mask and crop exchanged; both in one series or in two; masks at another
scale than their image; folders as two downloading programs make them; one file for the masses of a film and one for
its calcifications; patients on both sides of the official split. All of them occur in CBIS-DDSM.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.library import uid as uids
from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.inbreast_files import new_dicom
from diagram_ray.data.phantom.writing import Job, appearing, check, write_patients
from diagram_ray.errors import DataError
from tests.support.phantoms.cbis_case import CbisFilm, PhantomAbnormality, phantom_films, split

KINDS = {"mass": "mass", "calcification": "calc"}
PARTS = {"train": "Training", "test": "Test"}
MOST_PATIENTS = 99_999
FULL, CROP, MASK = "full mammogram images", "cropped images", "ROI mask images"
"""Descriptions of series. A crop and a mask in one series share one of the two."""

_ROWS = "rows"
"""Folder for what the processes tell the one that writes the tables; it does not stay."""
_COMMON = ("left or right breast", "image view", "abnormality id", "abnormality type")
_LAST = ("assessment", "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path")
_HEADERS = {
    "mass": ("patient_id", "breast_density", *_COMMON, "mass shape", "mass margins", *_LAST),
    "calc": ("patient_id", "breast density", *_COMMON, "calc type", "calc distribution", *_LAST),
}
_WORDS = {
    ("mass", True): ("IRREGULAR", "SPICULATED"),
    ("mass", False): ("OVAL", "CIRCUMSCRIBED"),
    ("calcification", True): ("PLEOMORPHIC", "CLUSTERED"),
    ("calcification", False): ("ROUND_AND_REGULAR", "NA"),
}


def make_cbis_phantom(
    out: Path,
    patients: int,
    seed: int,
    difficulty: float = 0.4,
    height: int = 416,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes the films of `patients` synthetic patients that show something, and the four tables, to `out`.

    Lesions, arguments and errors are those of `make_phantom`; `cbis_case.phantom_films` tells what a patient's files
    hold. CBIS-DDSM has no normal mammograms, so patients without a lesion have no files.
    """
    check(out, patients, seed, difficulty, height, workers)
    if patients > MOST_PATIENTS:
        raise DataError(f"phantom: patients is {patients}; CBIS-DDSM's numbers are enough for {MOST_PATIENTS}")
    with appearing(out) as folder:
        (folder / _ROWS).mkdir()
        write_patients(
            write_patient, [(folder, number, seed, difficulty, height) for number in range(patients)], workers, progress
        )
        for name, data in _tables(json.loads(path.read_text()) for path in sorted((folder / _ROWS).iterdir())):
            (folder / name).write_bytes(data)
        shutil.rmtree(folder / _ROWS)


def write_patient(job: Job) -> None:
    """Writes one patient's images, masks and crops, and the rows about them. Runs in a worker process."""
    root, number, seed, difficulty, height = job
    rows = []
    for film in phantom_films(seed, number, difficulty, Grid(height)):
        tree = _Tree(root / "CBIS-DDSM", film, seed)
        subtlety = 5 - round(4 * difficulty)
        rows += [tree.write(abnormality, subtlety) for abnormality in film.abnormalities]
    (root / _ROWS / f"{number:09d}.json").write_text(json.dumps(rows))


class _Tree:
    """The files of one film, in the form of one of two downloading programs."""

    def __init__(self, root: Path, film: CbisFilm, seed: int) -> None:
        self._root, self._film, self._seed = root, film, seed
        self._newer = film.plan.number % 2 == 1
        self._images: dict[str, str] = {}
        """Folder -> the tables' path of a whole image that is written."""

    def write(self, one: PhantomAbnormality, subtlety: int) -> list[str]:
        """Writes an abnormality's files and, once, its image; returns the cells of its row."""
        film = self._film
        part = split(film.plan.number, one.finding)
        folder = f"{KINDS[one.finding].title()}-{PARTS[part]}_{film.patient}_{film.side}_{film.view}"
        if folder not in self._images:
            self._images[folder] = self._save(folder, FULL, {"000000": film.pixels})["000000"]
        crop, mask = self._write_pair(f"{folder}_{one.number}", one)
        if one.finding == "mass":
            mask += "\n"
        else:
            crop += "\n"
        malignant = one.pathology == "MALIGNANT"
        grade = min(int(film.plan.birads[film.side[0]][0]), 5)
        return [
            f"{KINDS[one.finding]}_case_description_{part}_set.csv", film.patient, str(film.plan.density), film.side,
            film.view, str(one.number), one.finding, *_WORDS[one.finding, malignant], str(grade), one.pathology,
            str(subtlety), self._images[folder], crop, mask,
        ]  # fmt: skip

    def _write_pair(self, folder: str, one: PhantomAbnormality) -> tuple[str, str]:
        """Writes the crop and the mask; returns where the tables say they are, which is exchanged for every third."""
        top, left, bottom, right = one.box
        turn = self._film.plan.number + one.number
        crop = self._film.pixels[top:bottom, left:right]
        mask = np.where(one.mask, 255, 0).astype(np.uint8)
        if turn % 4 == 1:
            mask = mask.repeat(2, axis=0).repeat(2, axis=1)
        if turn % 5 == 2:
            apart = [
                self._save(folder, *series)["000000"] for series in ((CROP, {"000000": crop}), (MASK, {"000000": mask}))
            ]
            return apart[0], apart[1]
        names = ("000000", "000001") if one.finding == "mass" else ("000001", "000000")
        stored = (mask, crop) if turn % 3 == 0 else (crop, mask)
        saved = self._save(folder, (CROP, MASK)[turn % 2], dict(sorted(zip(names, stored, strict=True))))
        return saved[names[0]], saved[names[1]]

    def _save(self, folder: str, description: str, pictures: dict[str, NDArray[np.unsignedinteger]]) -> dict[str, str]:
        """Writes a series; returns the tables' path of each picture by its name in the tables."""
        study, series = (self._uid(word, folder, description) for word in ("study", "series"))
        places = (str(study), str(series))
        if self._newer:
            number = int(series[-9:]) % 100_000
            places = (f"07-20-2016-DDSM-NA-{number:05d}", f"1.000000-{description}-{number:05d}")
        inside = self._root.joinpath(folder, *places)
        inside.mkdir(parents=True)
        for instance, pixels in enumerate(pictures.values(), start=1):
            path = inside / f"1-{instance}.dcm"
            uid = self._uid("image", folder, description, str(instance))
            image = new_dicom(path, pixels, uids.SecondaryCaptureImageStorage, uid, bits=8 * pixels.itemsize)
            image.StudyInstanceUID, image.SeriesInstanceUID, image.InstanceNumber = study, series, instance
            image.PatientID = image.PatientName = folder
            image.Modality, image.SeriesDescription, image.BodyPartExamined = "MG", description, "BREAST"
            image.PatientOrientation, image.Laterality = self._film.view, self._film.side[0]
            image.save_as(path, enforce_file_format=True)
        return {name: f"{folder}/{study}/{series}/{name}.dcm" for name in pictures}

    def _uid(self, *words: str) -> uids.UID:
        return uids.generate_uid(entropy_srcs=[f"phantom {self._seed}", *words])


def _tables(patients: Iterable[list[list[str]]]) -> list[tuple[str, bytes]]:
    """Names and contents of the four tables, from the rows of all patients."""
    rows = [row for patient in patients for row in patient]
    tables = []
    for kind in KINDS.values():
        for part in PARTS:
            name = f"{kind}_case_description_{part}_set.csv"
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(_HEADERS[kind])
            writer.writerows(row[1:] for row in rows if row[0] == name)
            tables.append((name, text.getvalue().encode("ascii")))
    return tables
