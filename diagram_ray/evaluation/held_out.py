"""What models are worth on images that none of them was trained on.

The images are scored once by finished models: nothing is selected, and there are no folds. Every interval is a
bootstrap of the patients, whose images come together. Thresholds and recalibration come from the training side: from
the out-of-fold scores of a study, in which no model scores a patient whom it was trained on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.evaluation.calibration import (
    CalibrationLine,
    ReliabilityBin,
    brier,
    fit_line,
    recalibration,
    reliability,
)
from diagram_ray.evaluation.comparison import Tested, by_patients
from diagram_ray.evaluation.delong import paired_delong
from diagram_ray.evaluation.estimates.by_unit import unit_tables
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.operating_points import SPECIFICITIES, sensitivity_at, youden_threshold
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import (
    Counts,
    Interval,
    draw_patients,
    rate_intervals,
    resampled,
    weighted_auc,
    weighted_average_precision,
)
from diagram_ray.evaluation.subgroups import Subgroup, subgroups

HALF = 0.5
"""The threshold of a model that brings none from its training."""


@dataclass(frozen=True)
class TrainingSide:
    """What a model brings from its training."""

    predictions: pd.DataFrame | None = None
    """Out-of-fold predictions `trial, repeat, fold, image_id, patient_id, label, score`; None if there are none."""
    sides: Mapping[str, str] | None = None
    """The laterality of the images in them."""


@dataclass(frozen=True)
class UnitFigures:
    """The figures by one kind of unit."""

    unit: str
    """`image`, `breast` or `patient` (`evaluation/estimates/by_unit.py`)."""
    count: int
    positive: int
    threshold: float
    """A unit counts as positive from this score on: the best by Youden's index on the training side, else 0.5."""
    figures: dict[str, Interval]
    """The figures by their names; where a class is missing, NaN in an interval of 0 to 1."""


@dataclass(frozen=True)
class ModelEvaluation:
    """One model on all images."""

    name: str
    units: list[UnitFigures]
    line: CalibrationLine | None
    """The line of recalibration from the training side; None if it brings none."""
    recalibrated: dict[str, Interval]
    """The figures of calibration by image after recalibration; empty without a line."""
    reliability: list[ReliabilityBin]
    subgroups: list[Subgroup]


@dataclass(frozen=True)
class PairedDifference:
    """The AUC by image of `second` less that of `first`."""

    first: str
    second: str
    patients: Tested
    """By the bootstrap of the patients."""
    delong: Tested
    """By DeLong's paired test, which takes images as independent."""


@dataclass(frozen=True)
class Evaluation:
    """Models on one labelled dataset."""

    dataset: dict[str, Any]
    """Its place, fingerprint, classes and counts."""
    models: list[ModelEvaluation]
    differences: list[PairedDifference]
    """Of each further model to the first."""
    predictions: pd.DataFrame
    """`image_id, patient_id, label` and one column `score_NAME` a model."""
    notes: list[str] = field(default_factory=list)
    """What limits the figures, in sentences."""


def evaluate_scores(
    name: str,
    table: pd.DataFrame,
    training: TrainingSide,
    manifest: pd.DataFrame,
    columns: Sequence[str] = (),
    resamples: int = 2000,
    seed: int = 0,
) -> ModelEvaluation:
    """One model's figures from its scores `image_id, patient_id, label, score` of labelled images.

    `manifest` has the images' `laterality`, if it is known of all, and the `columns` by which subgroups are made.
    Raises DataError if a class is missing or a column has too many values.
    """
    predictions = table.assign(trial=0, repeat=0, fold=0)
    sides = sides_of(manifest)
    learned = {} if training.predictions is None else unit_tables(training.predictions, training.sides)
    units = [
        _unit(unit, out_of_fold(rows), _threshold(learned.get(unit)), resamples, seed)
        for unit, rows in unit_tables(predictions, sides).items()
    ]
    data = out_of_fold(predictions)
    counts = draw_patients(data, resamples, seed)
    line = None if training.predictions is None else _line(training.predictions)
    recalibrated = {} if line is None else _calibration(data, line.apply(data.scores[0]), counts)
    groups = [group for column in columns for group in subgroups(predictions, manifest, column, resamples, seed)]
    return ModelEvaluation(name, units, line, recalibrated, reliability(data, counts), groups)


def differences(
    names: Sequence[str], tables: Sequence[pd.DataFrame], resamples: int = 2000, seed: int = 0
) -> list[PairedDifference]:
    """The AUC of each further model less that of the first, on the same images."""
    first, *others = [table.assign(repeat=0, fold=0) for table in tables]
    compared = []
    for name, table in zip(names[1:], others, strict=True):
        data = out_of_fold(pd.concat([first.assign(trial=0), table.assign(trial=1)]))
        delong = Tested(*paired_delong(data.labels, data.scores[0], data.scores[1]))
        compared.append(PairedDifference(names[0], name, by_patients(data, resamples, seed), delong))
    return compared


def sides_of(manifest: pd.DataFrame) -> dict[str, str] | None:
    """The laterality of every image, by id; None unless it is known of all."""
    if "laterality" not in manifest or not manifest["laterality"].isin(["L", "R"]).all():
        return None
    return dict(zip(manifest["image_id"].astype(str), manifest["laterality"].astype(str), strict=True))


def _unit(unit: str, data: OutOfFold, threshold: float, resamples: int, seed: int) -> UnitFigures:
    counts = draw_patients(data, resamples, seed)
    scores, truth = data.scores[0], data.labels == 1
    interval = partial(resampled, data, counts, interval=rate_intervals(data))
    called = scores >= threshold
    figures = {
        "auc": interval(lambda w: weighted_auc(data.labels, scores, w)),
        "average_precision": interval(lambda w: weighted_average_precision(data.labels, scores, w)),
        "accuracy": interval(lambda w: _share(called == truth, np.ones_like(truth), w)),
        "sensitivity": interval(lambda w: _share(called, truth, w)),
        "specificity": interval(lambda w: _share(~called, ~truth, w)),
        **{f"sensitivity_at_{s:.0%}": interval(partial(sensitivity_at, data, 1.0 - s)) for s in SPECIFICITIES},
    }
    if unit == "image":
        figures |= _calibration(data, scores, counts)
    return UnitFigures(unit, len(scores), int(truth.sum()), threshold, figures)


def _calibration(data: OutOfFold, scores: Floats, counts: Counts) -> dict[str, Interval]:
    return {
        "brier": resampled(data, counts, partial(brier, data.labels, scores), rate_intervals(data)),
        "calibration_slope": resampled(data, counts, lambda w: fit_line(data.labels, scores, w)[1]),
        "calibration_intercept": resampled(data, counts, lambda w: fit_line(data.labels, scores, w)[0]),
    }


def _share(
    chosen: np.ndarray[Any, np.dtype[np.bool_]], among: np.ndarray[Any, np.dtype[np.bool_]], weights: Counts
) -> Floats:
    """The part of `among` (N,) that is `chosen`, in each resample; NaN where there is none."""
    drawn = weights[among].astype(np.float64)
    total = drawn.sum(axis=0)
    share: Floats = np.divide(chosen[among] @ drawn, total, out=np.full(len(total), np.nan), where=total > 0)
    return share


def _threshold(learned: pd.DataFrame | None) -> float:
    if learned is None:
        return HALF
    threshold = youden_threshold(out_of_fold(learned))
    return HALF if math.isinf(threshold) else threshold


def _line(learned: pd.DataFrame) -> CalibrationLine | None:
    data = out_of_fold(learned)
    return recalibration(data.labels, data.scores[0])
