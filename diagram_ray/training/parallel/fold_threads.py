"""Several models trained side by side in one process, on one device: a thread for each.

Each model has its own weights, optimizers and random numbers, so what a thread computes is what it would compute alone.
Only memory is shared: a gradient step for which it is too little waits until no other thread is in one, and is tried
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


class FoldThread:
    """One thread among others, each of which holds its own of the `locks` while it uses memory; or the only one."""

    def __init__(self, number: int = 0, locks: Sequence[threading.Lock] | None = None) -> None:
        self.number = number
        self._locks = locks or [threading.Lock()]

    @property
    def has_others(self) -> bool:
        """Whether other threads may take the memory that this one needs."""
        return len(self._locks) > 1

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Surrounds a gradient step that is taken beside those of the other threads."""
        with self._locks[self.number]:
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Surrounds a gradient step during which no other thread is in one."""
        with ExitStack() as stack:
            for lock in self._locks:  # in one order, so that no two threads wait for each other
                stack.enter_context(lock)
            yield


class FoldThreads:
    """`count` threads on a device. On a GPU each has a stream of its own, so that their kernels may run together.

    An item must keep its thread as long as these threads are used: on a GPU, memory that is freed goes back to the
    stream that it was taken on, which must not be at other work meanwhile.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        locks = [threading.Lock() for _ in range(count)]
        self._threads = [FoldThread(number, locks) for number in range(count)]
        gpu = device.type == "cuda"
        self._streams = [torch.cuda.Stream(device) if gpu else None for _ in locks]  # type: ignore[no-untyped-call]
        self._device = device

    def run(self, items: Sequence[T], thread_of: Callable[[T], int], work: Callable[[T, FoldThread], R]) -> list[R]:
        """What `work` makes of each item in its thread, in the order of the items.

        The items of a thread are done one after another. Returns or raises when all threads have ended; what is raised
        is what was raised for the first of the items, as if they were done in their order.
        """
        before = None if self._streams[0] is None else torch.cuda.current_stream(self._device)
        with ExitStack() as stack:
            pools = [stack.enter_context(_one_thread()) for _ in self._threads]
            coming = [
                pools[thread_of(item)].submit(self._in_thread, thread_of(item), before, work, item) for item in items
            ]
        return [result.result() for result in coming]

    def _in_thread(
        self, number: int, before: "torch.cuda.Stream | None", work: Callable[[T, FoldThread], R], item: T
    ) -> R:
        stream = self._streams[number]
        if stream is None or before is None:
            return work(item, self._threads[number])
        with torch.cuda.stream(stream):
            stream.wait_stream(before)
            try:
                return work(item, self._threads[number])
            finally:
                stream.synchronize()


def _one_thread() -> ThreadPoolExecutor:
    """PyTorch counts its own threads anew for each thread that uses it."""
    return ThreadPoolExecutor(1, "fold", initializer=torch.set_num_threads, initargs=(torch.get_num_threads(),))
