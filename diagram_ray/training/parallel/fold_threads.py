"""Several models trained side by side in one process, on one device: a thread for each, called a lane.

Each model has its own weights, optimizers and random numbers, so what a lane computes is what it would compute alone.
Only memory is shared: a gradient step for which it is too little waits until no other lane is in one, and is tried
again, before it is taken for a step that does not fit.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Lane:
    """One lane among others, each of which holds its own of the `locks` while it uses memory; or the only one."""

    def __init__(self, number: int = 0, locks: Sequence[threading.Lock] | None = None) -> None:
        self.number = number
        self._locks = locks or [threading.Lock()]

    @property
    def has_others(self) -> bool:
        """Whether memory may be short because of them."""
        return len(self._locks) > 1

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Around a gradient step beside those of the other lanes."""
        with self._locks[self.number]:
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Around a gradient step during which no other lane is in one."""
        with ExitStack() as stack:
            for lock in self._locks:  # in one order, so that no two lanes wait for each other
                stack.enter_context(lock)
            yield


class Lanes:
    """`count` lanes on a device. On a GPU each has a stream of its own, so that their kernels may run together.

    An item must keep its lane as long as these lanes are used: on a GPU, memory that is freed goes back to the stream
    that it was taken on, which must not be at other work meanwhile.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        locks = [threading.Lock() for _ in range(count)]
        self._lanes = [Lane(number, locks) for number in range(count)]
        gpu = device.type == "cuda"
        self._streams = [torch.cuda.Stream(device) if gpu else None for _ in locks]  # type: ignore[no-untyped-call]
        self._device = device

    def run(self, items: Sequence[T], lane_of: Callable[[T], int], work: Callable[[T, Lane], R]) -> list[R]:
        """What `work` makes of each item in its lane, in the order of the items.

        The items of a lane are done one after another. Returns or raises when all lanes have ended; what is raised is
        what was raised for the first of the items, as if they were done in their order.
        """
        before = None if self._streams[0] is None else torch.cuda.current_stream(self._device)
        with ExitStack() as stack:
            pools = [stack.enter_context(_one_thread()) for _ in self._lanes]
            coming = [pools[lane_of(item)].submit(self._in_lane, lane_of(item), before, work, item) for item in items]
        return [each.result() for each in coming]

    def _in_lane(self, number: int, before: "torch.cuda.Stream | None", work: Callable[[T, Lane], R], item: T) -> R:
        stream = self._streams[number]
        if stream is None or before is None:
            return work(item, self._lanes[number])
        with torch.cuda.stream(stream):
            stream.wait_stream(before)
            try:
                return work(item, self._lanes[number])
            finally:
                stream.synchronize()


def _one_thread() -> ThreadPoolExecutor:
    """PyTorch counts its own threads anew for each thread that uses it."""
    return ThreadPoolExecutor(1, "lane", initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
