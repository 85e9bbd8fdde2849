"""DeLong's interval of an AUC (DeLong, DeLong and Clarke-Pearson, Biometrics 1988)."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

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
