"""What nested cross-validation measured: the search as a whole, without the luck of having been selected."""

from dataclasses import dataclass

import pandas as pd

from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import Interval, bootstrap


@dataclass(frozen=True)
class NestedEstimate:
    """The AUC of what a search finds."""

    auc: Interval
    """Mean over the outer folds, each measured by its own inner winner; the interval is of redrawn patients. It takes
    the winners as they are: that another sample of patients would have had others win is not in it."""
    winners: tuple[int, ...]
    """The trial that won in each outer fold."""


def nested_estimate(predictions: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> NestedEstimate:
    """From `trial, fold, image_id, patient_id, label, score`, the outer folds' images as their winners scored them.

    Raises DataError if an image is there twice.
    """
    winners = predictions.groupby("fold")["trial"].first()
    auc, _ = bootstrap(out_of_fold(predictions.assign(trial=0, repeat=0)), resamples, seed)
    return NestedEstimate(auc, tuple(int(trial) for trial in winners))
