"""Figures of merit of one set of scores: AUC, accuracy, ROC curve, and the mean of several ROC curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diagram_ray.errors import DataError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Roc:
    """A ROC curve: `true` (sensitivity) against `false` (1 - specificity), from (0, 0) to (1, 1)."""

    false: Floats
    true: Floats


@dataclass(frozen=True)
class MeanRoc:
    """Several ROC curves averaged vertically: at each of `false` (P,), the mean and sd (n - 1) of `true` (P,)."""

    false: Floats
    true: Floats
    sd: Floats


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of (N,) `scores` for (N,) `labels` of 0 and 1: P(positive > negative) + P(tie) / 2.

    Raises DataError if one class is missing, a label is not 0 or 1, or a score is NaN.
    """
    negative, positive = by_class(labels, scores)
    return float(placements(positive, negative).mean())


def accuracy(labels: ArrayLike, scores: ArrayLike, threshold: float = 0.5) -> float:
    """Part of the (N,) `labels` (0 and 1, or only one of them) that `scores >= threshold` gets right.

    Raises DataError if a label is not 0 or 1, or a score is NaN.
    """
    truth, values = _checked(labels, scores)
    return float(np.mean((values >= threshold) == truth))


def roc(labels: ArrayLike, scores: ArrayLike) -> Roc:
    """The ROC curve; equal scores are one step, so that its area is `auc`. Raises DataError as `auc` does."""
    negative, positive = by_class(labels, scores)
    thresholds = np.unique(np.concatenate([negative, positive]))[::-1]
    return Roc(_rates(negative, thresholds), _rates(positive, thresholds))


def mean_roc(curves: Sequence[Roc], points: int = 201) -> MeanRoc:
    """Averages curves vertically (Fawcett 2006, Sect. 8.1): the mean sensitivity at each false positive rate.

    A curve that rises at a false positive rate is read at the top of the rise; all begin in (0, 0).
    """
    false = np.linspace(0.0, 1.0, points)
    lines = np.stack([_read_at(curve, false) for curve in curves])
    lines[:, 0] = 0.0
    sd = lines.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(points)
    return MeanRoc(false, lines.mean(axis=0), sd)


def by_class(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """The scores of the negatives and of the positives, each in the order given. Raises DataError as `auc` does."""
    truth, values = _checked(labels, scores)
    negative, positive = values[~truth], values[truth]
    if not len(negative) or not len(positive):
        raise DataError(
            f"AUC needs both classes: of {len(truth)} images {len(negative)} are negative and {len(positive)} positive"
        )
    return negative, positive


def placements(scores: Floats, others: Floats) -> Floats:
    """The part of `others` that lies below each of `scores`, ties counted half (DeLong 1988's placement)."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return (below + not_above) / (2.0 * len(ordered))


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], Floats]:
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape or not len(truth):
        raise DataError(f"labels {truth.shape} and scores {values.shape}: expected two lists of one length, not empty")
    positive = truth == 1
    if not np.all(positive | (truth == 0)):
        raise DataError(f"label {truth[~positive & (truth != 0)][0]!r}: expected 0 or 1")
    if np.isnan(values).any():
        raise DataError(f"the score of image {int(np.flatnonzero(np.isnan(values))[0])} of {len(values)} is NaN")
    return positive, values


def _rates(scores: Floats, thresholds: Floats) -> Floats:
    """The part of `scores` at or above each of the descending thresholds, after a first 0."""
    at_or_above = len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.concatenate([[0.0], at_or_above / len(scores)])


def _read_at(curve: Roc, false: Floats) -> Floats:
    """The curve's height at the rates `false`: linear between its points, the top where it rises straight up."""
    return np.interp(false, curve.false, curve.true)
