"""Minibatches that are made while the accelerator still works on the one before."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def prefetched(items: Iterator[T]) -> Iterator[T]:
    """The same items in the same order, each made by a thread while the one before it is in use.

    Gathering a minibatch from the data and copying it to pinned memory let other threads run meanwhile. What the
    thread puts on a GPU goes to the stream that the caller uses too, so nothing has to be waited for. What `items`
    raises is raised where the item would have been.
    """
    stream = torch.cuda.current_stream() if torch.cuda.is_available() else None
    end = object()

    def make() -> T | object:
        with torch.cuda.stream(stream):  # each thread has its own, and its own device; without a GPU it does nothing
            return next(items, end)

    with ThreadPoolExecutor(max_workers=1) as pool:
        coming = pool.submit(make)
        while (item := coming.result()) is not end:
            coming = pool.submit(make)
            yield item  # type: ignore[misc]
