"""DeLong's interval of an AUC and of the difference of two (DeLong, DeLong and Clarke-Pearson, Biometrics 1988)."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import by_class, placements
from diagram_ray.evaluation.resampling import LEVEL, Interval


def delong(labels: ArrayLike, scores: ArrayLike) -> Interval:
    """AUC of (N,) scores with the normal interval from the variance of the placement values, cut to [0, 1].

    It takes images as independent; those of one patient are not, so it is narrower than the bootstrap by patient.
    Raises DataError as `auc` does. One image of a class alone has no variance and adds none.
    """
    negative, positive = by_class(labels, scores)
    of_positive, of_negative = placements(positive, negative), 1.0 - placements(negative, positive)
    value = float(of_positive.mean())
    variance = sum(float(np.var(v, ddof=1)) / len(v) for v in (of_positive, of_negative) if len(v) > 1)
    reach = float(norm.ppf(0.5 + LEVEL / 2)) * math.sqrt(variance)
    return Interval(value, max(0.0, value - reach), min(1.0, value + reach))


def paired_delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> tuple[Interval, float]:
    """The second (N,) scores' AUC less the first's on the same images, with its interval and two-sided p value.

    The variance is that of the differences of the placement values, so what both models find hard counts once.
    Images are taken as independent. Where the two order all pairs alike, the interval is a point and p is 1. Raises
    DataError as `auc` does, and if a class has one image.
    """
    one, other = by_class(labels, first), by_class(labels, second)
    if min(map(len, one)) < 2:
        raise DataError("the DeLong test needs two images of each class")
    of_positive = placements(other[1], other[0]) - placements(one[1], one[0])
    of_negative = placements(one[0], one[1]) - placements(other[0], other[1])
    value = float(of_positive.mean())
    error = math.sqrt(sum(float(np.var(v, ddof=1)) / len(v) for v in (of_positive, of_negative)))
    if error == 0.0:
        return Interval(value, value, value), float(value == 0.0)
    reach = float(norm.ppf(0.5 + LEVEL / 2)) * error
    return Interval(value, value - reach, value + reach), float(2.0 * norm.sf(abs(value) / error))
