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

from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Counts, Interval, draw_patients, mean_over_folds, percentile_interval

BLOCK = 250
NARROWED = math.sqrt(math.exp(-1) / (1 - math.exp(-1)))
"""A measurement stands on the part f = 1/e of the P patients that was not drawn. Measurements of such parts of one
study spread with the variance (1 - f) / (f P) of a patient's share; the study itself has 1 / P of it."""


@dataclass(frozen=True)
class Corrected:
    """The winner's AUC (mean over folds) without the optimism of selection."""

    auc: Interval
    """The interval is that of the out-of-bag measurements, narrowed by `NARROWED` around their mean. In simulations
    (benchmarks/estimates.py) it covers the truth in about 97 of 100 studies; as it was measured, in 99."""
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


def bbc(data: OutOfFold, resamples: int = 2000, seed: int = 0) -> Corrected:
    """Corrects the best trial's mean over folds of AUC, the statistic that it was selected by.

    Patients are drawn within folds. If the folds are so small that no resample leaves both classes of a fold out of
    the bag, nothing can be said: the value is the uncorrected one, and its interval 0 to 1.
    """
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    winner = float(np.nanmax(_all_trials(data, once)))
    counts = draw_patients(data, resamples, seed)
    blocks = [_out_of_bag(data, counts[:, at : at + BLOCK]) for at in range(0, resamples, BLOCK)]
    draws = np.concatenate(blocks)
    usable = draws[~np.isnan(draws)]
    value = float(usable.mean()) if len(usable) else winner
    narrowed = np.clip(value + NARROWED * (usable - value), 0.0, 1.0)
    return Corrected(percentile_interval(value, narrowed), winner, len(data.trials), len(usable))


def _out_of_bag(data: OutOfFold, counts: Counts) -> Floats:
    """The out-of-bag AUC of each resample's own winner: (B,)."""
    drawn = counts[data.patients]
    both = _all_trials(data, np.hstack([drawn, (drawn == 0).astype(np.float32)]))  # one sort for the two
    inside, outside = np.hsplit(both, 2)
    chosen = np.where(np.isnan(inside), -np.inf, inside).argmax(axis=0)
    measured: Floats = np.take_along_axis(outside, chosen[np.newaxis], axis=0)[0]
    return measured


def _all_trials(data: OutOfFold, weights: Counts) -> Floats:
    """Mean over folds of AUC: (C, B)."""
    rows = data.rows()
    return np.stack([mean_over_folds(data, trial, weights, rows) for trial in range(len(data.trials))])
