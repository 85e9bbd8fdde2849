"""Writes the phantom: many patients at once, each a pure function of the seed and their number."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.files import annotation, image_name, table, write_dicom
from diagram_ray.data.phantom.plan import VIEWS, plan_patient
from diagram_ray.data.phantom.render import render_view
from diagram_ray.errors import DataError

MIN_HEIGHT, MAX_HEIGHT = 64, 3328
FEW_PATIENTS = 8
"""For fewer patients than this a worker, starting one process more costs more than it saves."""


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
    nothing. `progress` is called with the patients done and their total. The folder appears when it is complete.
    Raises DataError for a value out of range or if `out` is there and not empty.
    """
    _check(out, patients, seed, difficulty, height, workers)
    with _appearing(out) as folder:
        (folder / "AllDICOMs").mkdir()
        (folder / "AllXML").mkdir()
        jobs = [(folder, number, seed, difficulty, height) for number in range(patients)]
        for done, _ in enumerate(_work(jobs, workers or _cpus()), start=1):
            if progress:
                progress(done, patients)
        (folder / "INbreast.csv").write_bytes(table(plan_patient(seed, number) for number in range(patients)))


Job = tuple[Path, int, int, float, int]


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


def _work(jobs: list[Job], workers: int) -> Iterator[None]:
    """Does the jobs, in this process if they are few. New processes, not forks: a parent with threads is safe."""
    workers = min(workers, -(-len(jobs) // FEW_PATIENTS))
    if workers == 1:
        yield from map(write_patient, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(write_patient, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A folder to fill, beside `out`, that takes its name at the end or goes away on failure."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        folder = temporary / out.name
        folder.mkdir()
        yield folder
        folder.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check(out: Path, patients: int, seed: int, difficulty: float, height: int, workers: int | None) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there and not empty; give a new folder")
    for name, value, low, high in (
        ("patients", patients, 1, 1_000_000),
        ("seed", seed, 0, 2**63 - 1),
        ("difficulty", difficulty, 0.0, 1.0),
        ("height", height, MIN_HEIGHT, MAX_HEIGHT),
        ("workers", 1 if workers is None else workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise DataError(f"phantom: {name} is {value}; allowed are {low} to {high}")
