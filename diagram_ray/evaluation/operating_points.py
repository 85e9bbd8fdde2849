"""Decisions instead of ranks: accuracy at a threshold, sensitivity at a fixed specificity.

A threshold must not be chosen on what it is measured on. That of a fold is chosen on the out-of-fold scores of the
other folds' images, where Youden's index (sensitivity + specificity - 1) is largest. The models of those folds did
train on this fold's images; its scores and labels had no part in the choice. All figures are means over folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Counts, Interval, draw_patients, resampled

SPECIFICITIES = (0.8, 0.9)
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Operating:
    """What decisions by the scores are worth; intervals by bootstrap of the patients."""

    at_half: Interval
    """Accuracy at the threshold 0.5."""
    at_youden: Interval
    """Accuracy at the threshold of the other folds; it is chosen anew in each resample."""
    thresholds: tuple[float, ...]
    """The thresholds of `at_youden` in each fold; infinity where no threshold is better than calling all negative."""
    sensitivity: dict[float, Interval]
    """The sensitivity at each of SPECIFICITIES: each fold's ROC curve is read there, as in the figure."""


def operating(data: OutOfFold, resamples: int = 2000, seed: int = 0) -> Operating:
    """What decisions by the first trial's scores are worth, in two folds or more. An interval is 0 to 1 around NaN
    where no fold has both classes."""
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    interval = partial(resampled, data, draw_patients(data, resamples, seed))
    return Operating(
        at_half=interval(lambda w: _accuracy(data, w, [np.full(w.shape[1], 0.5)] * len(data.rows()))),
        at_youden=interval(lambda w: _accuracy(data, w, _of_others(data, w))),
        thresholds=tuple(float(threshold[0]) for threshold in _of_others(data, once)),
        sensitivity={s: interval(partial(sensitivity_at, data, 1.0 - s)) for s in SPECIFICITIES},
    )


def youden_threshold(data: OutOfFold) -> float:
    """The score with the largest Youden's index where all of the first trial's predictions from it on are positive.

    Infinity where no threshold is better than calling all negative.
    """
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    thresholds, false, true = _curve(data, np.arange(len(data.labels)), once)
    return float(thresholds[np.argmax((true - false)[:, 0])])


def _accuracy(data: OutOfFold, weights: Counts, thresholds: Sequence[Floats]) -> Floats:
    """Mean over folds of the part of images that each resample's threshold gets right: (B,)."""
    folds = []
    for rows, threshold in zip(data.rows(), thresholds, strict=True):
        right = (data.scores[0, rows, np.newaxis] >= threshold) == (data.labels[rows, np.newaxis] == 1)
        folds.append((right * weights[rows]).sum(axis=0) / weights[rows].sum(axis=0))
    mean: Floats = np.mean(folds, axis=0)
    return mean


def _of_others(data: OutOfFold, weights: Counts) -> list[Floats]:
    """The threshold of each resample that is best on the patients of the other folds, for each fold: (B,)."""
    best = []
    for rows in data.rows():
        others = np.flatnonzero(~np.isin(data.patients, data.patients[rows]))
        thresholds, false, true = _curve(data, others, weights)
        best.append(thresholds[np.argmax(true - false, axis=0)])
    return best


def sensitivity_at(data: OutOfFold, rate: float, weights: Counts) -> Floats:
    """Mean over folds of the ROC curve's height at the false positive rate `rate`: (B,). NaN where no fold has one."""
    folds = []
    for rows in data.rows():
        _, false, true = _curve(data, rows, weights)
        # The last point not beyond the rate is the top of a vertical rise; the next one lies to its right.
        at = (false <= rate + 1e-9).sum(axis=0) - 1
        column = np.arange(weights.shape[1])
        after = np.minimum(at + 1, len(false) - 1)
        width = false[after, column] - false[at, column]
        part = np.divide(rate - false[at, column], width, out=np.zeros_like(width), where=width > 0)
        part[np.isnan(false[-1])] = np.nan
        folds.append(true[at, column] + np.clip(part, 0, 1) * (true[after, column] - true[at, column]))
    lines = np.stack(folds)
    known = ~np.isnan(lines)
    total, count = np.where(known, lines, 0.0).sum(axis=0), known.sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean


def _curve(data: OutOfFold, rows: Rows, weights: Counts) -> tuple[Floats, Floats, Floats]:
    """Thresholds (T,), falling, the first one above all scores, and at them the rates (T, B) of false and true
    positives; NaN in resamples without the class."""
    order = rows[np.argsort(-data.scores[0, rows], kind="stable")]
    values = data.scores[0, order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    rates = []
    for label in (0, 1):
        sums = np.zeros((len(last) + 1, weights.shape[1]))
        sums[1:] = np.cumsum(weights[order] * (data.labels[order] == label)[:, np.newaxis], axis=0, dtype=float)[last]
        total = sums[-1]
        rates.append(np.divide(sums, total, out=np.full_like(sums, np.nan), where=total > 0))
    return np.concatenate([[np.inf], values[last]]), rates[0], rates[1]
