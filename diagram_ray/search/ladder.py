"""The fidelity ladder: after how many folds and epochs trials are compared, what that costs, and who goes on.

Pure. The rule is successive halving, asynchronous (ASHA; Li et al., MLSys 2020), with one change: trial i is compared
with the trials up to i - lookback only. All of those ended before trial i could start, so the decision depends on
numbers and values and never on who was faster.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Rung:
    """A point of comparison: the first `folds` folds after `epochs` epochs each."""

    folds: int
    epochs: int

    @property
    def fold_epochs(self) -> int:
        """Epochs of one fold that a trial has cost when it gets here."""
        return self.folds * self.epochs

    def __str__(self) -> str:
        return f"{self.folds} folds x {self.epochs} epochs"


@dataclass(frozen=True)
class Ladder:
    """Rungs from the cheapest to the whole training; each keeps the best 1/`reduction`."""

    rungs: tuple[Rung, ...]
    reduction: int

    @property
    def top(self) -> int:
        """Index of the last rung; a trial that reaches it is complete."""
        return len(self.rungs) - 1

    def exhaustive(self, trials: int) -> int:
        """Fold-epochs of `trials` trials without any pruning: the most a study can cost."""
        return trials * self.rungs[-1].fold_epochs

    def expected(self, trials: int, unpruned: int = 0) -> int:
        """Fold-epochs if exactly 1/`reduction` pass each rung; the first `unpruned` trials have no others to be
        compared with and all go on."""
        first = min(trials, unpruned)
        cost, alive, before = float(self.exhaustive(first)), float(trials - first), 0
        for rung in self.rungs:
            cost += alive * (rung.fold_epochs - before)
            alive, before = alive / self.reduction, rung.fold_epochs
        return round(cost)


def make_rungs(folds: int, epochs: int) -> tuple[Rung, ...]:
    """The default rungs: a fold after a third of the epochs, at half of them fifths of all folds, all folds at the end.

    Earlier epochs say little: where all configurations were trained in full (benchmarks/search_cost.py), the best in
    the end could be anywhere before a quarter of the epochs. From there on a further fold at a time costs least for
    what it shows.

    >>> [str(rung) for rung in make_rungs(5, 30)][:3]
    ['1 folds x 10 epochs', '2 folds x 15 epochs', '3 folds x 15 epochs']
    """
    third, half = max(1, epochs // 3), max(1, epochs // 2)
    further = [Rung(max(2, math.ceil(folds * fifths / 5)), half) for fifths in (2, 3, 4, 5)]
    return tuple(dict.fromkeys([Rung(1, third), *further, Rung(folds, epochs)]))


def usual_lookback(at_once: int, trials: int) -> int:
    """The default lookback: twice the trials `at_once`, and more where there are many for each worker.

    Trials last very differently, and workers wait for the longest; the more trials, the less is lost by comparing with
    somewhat earlier ones. Simulated clusters did well with it (benchmarks/RESULTS.md). A single worker
    never waits.

    >>> [usual_lookback(64, 64 * factor) for factor in (1, 8, 20, 100)]
    [128, 128, 200, 446]
    """
    return max(2 * at_once, round(1 + (at_once - 1) * math.sqrt(trials / (2 * at_once))))


@dataclass(frozen=True)
class Decision:
    """Whether a trial goes on after a rung, and why."""

    go_on: bool
    why: str


def decide(rung: Rung, value: float, earlier: ArrayLike, reduction: int) -> Decision:
    """Compares `value` with what `earlier` trials scored at the same rung.

    The trial goes on if it is among the best 1/`reduction` of all of them, itself included (a tie counts for it), or
    if there are fewer than `reduction` of them. NaN must not come here: a trial without a score has failed.
    """
    values = np.asarray(earlier, dtype=np.float64)
    return decide_by_rank(rung, value, int(np.count_nonzero(values > value)), len(values), reduction)


def decide_by_rank(rung: Rung, value: float, better: int, earlier: int, reduction: int) -> Decision:
    """Decides as `decide` does, where it is known how many of the `earlier` trials are `better`."""
    count = earlier + 1
    if count < reduction:
        return Decision(True, f"{value:.4f} at {rung}: {earlier} earlier trials are too few to compare with")
    places, rank = count // reduction, 1 + better
    verdict = "goes on" if rank <= places else "pruned"
    return Decision(
        rank <= places, f"{verdict}: {value:.4f} at {rung} is number {rank} of {count}, best {places} go on"
    )
