"""Calibration: do probabilities mean what they say?

A calibration line is the logistic regression of the label on the log-odds of the score (Cox 1958): slope 1 and
intercept 0 are perfect, a slope below 1 says that scores are too extreme, as those of a model that learned its training
images by heart are. Recalibration (Platt 1999) puts scores on the line that was fitted to others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Counts, Interval, resampled

EDGE = 1e-6
"""Scores are kept this far from 0 and 1, whose log-odds are infinite."""
STEPS = 50
STEEPEST = 100.0
"""A larger slope or intercept is that of classes which the scores separate: there is no line."""


@dataclass(frozen=True)
class CalibrationLine:
    """The log-odds of the positive class as `intercept` + `slope` x the log-odds of the score."""

    intercept: float
    slope: float

    def apply(self, scores: Floats) -> Floats:
        """The recalibrated scores (N,)."""
        recalibrated: Floats = expit(self.intercept + self.slope * _log_odds(scores))
        return recalibrated


@dataclass(frozen=True)
class ReliabilityBin:
    """Images of neighbouring scores: what was said of them, and what was."""

    count: int
    score: float
    """The mean score."""
    observed: Interval
    """The part that is positive."""


def brier(labels: NDArray[np.int64], scores: Floats, weights: Counts) -> Floats:
    """The mean squared distance of the scores (N,) from the labels in B resamples: (B,). 0 is perfect."""
    squares = (scores - labels) ** 2
    mean: Floats = squares @ weights.astype(np.float64) / weights.sum(axis=0, dtype=np.float64)
    return mean


def fit_line(labels: NDArray[np.int64], scores: Floats, weights: Counts) -> tuple[Floats, Floats]:
    """Intercept and slope of the calibration line in B resamples at once, (B,) each, by Newton's method.

    NaN where a class is missing or the scores separate the classes.
    """
    odds, drawn = _log_odds(scores)[:, np.newaxis], weights.astype(np.float64)
    truth = (labels == 1).astype(np.float64)[:, np.newaxis]
    intercept, slope = np.zeros(drawn.shape[1]), np.ones(drawn.shape[1])
    for _ in range(STEPS):
        chance = expit(intercept + slope * odds)
        error, spread = drawn * (truth - chance), drawn * chance * (1 - chance)
        down, across = _newton(error, spread, odds)
        intercept, slope = intercept + down, slope + across
        settled = np.abs(across) + np.abs(down) < 1e-9
        if settled.all():
            break
    lost = ~settled | (np.abs(slope) > STEEPEST) | (np.abs(intercept) > STEEPEST)
    intercept[lost], slope[lost] = np.nan, np.nan
    return intercept, slope


def recalibration(labels: NDArray[np.int64], scores: Floats) -> CalibrationLine | None:
    """The calibration line of scores; None where there is none."""
    intercept, slope = fit_line(labels, scores, np.ones((len(labels), 1), dtype=np.float32))
    return None if np.isnan(slope[0]) else CalibrationLine(float(intercept[0]), float(slope[0]))


def reliability(data: OutOfFold, counts: Counts, bins: int = 10) -> list[ReliabilityBin]:
    """The first trial's images in bins of about equal size by their scores, each with the part that is positive.

    `counts` (P, B) are the resamples of the patients.
    """
    order = np.argsort(data.scores[0], kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
    return [_bin(data, counts, part) for part in parts]


def _bin(data: OutOfFold, counts: Counts, rows: NDArray[np.intp]) -> ReliabilityBin:
    def observed(weights: Counts) -> Floats:
        chosen = weights[rows].astype(np.float64)
        total = chosen.sum(axis=0)
        part: Floats = np.divide(data.labels[rows] @ chosen, total, out=np.full(len(total), np.nan), where=total > 0)
        return part

    return ReliabilityBin(len(rows), float(data.scores[0, rows].mean()), resampled(data, counts, observed))


def _newton(error: Floats, spread: Floats, odds: Floats) -> tuple[Floats, Floats]:
    """One step towards the most likely line; steps are cut, so that a flat likelihood throws nothing away."""
    of_intercept, of_slope = error.sum(axis=0), (error * odds).sum(axis=0)
    first, mixed, second = spread.sum(axis=0), (spread * odds).sum(axis=0), (spread * odds**2).sum(axis=0)
    area = first * second - mixed**2
    usable = area > 1e-12
    safe = np.where(usable, area, 1.0)
    down = np.where(usable, (second * of_intercept - mixed * of_slope) / safe, np.inf)
    across = np.where(usable, (first * of_slope - mixed * of_intercept) / safe, np.inf)
    return np.clip(down, -5, 5), np.clip(across, -5, 5)


def _log_odds(scores: Floats) -> Floats:
    odds: Floats = logit(np.clip(scores, EDGE, 1 - EDGE))
    return odds
