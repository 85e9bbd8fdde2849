"""What the writers of phantoms share: many patients at once, each a pure function of the seed and their number."""

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from diagram_ray.errors import DataError

MIN_HEIGHT, MAX_HEIGHT = 64, 3328
FEW_PATIENTS = 8
"""The patients of a worker below which starting one process more costs more than it saves."""

Job = tuple[Path, int, int, float, int]
"""Folder, patient's number, seed, difficulty, height."""


def write_patients(
    write: Callable[[Job], None],
    jobs: list[Job],
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Calls `write`, a module's function, for each job, in `workers` processes (None: one for each CPU)."""
    for done, _ in enumerate(_work(write, jobs, workers or _cpus()), start=1):
        if progress:
            progress(done, len(jobs))


@contextmanager
def appearing(out: Path) -> Iterator[Path]:
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


def check(out: Path, patients: int, seed: int, difficulty: float, height: int, workers: int | None) -> None:
    """Raises DataError for a value out of range, or if `out` is there and not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: is there and not empty; remove it or give a new folder")
    for name, value, low, high in (
        ("patients", patients, 1, 1_000_000),
        ("seed", seed, 0, 2**63 - 1),
        ("difficulty", difficulty, 0.0, 1.0),
        ("height", height, MIN_HEIGHT, MAX_HEIGHT),
        ("workers", 1 if workers is None else workers, 1, 1024),
    ):
        if not low <= value <= high:
            raise DataError(f"phantom: {name} is {value}; allowed are {low} to {high}")


def _work(write: Callable[[Job], None], jobs: list[Job], workers: int) -> Iterator[None]:
    """Does the jobs, in this process if they are few. New processes, not forks: a parent with threads is safe."""
    workers = min(workers, -(-len(jobs) // FEW_PATIENTS))
    if workers == 1:
        yield from map(write, jobs)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            for future in as_completed([pool.submit(write, job) for job in jobs]):
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
