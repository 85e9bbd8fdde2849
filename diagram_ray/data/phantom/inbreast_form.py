"""Writes the phantom in INbreast's form."""

from collections.abc import Callable
from pathlib import Path

from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.inbreast_files import annotation, image_name, table, write_dicom
from diagram_ray.data.phantom.patients import VIEWS, plan_patient
from diagram_ray.data.phantom.render import render_view
from diagram_ray.data.phantom.settings import already_made, settings, write_settings
from diagram_ray.data.phantom.writing import Job, appearing, check, write_patients


def make_phantom(
    out: Path,
    patients: int,
    seed: int,
    difficulty: float = 0.4,
    height: int = 416,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes AllDICOMs/, AllXML/ and INbreast.csv of `patients` synthetic patients, four images each, to `out`.

    About 40 % have cancer, in one breast (BI-RADS 4a to 6); all others are BI-RADS 1, 2 and, rarely, 3. `difficulty`
    from 0 (cancers 23 mm wide that nobody overlooks) to 1 (12 mm, faint). Images are `height` x 10/13 `height` pixels
    and show 233 mm, whatever the height. The files depend on `patients`, `seed`, `difficulty` and `height` only, and a
    patient's on `seed`, their number, `difficulty` and `height` only; `workers` (None: one for each CPU) changes
    nothing. `progress` is called with the patients done and their total. The folder appears when it is complete. One
    that an equal call has made is left as it is. Raises DataError for a value out of range or if `out` is there and
    neither empty nor that one.
    """
    values = settings(patients, seed, difficulty, height)
    if already_made(out, values):
        return
    check(out, patients, seed, difficulty, height, workers)
    with appearing(out) as folder:
        (folder / "AllDICOMs").mkdir()
        (folder / "AllXML").mkdir()
        jobs = [(folder, number, seed, difficulty, height) for number in range(patients)]
        write_patients(write_patient, jobs, workers, progress)
        (folder / "INbreast.csv").write_bytes(table(plan_patient(seed, number) for number in range(patients)))
        write_settings(folder, values)


def write_patient(job: Job) -> None:
    """Writes one patient's four images and the annotations of those with findings. Runs in a worker process."""
    folder, number, seed, difficulty, height = job
    plan, grid = plan_patient(seed, number), Grid(height)
    for view in range(len(VIEWS)):
        rendered = render_view(plan, seed, view, difficulty, grid)
        write_dicom(folder / "AllDICOMs" / image_name(plan, view), rendered.pixels, plan, view, seed, grid.spacing)
        if plan.birads[VIEWS[view][0]] != "1":
            data = annotation(rendered.findings, rendered.pixels, grid.spacing)
            (folder / "AllXML" / f"{plan.file_id(view)}.xml").write_bytes(data)
