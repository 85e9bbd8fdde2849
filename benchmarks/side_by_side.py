"""What all cores of this machine train: `python -m benchmarks.side_by_side`, about two minutes; --help for sizes.

ours       as a search uses a machine: on each core a process that trains a trial of its own in one thread
idiomatic  one process after the tutorials (see train_step.py), with PyTorch's threads on all cores, as it comes

In turns; images a second of all processes together, by the clock: nothing else should run here meanwhile.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median

import torch

from benchmarks.train_step import Epoch, Task, cases, idiomatic, in_turns, ours, sizes

CORES = len(os.sched_getaffinity(0))


def serve(task: Task, pipe: Connection) -> None:
    """A process that trains an epoch each time that it is told to, until it is told False."""
    torch.set_num_threads(1)
    epoch = ours(task, "float32")
    while pipe.recv():
        epoch()
        pipe.send(True)


@contextmanager
def on_each_core(task: Task) -> Iterator[Epoch]:
    """An epoch of each of as many trials as there are cores, at the same time."""
    context = get_context("spawn")
    ends = [context.Pipe() for _ in range(CORES)]
    processes = [context.Process(target=serve, args=(task, theirs), daemon=True) for _, theirs in ends]
    for process in processes:
        process.start()

    def epoch() -> None:
        for mine, _ in ends:
            mine.send(True)
        for mine, _ in ends:
            mine.recv()

    yield epoch
    for mine, _ in ends:
        mine.send(False)
    for process in processes:
        process.join()


def main() -> None:
    """Measures each case."""
    asked = sizes(__doc__, gpu=False).parse_args()
    torch.set_num_threads(CORES)
    for task in cases(asked):
        images = asked.steps * asked.images
        with on_each_core(task) as epoch:
            loops = {"ours": epoch, "idiomatic": idiomatic(task, workers=0)}
            found = in_turns(loops, asked.rounds, task, time.perf_counter)
        ratios = [CORES * theirs / mine for mine, theirs in zip(found["ours"], found["idiomatic"], strict=True)]
        print(
            f"{asked.size[0]} x {asked.size[1]}, width {asked.width}, GAN {task.config.model.gan}, {CORES} cores: "
            f"ours {CORES * images / median(found['ours']):.0f} images/s, "
            f"idiomatic {images / median(found['idiomatic']):.0f}: "
            f"{median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
