"""Bootstrap by patient: all images of a patient come together, as often as the patient was drawn.

Two statistics are kept apart. The *mean over folds* is what the search selects by and the paper reports: each fold's
AUC compares images that one model scored. The *pooled* AUC compares all images with each other, so a fold whose model
scores everything higher than the others' lowers it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold

LEVEL = 0.95
BLOCK = 100
"""Resamples that are in memory at a time."""
Counts = NDArray[np.float32]


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    @property
    def degenerate(self) -> bool:
        """The data has no error to estimate a spread from: the interval is a point and says nothing."""
        return not self.high > self.low


def percentile_interval(value: float, draws: Floats) -> Interval:
    """The interval of `value` with the central 95 % of the bootstrap `draws`; NaN draws (a class was missing) are left
    out.

    If all are, nothing is known: the interval is 0 to 1.
    """
    known = draws[~np.isnan(draws)]
    if not len(known):
        return Interval(value, 0.0, 1.0)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(known, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


def logit_interval(value: float, sd: float) -> Interval:
    """An AUC with a standard deviation: the normal interval of log(AUC / (1 - AUC)), transformed back (Pepe 2003).

    It stays within 0 and 1 and reaches farther towards 0.5, where AUC spreads more. Without a spread, or at 0 or 1, it
    is a point.
    """
    if not sd > 0 or not 0 < value < 1:
        return Interval(value, value, value)
    reach = float(norm.ppf((1 + LEVEL) / 2)) * sd / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-reach, reach]))
    return Interval(value, float(low), float(high))


def rate_interval(value: float, draws: Floats, patients: int) -> Interval:
    """The interval of a rate in [0, 1] from the sd of its bootstrap `draws`, on the logit scale with Student's t.

    `patients` are those of the rarer class. With a dozen of them percentiles of a bootstrap hold the truth in 90 %
    only, this in 95 % (benchmarks/hospitals.py). A rate of 0 or 1, which has no spread, gets the exact binomial bound.
    """
    known = draws[~np.isnan(draws)]
    if not len(known) or patients < 2:
        return Interval(value, 0.0, 1.0)
    if not 0 < value < 1:
        bound = ((1 - LEVEL) / 2) ** (1 / patients)
        return Interval(value, bound, 1.0) if value >= 1 else Interval(value, 0.0, 1 - bound)
    reach = float(student.ppf((1 + LEVEL) / 2, patients - 1)) * known.std() / (value * (1 - value))
    low, high = expit(logit(value) + np.array([-reach, reach]))
    return Interval(value, float(low), float(high))


def rate_intervals(data: OutOfFold) -> Callable[[float, Floats], Interval]:
    """`rate_interval` for figures of these predictions."""
    rarer = min(len(np.unique(data.patients[data.labels == label])) for label in (0, 1))
    return partial(rate_interval, patients=rarer)


def draw_patients(data: OutOfFold, resamples: int, seed: int) -> Counts:
    """How often each patient is in each resample: (P, B). As many as there are, with replacement, within folds."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((data.n_patients, resamples), dtype=np.float32)
    for stratum in data.strata():
        size = len(stratum)
        counts[stratum] = rng.multinomial(size, np.full(size, 1 / size), size=resamples).T
    return counts


def resampled(
    data: OutOfFold,
    counts: Counts,
    figure: Callable[[Counts], Floats],
    interval: Callable[[float, Floats], Interval] = percentile_interval,
) -> Interval:
    """A figure with its interval: `figure` makes (B,) values of the weights (N, B) of images in B resamples.

    `counts` (P, B) are those of `draw_patients`; `interval` makes one of the value and its (B,) draws.
    """
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    blocks = [figure(counts[:, at : at + BLOCK][data.patients]) for at in range(0, counts.shape[1], BLOCK)]
    return interval(float(figure(once)[0]), np.concatenate(blocks))


def weighted_auc(labels: NDArray[np.int64], scores: Floats, weights: Counts) -> Floats:
    """AUC of (N,) scores in B resamples at once, image i counting `weights[i, b]` times; NaN where a class is missing.

    One sort, then sums: the weight of the negatives below each positive, ties counted half.
    """
    order = np.argsort(scores[labels == 0], kind="stable")
    negative, positive = scores[labels == 0][order], scores[labels == 1]
    sums = np.zeros((len(negative) + 1, weights.shape[1]), dtype=np.float64)
    np.cumsum(weights[labels == 0][order], axis=0, out=sums[1:])
    drawn = weights[labels == 1]
    left = np.searchsorted(negative, positive, side="left")
    right = np.searchsorted(negative, positive, side="right")
    won = np.einsum("ib,ib->b", drawn, sums[left]) + np.einsum("ib,ib->b", drawn, sums[right])
    pairs = drawn.sum(axis=0, dtype=np.float64) * sums[-1]
    return _ratio(won, 2.0 * pairs)


def weighted_average_precision(labels: NDArray[np.int64], scores: Floats, weights: Counts) -> Floats:
    """Average precision of (N,) scores in B resamples at once: the precision at each score, by the recall it adds.

    Equal scores are one step. NaN where there is no positive.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    drawn = weights[order].astype(np.float64)
    every = np.cumsum(drawn, axis=0)[last]
    positive = np.cumsum(drawn * (labels[order] == 1)[:, np.newaxis], axis=0)[last]
    precision = np.divide(positive, every, out=np.zeros_like(positive), where=every > 0)
    added = np.diff(positive, axis=0, prepend=0.0)
    return _ratio((precision * added).sum(axis=0), positive[-1])


def mean_over_folds(
    data: OutOfFold, trial: int, weights: Counts, rows: Sequence[NDArray[np.intp]] | None = None
) -> Floats:
    """The mean of the folds' AUC in each resample, for the `trial`-th trial; weights: (N, B).

    A fold that lost a class in a resample is left out of that resample's mean; NaN where no fold is left.
    """
    rows = data.rows() if rows is None else rows
    folds = np.stack([weighted_auc(data.labels[r], data.scores[trial, r], weights[r]) for r in rows])
    known = ~np.isnan(folds)
    total = np.where(known, folds, 0.0).sum(axis=0)
    return _ratio(total, known.sum(axis=0).astype(np.float64))


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where `below` is 0."""
    result = np.full(len(above), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def bootstrap(data: OutOfFold, resamples: int = 2000, seed: int = 0) -> tuple[Interval, Interval]:
    """Mean over folds and pooled AUC of the first trial, each with its patient-clustered bootstrap interval."""
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    weights = draw_patients(data, resamples, seed)[data.patients]
    means = mean_over_folds(data, 0, weights)
    pooled = weighted_auc(data.labels, data.scores[0], weights)
    return (
        percentile_interval(float(mean_over_folds(data, 0, once)[0]), means),
        percentile_interval(float(weighted_auc(data.labels, data.scores[0], once)[0]), pooled),
    )
