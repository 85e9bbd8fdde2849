"""What each step of the training draws, as pure functions of (seed, fold, epoch, step).

Nothing here has a state that would have to be saved: a resumed run draws what the uninterrupted run would have drawn.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from diagram_ray.config import TrainingConfig
from diagram_ray.errors import DataError

Indices = NDArray[np.intp]


class Purpose(IntEnum):
    """What random numbers are for: each purpose has numbers of its own."""

    WEIGHTS = 0
    IMAGES = 1
    PATCHES = 2
    EPOCH = 3
    INNER_STEP = 4
    GENERATOR_STEP = 5
    VALIDATION = 6
    PICTURE = 7
    HEALTH = 8
    TRAINING_SAMPLE = 9


def seed_for(seed: int, fold: int, purpose: Purpose, *position: int) -> int:
    """The 63-bit seed of the random numbers for one purpose at one position (epoch, step)."""
    state = np.random.SeedSequence([seed, fold, purpose, *position]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def random_for(seed: int, fold: int, purpose: Purpose, *position: int) -> torch.Generator:
    """A CPU generator for one purpose at one position: the same numbers whatever the device."""
    return torch.Generator().manual_seed(seed_for(seed, fold, purpose, *position))


@dataclass(frozen=True)
class Stream:
    """An endless stream of indices: group after group in turn, each group in permutation after permutation.

    One group: any `len(group)` draws from a multiple of it are every index once. More groups (one a class): any run
    of draws has the groups in equal numbers, give or take one.
    """

    groups: tuple[Indices, ...]
    key: tuple[int, ...]
    """(seed, fold, purpose)"""

    @property
    def cycle(self) -> int:
        """Draws until the largest group has been drawn once."""
        return len(self.groups) * max(len(group) for group in self.groups)

    def take(self, start: int, count: int) -> Indices:
        """The indices at the positions start .. start + count - 1."""
        positions = np.arange(start, start + count)
        drawn = np.empty(count, dtype=np.intp)
        for number, group in enumerate(self.groups):
            mine = positions % len(self.groups) == number
            drawn[mine] = self._take_group(number, group, positions[mine] // len(self.groups))
        return drawn

    def _take_group(self, number: int, group: Indices, positions: Indices) -> Indices:
        rounds, places = np.divmod(positions, len(group))
        drawn = np.empty(len(positions), dtype=np.intp)
        for turn in np.unique(rounds):
            mine = rounds == turn
            drawn[mine] = group[_permutation((*self.key, number, int(turn)), len(group))[places[mine]]]
        return drawn


@lru_cache(maxsize=32)
def _permutation(key: tuple[int, ...], size: int) -> Indices:
    return np.random.default_rng(key).permutation(size)


@dataclass(frozen=True)
class Schedule:
    """Which images and patches each inner step of each epoch draws.

    An epoch draws every training image once. With `balance_classes` it draws every image of the most frequent class
    once, and as many of each other class, whose images take turns from epoch to epoch so that all are drawn equally
    often. An epoch's inner steps have n images each or, to be a multiple of k of nearly the same size, somewhat fewer.
    """

    images: Stream
    patches: Stream
    inner_steps: int
    """In an epoch; a multiple of k."""
    patch_batch: int

    def image_batch(self, epoch: int, step: int) -> Indices:
        """The images of an inner step, counted from 0 in each epoch."""
        first, last = (self.images.cycle * edge // self.inner_steps for edge in (step, step + 1))
        return self.images.take(epoch * self.images.cycle + first, last - first)

    def patch_batch_of(self, epoch: int, step: int) -> Indices:
        """The patches of an inner step: m from the endless stream."""
        return self.patches.take((epoch * self.inner_steps + step) * self.patch_batch, self.patch_batch)


def make_schedule(
    config: TrainingConfig,
    fold: int,
    images: Indices,
    labels: NDArray[np.int64],
    patches: Indices,
    patch_labels: NDArray[np.int64],
) -> Schedule:
    """The schedule of one training part: its `images` and `patches` as indices into `labels` and `patch_labels`.

    Without `multi_task` no patches are drawn, and there need be none. Raises DataError if there are no patches, or
    fewer images than the k inner steps of an iteration.
    """
    if not config.multi_task:
        patches = patches[:0]
    elif len(patches) == 0:
        raise DataError(f"fold {fold}: the training part has no patches; Algorithm 1 needs some to train F and D")
    image_stream = _stream(config, fold, Purpose.IMAGES, images, labels)
    iterations = -(-image_stream.cycle // (config.image_batch * config.k))
    if image_stream.cycle < iterations * config.k:
        raise DataError(
            f"fold {fold}: the training part has {len(images)} images, too few for training.k = {config.k} inner steps"
        )
    patch_stream = _stream(config, fold, Purpose.PATCHES, patches, patch_labels)
    patch_batch = config.patch_batch if config.multi_task else 0
    return Schedule(image_stream, patch_stream, iterations * config.k, patch_batch)


def _stream(config: TrainingConfig, fold: int, purpose: Purpose, indices: Indices, labels: NDArray[np.int64]) -> Stream:
    groups: Sequence[Indices] = [indices]
    if config.balance_classes:
        groups = [indices[labels[indices] == label] for label in np.unique(labels[indices])]
    return Stream(tuple(groups), (config.seed, fold, purpose))


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
