"""Repeated cross-validation of one configuration: how much of its figure is due to how the folds were assigned.

The first repeat is the one by which the configuration was selected. The others assign the same patients anew: they have
no part in the luck of that assignment, but they were not there when other configurations lost on it, and the patients
are the same. So their mean still flatters a little, less than the first repeat does.
"""

import statistics
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagram_ray.errors import DataError
from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import Interval, bootstrap, mean_over_folds


@dataclass(frozen=True)
class RepeatedEstimate:
    """The AUC of one configuration on R assignments of K folds."""

    auc: Interval
    """Mean over all folds of all repeats; patients are redrawn, each with her images in all repeats."""
    sd: float
    """The standard deviation between all R K folds."""
    means: tuple[float, ...]
    """The mean of each repeat over its folds; the first is the one that selected."""

    @property
    def others(self) -> float:
        """Mean of the repeats that selected nothing."""
        return statistics.fmean(self.means[1:])

    @property
    def assignment_sd(self) -> float | None:
        """How far assigning folds anew moves their mean, between repeats that selected nothing (None for one)."""
        return statistics.stdev(self.means[1:]) if len(self.means) > 2 else None

    @property
    def luck(self) -> float:
        """How much the repeat that selected is above the others."""
        return self.means[0] - self.others


def repeated_estimate(predictions: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> RepeatedEstimate:
    """The estimate from one trial's `trial, repeat, fold, image_id, patient_id, label, score` of two repeats or more.

    Raises DataError for fewer, and as `out_of_fold` does.
    """
    repeats = np.sort(predictions["repeat"].unique())
    if len(repeats) < 2:
        raise DataError(f"predictions: {len(repeats)} repeat; repeated cross-validation has 2 at least")
    data = out_of_fold(predictions)
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    values = [float(mean_over_folds(data, 0, once, [rows])[0]) for rows in data.rows()]
    of_repeat = predictions.groupby(["repeat", "fold"]).size().index.get_level_values("repeat").to_numpy()
    means = tuple(float(np.mean(np.array(values)[of_repeat == repeat])) for repeat in repeats)
    return RepeatedEstimate(bootstrap(data, resamples, seed)[0], statistics.stdev(values), means)
