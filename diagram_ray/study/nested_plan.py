"""The candidates of nested cross-validation and its cost, known before anything is trained.

The cross-validation itself is in `search.nested`.
"""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

from diagram_ray.errors import ConfigError
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.study.config import StudyConfig

UNGUIDED = ("random", "qmc", "grid")
"""Samplers that never look at a result."""


def blind(study: StudyConfig, lookback: int) -> tuple[int, ...]:
    """The trials whose parameters depend on no result, by number.

    TPE draws at random until it knows `startup_trials` results, and trial i knows those of the trials up to i -
    lookback. A configuration that the study's file sets as a whole depends on none either. Where the study is warmed by
    earlier ones, whose scores may be of the same images, all that a guided sampler proposes depends on them.
    """
    fixed = [number for number, point in enumerate(study.first[: study.trials]) if point.keys() >= study.space.keys()]
    if study.sampler.name in UNGUIDED:
        count = study.trials
    elif study.warm_start:
        count = 0
    else:
        startup = study.sampler.startup_trials if study.sampler.name == "tpe" else 1
        count = min(study.trials, startup + lookback - 1)
    return tuple(sorted({*range(count), *fixed}))


def candidates(study: StudyConfig, trials: Mapping[int, Trial], lookback: int) -> list[int]:
    """The trials that take part. One that broke the study's bounds was not trained, and would not be in any search."""
    blind_trials = {number: trials.get(number) for number in blind(study, lookback)}
    return [
        number
        for number, trial in blind_trials.items()
        if trial is None or trial.state is not TrialState.PRUNED or trial.measurements
    ]


def check_nested(study: StudyConfig) -> None:
    """Raises ConfigError for nested cross-validation in fewer folds than it takes, or without anyone to take part."""
    if study.control.nested and study.folds < 3:
        raise ConfigError(
            f"control.nested: with folds {study.folds} nothing is left to train on when two are left out; it takes 3 "
            "folds at least"
        )
    if study.control.nested and not blind(study, lookback=1):
        raise ConfigError(
            f"control.nested: sampler.name {study.sampler.name} with warm_start proposes nothing without a look at "
            "results; take random, qmc or grid, or leave warm_start out"
        )


def inner_ladder(ladder: Ladder) -> Ladder:
    """The study's ladder with one fold less."""
    most = ladder.rungs[-1].folds - 1
    rungs = dict.fromkeys(Rung(min(rung.folds, most), rung.epochs) for rung in ladder.rungs)
    return Ladder(tuple(rungs), ladder.reduction)


@dataclass(frozen=True)
class Price:
    """The price of nested cross-validation, in epochs of one fold. Each is trained on K - 2 of the K folds."""

    candidates: int
    largest: int
    """Fold-epochs if nothing is dropped early, and no outer winner's model is there already."""
    expected: int
    """Fold-epochs if exactly 1/reduction pass each rung in each outer fold, whatever the others do. They mostly agree,
    and models serve twice the more often for it, so it is rather less; a race makes it less again."""
    times: float
    """`expected` as a multiple of the same figure for the study's own search."""

    def __str__(self) -> str:
        return (
            f"{self.candidates} configurations, at most {self.largest} fold-epochs, about {self.expected} expected: "
            f"{self.times:.1f} times the search"
        )


def price(study: StudyConfig, ladder: Ladder, lookback: int) -> Price:
    """The price of nested cross-validation, before anything is trained. Raises ConfigError as `check_nested`."""
    check_nested(study)
    inner, folds = inner_ladder(ladder), study.folds
    count, whole = len(blind(study, lookback)), ladder.rungs[-1].epochs
    pairs = list(itertools.combinations(range(folds), 2))
    unpruned = min(count, lookback)
    per_trial = sum(_expected(pair, inner) for pair in pairs)
    expected = round(unpruned * len(pairs) * whole + (count - unpruned) * per_trial)
    search_cost = ladder.expected(study.trials, unpruned=lookback)
    return Price(count, (count * len(pairs) + folds) * whole, expected, expected / search_cost)


def _expected(pair: tuple[int, int], ladder: Ladder) -> float:
    """Epochs of the model without `pair`, of a trial that each of the two outer folds may drop on its own."""
    enter = [1 / ladder.reduction**rung for rung in range(len(ladder.rungs))]
    ends = [before - after for before, after in itertools.pairwise([*enter, 0.0])]
    # Fold j is inner fold number j of an outer fold above it, and j - 1 of one below.
    one, other = (_levels(place, ladder) for place in (pair[1] - 1, pair[0]))
    places = itertools.product(zip(ends, one, strict=True), zip(ends, other, strict=True))
    return math.fsum(p * q * max(a, b) for (p, a), (q, b) in places)


def _levels(place: int, ladder: Ladder) -> list[int]:
    """Epochs that the inner fold at `place` has been trained at each rung."""
    return [rung.epochs if rung.folds > place else 0 for rung in ladder.rungs]
