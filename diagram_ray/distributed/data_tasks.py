"""Many independent jobs as tasks of Ray Data, which runs as many at a time as the cluster has processors.

A job whose worker dies is not tried again here: the caller sees which jobs came to nothing, and can split them.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray.data
from ray.exceptions import RayError

from diagram_ray.errors import DiagramError

Job = TypeVar("Job")
Answer = TypeVar("Answer")

UNLIMITED = -1
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31)}
"""Environment variables of workers: the C library keeps the memory of one film for the next. Otherwise the kernel
clears it anew for every array, which is a third of the time that a film takes."""


def processors() -> int:
    """The number of processors that the cluster has now."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]


def run_tasks(
    name: str,
    work: Callable[[Job], Answer],
    jobs: Sequence[Job],
    at_a_time: int | None = None,
    losses: int = UNLIMITED,
) -> Iterator[tuple[Job, Answer]]:
    """Yields each job with its answer, as they come. Those whose worker has died are missing, and are at most `losses`.

    `name` is what Ray's dashboard calls all of it. `work`, the jobs and the answers travel between machines. Raises
    DiagramError if `work` raises, or too many workers die. Needs an open Ray session.
    """
    if not jobs:
        return
    with quiet():
        try:
            for row in _dataset(name, work, jobs, at_a_time, losses).iter_rows():
                if row["failure"]:
                    raise DiagramError(f"a worker failed: {row['failure']}")
                yield jobs[row["number"]], row["answer"]
        except RayError as error:
            raise DiagramError(f"workers have died: {' '.join(str(error).split())[-400:]}") from None


def _dataset(
    name: str, work: Callable[[Any], Any], jobs: Sequence[Any], at_a_time: int | None, losses: int
) -> ray.data.Dataset:
    def do(row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"number": row["number"], "answer": work(row["job"]), "failure": ""}
        except Exception as error:  # an error of ours, which must not be taken for a dead worker
            failure = f"{type(error).__name__}: {' '.join(str(error).split())[-400:]}"
            return {"number": row["number"], "answer": None, "failure": failure}

    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.max_errored_blocks = losses
    rows = [{"number": number, "job": job} for number, job in enumerate(jobs)]
    with ray.data.DataContext.current(context):
        source = ray.data.from_items(rows, override_num_blocks=len(rows))
        pool = ray.data.TaskPoolStrategy(size=at_a_time)
        done = source.map(do, num_cpus=1, max_retries=0, compute=pool, runtime_env={"env_vars": ALLOCATOR})
        done.set_name(name)
        return done


@contextmanager
def quiet() -> Iterator[None]:
    """Silences Ray Data's own log, and the raylet's remarks, on standard output, on workers that have died."""
    log, worker = logging.getLogger("ray.data"), ray._private.worker
    level, shown = log.level, worker._worker_logs_enabled
    log.setLevel(logging.CRITICAL)
    worker._worker_logs_enabled = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that Ray Data makes itself, and of max_retries
            yield
    finally:
        log.setLevel(level)
        worker._worker_logs_enabled = shown
