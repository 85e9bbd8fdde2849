"""How many of its folds a process trains side by side on its device.

Either it is told, or (`scaling.folds_at_once: auto`) it trains the first folds alone, looks at what memory and time
they take, trains as many together as there is room for, and goes back to one after another if that turns out to be no
faster. Whatever it does, the results are the same; only time and memory are not.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.training.parallel.fold_teams import FoldTeams
from diagram_ray.training.parallel.fold_threads import FoldThread, FoldThreads

T = TypeVar("T")
R = TypeVar("R")
log = logging.getLogger("diagram_ray")

PROBES = 2
"""Epochs of one fold alone before folds are trained together, and rounds of these before it is judged whether that
pays: the first of either is slow, because libraries are loaded and memory is taken."""
USABLE = 0.9
"""The part of the memory that is planned with: it is given out in pieces, and libraries take some for each stream."""


@dataclass(frozen=True)
class Memory:
    """The memory of a device, in bytes."""

    room: int
    """What this process may have, including that which it has."""
    passing: int
    """What was used at most since the meter began, beyond what is used now."""


class CudaMeter:
    """Measures the memory of a GPU of which `part` is this process's. Has not been run: there was no GPU."""

    def __init__(self, device: torch.device, part: float) -> None:
        self._device, self._part = device, part

    def begin(self) -> None:
        """Begins to measure the memory that an epoch takes."""
        torch.cuda.reset_peak_memory_stats(self._device)

    def read(self) -> Memory:
        """The memory that was free and taken since `begin`."""
        free, total = torch.cuda.mem_get_info(self._device)
        room = min(free + torch.cuda.memory_reserved(self._device), int(self._part * total))
        used = torch.cuda.memory_allocated(self._device)
        return Memory(room, torch.cuda.max_memory_allocated(self._device) - used)


def meter_for(device: torch.device, part: float) -> CudaMeter | None:
    """The meter of a GPU; None for processors: a trial has one core, and one fold keeps it busy."""
    return CudaMeter(device, part) if device.type == "cuda" else None


@dataclass(frozen=True)
class MemoryProbe:
    """What an epoch of one fold took, alone on the device."""

    seconds: float
    kept: int
    """Bytes that the fold has between epochs: weights, their copies, the state of its optimizers."""
    memory: Memory


def plan_folds(folds: int, probes: Sequence[MemoryProbe], together: Sequence[float] = ()) -> int:
    """How many of `folds` folds of a process are trained side by side, at least 1.

    As many as fit: all folds keep what they keep, and those under way need what passes besides. No more of them than
    needed for as few turns: of 5 folds 3 if there is room for 4. But 1, if it was tried and was no faster: `together`
    are the seconds of a fold's epoch, the time of a round divided by its folds, in each of the rounds so far.
    """
    if len(together) >= PROBES and min(together) >= min(probe.seconds for probe in probes):
        return 1
    room = int(USABLE * min(probe.memory.room for probe in probes))
    kept, passing = max(probe.kept for probe in probes), max(probe.memory.passing for probe in probes)
    fit = max(1, min(folds, (room - folds * kept) // max(1, passing)))
    turns = -(-folds // fit)
    return -(-folds // turns)


class FoldScheduler:
    """Trains the `folds` folds of a process, `at_once` side by side; None: as `plan_folds` says, by what `meter` finds.

    Without a meter nothing is planned, and the folds are trained one after another.
    """

    def __init__(self, at_once: int | None, folds: int, device: torch.device, meter: CudaMeter | None) -> None:
        self._fixed = 1 if at_once is None and meter is None else at_once
        self._folds, self._device, self._meter = folds, device, meter
        self._threads: FoldThreads | None = None
        self._probes: list[MemoryProbe] = []
        self._together: list[float] = []

    @property
    def at_once(self) -> int:
        """Folds that are trained side by side in the next round, as far as it has so many."""
        if self._fixed is not None:
            return min(self._fixed, self._folds)
        return plan_folds(self._folds, self._probes, self._together) if len(self._probes) >= PROBES else 1

    def each(
        self,
        items: Sequence[T],
        place_of: Callable[[T], int],
        train: Callable[[T, FoldThread], R],
        kept_by: Callable[[T], int | None],
    ) -> list[tuple[R, float]]:
        """The results of `train` for the folds `items`, each with the seconds of this process that it took.

        All seconds together are the time of the round.

        `place_of` a fold: its number among the folds of this process, from 0. `kept_by` it after its epoch: bytes, or
        None if the epoch is not like others. Raises what `train` raises, for the first of the folds for which it does.
        """
        results: list[tuple[R, float]] = []
        while len(results) < len(items):
            left = items[len(results) :]
            if min(self.at_once, len(left)) == 1:
                results.append(self._alone(left[0], train, kept_by))
            else:
                results += self._side_by_side(left, place_of, train)
        return results

    def _alone(
        self, item: T, train: Callable[[T, FoldThread], R], kept_by: Callable[[T], int | None]
    ) -> tuple[R, float]:
        meter = self._meter if self._fixed is None and len(self._probes) < PROBES else None
        if meter is not None:
            meter.begin()
        result, seconds = _timed(train, item, FoldThread())
        if meter is not None and (kept := kept_by(item)) is not None:
            self._probes.append(MemoryProbe(seconds, kept, meter.read()))
        return result, seconds

    def _side_by_side(
        self, items: Sequence[T], place_of: Callable[[T], int], train: Callable[[T, FoldThread], R]
    ) -> list[tuple[R, float]]:
        count = self.at_once
        self._threads = self._threads or FoldThreads(count, self._device)
        started = time.perf_counter()
        results = self._threads.run(items, lambda item: place_of(item) % count, partial(_timed, train))
        seconds = time.perf_counter() - started
        if len(self._together) < PROBES:
            self._together.append(seconds / len(items))
            log.info("%d of %d folds side by side: %.3g s a fold and epoch", count, self._folds, self._together[-1])
        scale = seconds / sum(own for _, own in results)
        return [(result, own * scale) for result, own in results]


def fold_scheduler(teams: FoldTeams, folds: int, config: ExperimentConfig, device: torch.device) -> FoldScheduler:
    """The scheduler of this process's part of `folds` folds of `config` on `device`.

    It trains one fold after another, whatever `teams` asks for, where networks are compiled, because PyTorch's compiler
    changes what all threads share, and with batch norm, because a step that finds no room beside others is repeated,
    and the running statistics would count it twice.
    """
    apart = config.training.compile != "none" or config.model.norm == "batch"
    return FoldScheduler(1 if apart else teams.at_once, teams.folds(folds), device, meter_for(device, teams.part))


def _timed(train: Callable[[T, FoldThread], R], item: T, thread: FoldThread) -> tuple[R, float]:
    started = time.perf_counter()
    return train(item, thread), time.perf_counter() - started
