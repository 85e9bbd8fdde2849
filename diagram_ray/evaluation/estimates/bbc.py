"""Bootstrap bias-corrected cross-validation (Tsamardinos, Greasidou and Borboudakis, Machine Learning 2018).

The best of many trials is partly good and partly lucky. Each resample picks its own winner on the patients that were
drawn and measures that winner on those that were not; the mean of these measurements has no luck of selection in it,
and no model is trained for it.

It sees the trials that have predictions of all folds, the complete ones. Trials that were pruned lost on the same
folds, so some optimism of that earlier selection can remain.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Counts, Interval, draw_patients, logit_interval, mean_over_folds

BLOCK = 250


@dataclass(frozen=True)
class Corrected:
    """The winner's AUC (mean over folds) without the optimism of selection."""

    auc: Interval
    """The interval is as wide as the out-of-bag measurements spread, narrowed to a study of all patients (`spread`). In
    simulations (benchmarks/estimates.py) it covers the truth in 94 to 97 of 100 studies; in 97 to 99 where the
    configurations are noise and hardly agree about the images: the mean of many winners is steadier than one."""
    winner: float
    """The uncorrected AUC of the best trial."""
    trials: int
    """How many trials the winner was selected from."""
    resamples: int
    """How many resamples could be measured: those with both classes in and out of the bag."""

    @property
    def optimism(self) -> float:
        """How much of the winner's AUC is owed to having been selected."""
        return self.winner - self.auc.value


@dataclass(frozen=True)
class Bags:
    """AUC (mean over folds) of C trials in the B resamples in which it can be measured in and out of the bag."""

    whole: Floats
    """The AUC on all patients, (C,)."""
    inside: Floats
    """The AUC on the patients that were drawn, (C, B)."""
    outside: Floats
    """The AUC on the patients that were not drawn, (C, B)."""

    def part(self, trials: slice) -> "Bags":
        """The AUCs of some of the trials."""
        return Bags(self.whole[trials], self.inside[trials], self.outside[trials])


def bags(data: OutOfFold, resamples: int = 2000, seed: int = 0) -> Bags:
    """Draws patients within folds. B is 0 if the folds are so small that none leaves both classes out of the bag."""
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    counts = draw_patients(data, resamples, seed)
    blocks = [_in_and_out_of_bag(data, counts[:, at : at + BLOCK]) for at in range(0, resamples, BLOCK)]
    inside, outside = (np.concatenate(side, axis=1) for side in zip(*blocks, strict=True))
    usable = ~np.isnan(inside[0] + outside[0])  # all trials have the same labels
    return Bags(_all_trials(data, once)[:, 0], inside[:, usable], outside[:, usable])


def bbc(data: OutOfFold, resamples: int = 2000, seed: int = 0) -> Corrected:
    """Corrects the best trial's mean over folds of AUC, the statistic that it was selected by."""
    return corrected(bags(data, resamples, seed))


def corrected(measured: Bags) -> Corrected:
    """The best trial's AUC without the optimism of selection.

    If there is no resample, nothing can be said: the value is the uncorrected one, and its interval 0 to 1.
    """
    winner, (trials, count) = float(measured.whole.max()), measured.inside.shape
    if not count:
        return Corrected(Interval(winner, 0.0, 1.0), winner, trials, 0)
    chosen = measured.inside.argmax(axis=0)
    values = measured.outside[chosen, np.arange(count)]
    interval = logit_interval(float(values.mean()), spread(values, chosen, measured.inside, measured.outside))
    return Corrected(interval, winner, trials, count)


def spread(measured: Floats, chosen: NDArray[np.intp], inside: Floats, outside: Floats) -> float:
    """The standard deviation of the (B,) out-of-bag measurements of the `chosen`, had they all patients.

    About 1/e of the patients are out of the bag. How much more their AUC spreads than that of a whole resample is seen
    on the chosen trials, each measured (C, B) in all resamples, whether chosen there or not. The theory of a mean of
    patients, sqrt(f / (1 - f)) with f = 1/e, narrows too little: AUC is of pairs, and a fold has few
    of each class left.
    """
    share = np.bincount(chosen, minlength=len(inside)) / len(chosen)
    part, whole = (float(share @ side.var(axis=1)) for side in (outside, inside))
    narrowed = math.sqrt(whole / part) if part > 0 else 1.0
    return float(measured.std()) * narrowed


def _in_and_out_of_bag(data: OutOfFold, counts: Counts) -> tuple[Floats, Floats]:
    """Each trial's AUC on the patients that were drawn and on those that were not: twice (C, B)."""
    drawn = counts[data.patients]
    both = _all_trials(data, np.hstack([drawn, (drawn == 0).astype(np.float32)]))  # one sort for the two
    inside, outside = np.hsplit(both, 2)
    return inside, outside


def _all_trials(data: OutOfFold, weights: Counts) -> Floats:
    """Mean over folds of AUC: (C, B)."""
    rows = data.rows()
    return np.stack([mean_over_folds(data, trial, weights, rows) for trial in range(len(data.trials))])
