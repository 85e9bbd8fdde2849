"""How many repeats of cross-validation show a difference between two configurations.

The mean of J = R K fold differences has the variance (1/J + test/train) s2 (Nadeau and Bengio, Machine Learning 2003):
s2 is the variance of a difference between folds. The second term is the part that repeats cannot take away, as all of
them train on the same patients. So there is a smallest difference that no number of repeats shows.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import nct
from scipy.stats import t as student

from diagram_ray.evaluation.resampling import LEVEL

POWER = 0.8
MOST = 100
"""Repeats beyond this are not thought of."""


@dataclass(frozen=True)
class Power:
    """What it takes to see a difference of `difference` in AUC."""

    difference: float
    repeats: int | None
    """The repeats of K-fold cross-validation that it takes; None if `MOST` are too few."""
    smallest: float
    """The difference that one repeat shows."""
    limit: float
    """The difference that `MOST` repeats show."""
    fold_sd: float
    """The standard deviation of a difference between folds, the square root of s2."""
    pairs: int
    """Pairs of trials that it was averaged over."""


def power_line(fold_auc: Sequence[ArrayLike], folds: int, difference: float = 0.02) -> Power | None:
    """The power by the AUC of the winner, which is the first, and of other complete trials in each fold: each is (J,).

    The variance of the winner's differences from the others is averaged. None if there is no other trial, or if no
    fold differs.
    """
    first, *others = (np.asarray(values, dtype=np.float64) for values in fold_auc)
    variances = [float((other - first).var(ddof=1)) for other in others]
    if not variances or len(first) < 2 or max(variances) == 0.0:
        return None
    sd = math.sqrt(float(np.mean(variances)))
    enough = next((r for r in range(1, MOST + 1) if shown(difference, sd, r, folds) >= POWER), None)
    return Power(difference, enough, _visible(sd, 1, folds), _visible(sd, MOST, folds), sd, len(variances))


def shown(difference: float, sd: float, repeats: int, folds: int) -> float:
    """The probability that the corrected resampled t test finds a true `difference` at the 5 % level."""
    count = repeats * folds
    error = sd * math.sqrt(1.0 / count + 1.0 / (folds - 1))
    edge = float(student.ppf(0.5 + LEVEL / 2, count - 1))
    return float(nct.sf(edge, count - 1, difference / error))


def _visible(sd: float, repeats: int, folds: int) -> float:
    """The difference that is found with the probability POWER."""
    return float(brentq(lambda d: shown(d, sd, repeats, folds) - POWER, 0.0, 20.0 * sd, xtol=1e-6))
