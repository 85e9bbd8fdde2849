"""Two models measured on the same folds: is one better?

The folds' training parts overlap, so their differences are not independent and a plain t test finds differences that
are not there. The corrected resampled t test (Nadeau and Bengio, Machine Learning 2003) widens the variance by the
ratio of test to training images. Beside it stands a bootstrap of the patients, which keeps the models as they are: it
says how sure the difference is for these models, not for models trained anew. DeLong's paired test does the same for
the pooled scores, and takes images as independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import t as student

from diagram_ray.errors import DataError
from diagram_ray.evaluation.delong import paired_delong
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import LEVEL, Interval, draw_patients, mean_over_folds, percentile_interval


@dataclass(frozen=True)
class Tested:
    """A difference with its 95 % interval, and the two-sided p value of its being 0."""

    difference: Interval
    p: float


@dataclass(frozen=True)
class Comparison:
    """The second model's AUC (mean over folds) less the first's."""

    auc: tuple[float, float]
    """Mean over folds of the first and of the second."""
    folds: Floats
    """The difference in each fold of each repeat, (J,)."""
    corrected: Tested
    """The difference, tested by the corrected resampled t test over the folds."""
    patients: Tested
    """The difference, tested by the bootstrap of the patients."""
    delong: Tested
    """The difference of the first repeat's pooled AUC, tested by DeLong's paired test, which takes images as
    independent."""


def compare(first: pd.DataFrame, second: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> Comparison:
    """Compares two tables of out-of-fold predictions `fold, image_id, patient_id, label, score` (and `repeat`).

    Raises DataError unless both were measured on the same images, labels and folds.
    """
    tables = [table.assign(trial=number, repeat=table.get("repeat", 0)) for number, table in enumerate((first, second))]
    data = out_of_fold(pd.concat(tables))
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    per_fold = np.stack([[mean_over_folds(data, trial, once, [rows])[0] for rows in data.rows()] for trial in (0, 1)])
    if np.isnan(per_fold).any():
        raise DataError("predictions: a fold has images of one class only, so it has no AUC")
    differences = per_fold[1] - per_fold[0]
    one, other = (float(value) for value in per_fold.mean(axis=1))
    corrected = corrected_t(differences, _test_share(tables[0]))
    return Comparison((one, other), differences, corrected, by_patients(data, resamples, seed), _by_delong(tables))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p values of several comparisons (Scandinavian Journal of Statistics 1979)."""
    adjusted, largest = [1.0] * len(p), 0.0
    for rank, at in enumerate(sorted(range(len(p)), key=lambda at: p[at])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[at]))
        adjusted[at] = largest
    return adjusted


def corrected_t(differences: ArrayLike, test_share: float) -> Tested:
    """The corrected resampled t test of (J,) differences between folds, J > 1.

    `test_share` is the number of test images for each training image: 1 / (K - 1) in K folds. Where all differences
    are equal the interval is a point; p is then 1 if they are 0, else 0.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise DataError(f"differences {values.shape}: a test needs those of two folds at least")
    mean, count = float(values.mean()), len(values)
    error = math.sqrt((1.0 / count + test_share) * float(values.var(ddof=1)))
    if error == 0.0:
        return Tested(Interval(mean, mean, mean), float(mean == 0.0))
    reach = float(student.ppf(0.5 + LEVEL / 2, count - 1)) * error
    return Tested(Interval(mean, mean - reach, mean + reach), float(2.0 * student.sf(abs(mean) / error, count - 1)))


def by_patients(data: OutOfFold, resamples: int, seed: int) -> Tested:
    """The difference of the two trials' means over folds in resamples of the patients, the same for both."""
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    weights = draw_patients(data, resamples, seed)[data.patients]
    value, draws = (mean_over_folds(data, 1, w) - mean_over_folds(data, 0, w) for w in (once, weights))
    known = draws[~np.isnan(draws)]
    below, above = int((known <= 0.0).sum()), int((known >= 0.0).sum())
    p = min(1.0, 2.0 * (1 + min(below, above)) / (1 + len(known)))
    return Tested(percentile_interval(float(value[0]), draws), p)


def _by_delong(tables: Sequence[pd.DataFrame]) -> Tested:
    one, other = (table[table["repeat"] == table["repeat"].min()].sort_values("image_id") for table in tables)
    return Tested(*paired_delong(one["label"].to_numpy(), one["score"].to_numpy(), other["score"].to_numpy()))


def _test_share(table: pd.DataFrame) -> float:
    """Test images for each training image, the mean over the folds."""
    tested = table.groupby(["repeat", "fold"]).size().to_numpy()
    return float((tested / (table["image_id"].nunique() - tested)).mean())
