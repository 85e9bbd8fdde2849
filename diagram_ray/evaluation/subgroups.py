"""A model's AUC in parts of the images: by breast density, view, scanner or whatever a column of the manifest says."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from diagram_ray.data.parquet.loader import value_text
from diagram_ray.errors import DataError
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import Interval, draw_patients, rate_intervals, resampled, weighted_auc

LEAST = 10
"""Images of each class that an AUC needs to be shown."""
MOST = 24
"""Values of a column that make subgroups."""
UNKNOWN = "not known"
USUAL = ("density", "birads", "subtlety", "view", "laterality")
"""Columns that make subgroups where nothing else is asked for, if a value of theirs has images enough."""


@dataclass(frozen=True)
class Subgroup:
    """The images that have one value in a column."""

    column: str
    value: str
    images: int
    positive: int
    patients: int
    auc: Interval | None
    """None where a class has fewer than LEAST images."""


def subgroups(
    predictions: pd.DataFrame, manifest: pd.DataFrame, column: str, resamples: int = 2000, seed: int = 0
) -> list[Subgroup]:
    """The subgroups by a column of the manifest, in the order of its values; images without one come last.

    `predictions` are of one trial. Raises DataError if there is no such column, or it has more than MOST values.
    """
    if column not in manifest:
        raise DataError(f"--by {column}: the manifest has no such column; allowed: {', '.join(manifest.columns)}")
    values = dict(zip(manifest["image_id"], manifest[column].map(_text), strict=True))
    named = predictions["image_id"].map(values)
    kinds = sorted(set(named), key=lambda value: (value == UNKNOWN, value))
    if len(kinds) > MOST:
        raise DataError(f"--by {column}: has {len(kinds)} values; allowed are columns of at most {MOST}")
    return [_subgroup(column, value, predictions[named == value], resamples, seed) for value in kinds]


def usual_columns(predictions: pd.DataFrame, manifest: pd.DataFrame) -> list[str]:
    """Those of USUAL that make at least two subgroups, of which one has images enough of both classes."""
    chosen = []
    for column in USUAL:
        if column not in manifest or not 2 <= manifest[column].nunique() <= MOST:
            continue
        values = predictions["image_id"].map(manifest.set_index("image_id")[column])
        counts = pd.crosstab(values, predictions["label"])
        if {0, 1} <= set(counts.columns) and (counts.min(axis=1) >= LEAST).any():
            chosen.append(column)
    return chosen


def _subgroup(column: str, value: str, table: pd.DataFrame, resamples: int, seed: int) -> Subgroup:
    positive = int((table["label"] == 1).sum())
    enough = min(positive, len(table) - positive) >= LEAST
    auc = _auc(out_of_fold(table), resamples, seed) if enough else None
    return Subgroup(column, value, len(table), positive, table["patient_id"].nunique(), auc)


def _auc(data: OutOfFold, resamples: int, seed: int) -> Interval:
    counts = draw_patients(data, resamples, seed)
    return resampled(data, counts, partial(weighted_auc, data.labels, data.scores[0]), rate_intervals(data))


def _text(value: Any) -> str:
    return UNKNOWN if pd.isna(value) else value_text(value)
