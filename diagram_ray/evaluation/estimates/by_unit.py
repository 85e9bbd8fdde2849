"""A trial's scores counted by image, by breast and by patient.

A breast has the mean of its views' scores: they show the same tissue, so averaging them takes out noise, and a breast
with more views is not scored higher for it, as by their maximum it would be. A patient has the higher score of the two
breasts, as a reader recalls her for either; a mean would let the healthy breast hide the other. Breast and patient are
positive if one of their images is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import Interval, bootstrap

PATIENT = ["trial", "repeat", "fold", "patient_id"]


@dataclass(frozen=True)
class UnitEstimate:
    """The AUC of one kind of unit."""

    unit: str
    """The kind of unit: `image`, `breast` or `patient`."""
    count: int
    """The number of units in one repeat."""
    positive: int
    """The number of positive units in one repeat."""
    auc: Interval | None
    """Mean over folds, bootstrapped by patient; None if no fold has units of both classes."""


def unit_estimates(
    predictions: pd.DataFrame, sides: Mapping[str, str] | None, resamples: int = 2000, seed: int = 0
) -> list[UnitEstimate]:
    """The estimates by image, breast and patient from one trial's predictions.

    `sides` gives an image's laterality. If it is not known of every image there is no breast, and a patient has the
    highest score of her images.
    """
    return [_measured(unit, table, resamples, seed) for unit, table in unit_tables(predictions, sides).items()]


def unit_tables(predictions: pd.DataFrame, sides: Mapping[str, str] | None) -> dict[str, pd.DataFrame]:
    """The predictions by image, by breast if the side of every image is known, and by patient."""
    if sides is None or not predictions["image_id"].isin(sides).all():
        return {"image": predictions, "patient": by_patient(predictions)}
    breasts = by_breast(predictions, sides)
    return {"image": predictions, "breast": breasts, "patient": by_patient(breasts)}


def by_breast(predictions: pd.DataFrame, sides: Mapping[str, str]) -> pd.DataFrame:
    """Predictions of breasts: the mean score of their images. `sides` has every image."""
    table = predictions.assign(side=predictions["image_id"].map(sides))
    breasts = table.groupby([*PATIENT, "side"], as_index=False).agg(label=("label", "max"), score=("score", "mean"))
    return breasts.assign(image_id=breasts["patient_id"].astype(str) + "-" + breasts["side"]).drop(columns="side")


def by_patient(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of patients: the highest score of their breasts (or images)."""
    patients = predictions.groupby(PATIENT, as_index=False).agg(label=("label", "max"), score=("score", "max"))
    return patients.assign(image_id=patients["patient_id"])


def _measured(unit: str, table: pd.DataFrame, resamples: int, seed: int) -> UnitEstimate:
    data = out_of_fold(table)
    auc, _ = bootstrap(data, resamples, seed)
    once = table[table["repeat"] == table["repeat"].min()]
    return UnitEstimate(unit, len(once), int((once["label"] == 1).sum()), None if np.isnan(auc.value) else auc)
