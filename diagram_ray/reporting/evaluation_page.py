"""The page of an evaluation: what models are worth on images of patients whom they have not seen."""

from typing import Any

import numpy as np

from diagram_ray.evaluation import metrics
from diagram_ray.evaluation.held_out import HALF, Evaluation, ModelEvaluation, PairedDifference, UnitFigures
from diagram_ray.evaluation.plots import held_out as plots
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.subgroups import LEAST
from diagram_ray.evaluation.verdict import Grade, grade, signed
from diagram_ray.reporting.charts import Picture
from diagram_ray.reporting.formatting import interval_text, signed_interval_text
from diagram_ray.reporting.interval_chart import Line, draw
from diagram_ray.reporting.templates_env import environment

HOW_WELL = {
    Grade.NONE: "is not shown to do better than guessing",
    Grade.NEXT_TO_NOTHING: "does better than guessing, but barely",
    Grade.WEAK: "separates the classes weakly",
    Grade.MODERATE: "separates the classes moderately well",
    Grade.GOOD: "separates the classes well",
    Grade.STRONG: "separates the classes very well",
}
WORDS = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "accuracy": "Accuracy at the threshold",
    "sensitivity": "Sensitivity at the threshold",
    "specificity": "Specificity at the threshold",
    "sensitivity_at_80%": "Sensitivity at 80% specificity",
    "sensitivity_at_90%": "Sensitivity at 90% specificity",
    "brier": "Brier score, 0 is perfect",
    "calibration_slope": "Calibration slope, 1 is perfect",
    "calibration_intercept": "Calibration intercept, 0 is perfect",
}
"""Name of a figure -> its words on the page."""


def verdict(model: ModelEvaluation, evaluation: Evaluation) -> str:
    """What may be said of a model, from the lower bound of its AUC by image."""
    auc = model.units[0].figures["auc"]
    of = evaluation.dataset
    words = HOW_WELL[grade(auc)] if auc.high >= 0.5 else "is worse than guessing: are the classes exchanged?"
    return (
        f"{model.name}, on {of['images']} images of {of['patients']} patients whom it has not seen, {words}: "
        f"AUC {auc.value:.2f}, 95% interval {auc.low:.2f} to {auc.high:.2f}; 0.5 is guessing."
    )


def evaluation_page(evaluation: Evaluation) -> str:
    """The page as one self-contained HTML text."""
    return environment().get_template("evaluation.html.j2").render(
        dataset=evaluation.dataset,
        notes=evaluation.notes,
        grade=grade(evaluation.models[0].units[0].figures["auc"]).value,
        verdicts=[verdict(model, evaluation) for model in evaluation.models],
        scale=draw([line for model in evaluation.models for line in _lines(model, len(evaluation.models) > 1)]),
        pictures=_pictures(evaluation),
        models=[_model(model) for model in evaluation.models],
        differences=[_difference(pair) for pair in evaluation.differences],
        least=LEAST,
    )  # fmt: skip


def _lines(model: ModelEvaluation, several: bool) -> list[Line]:
    before = f"{model.name}, by " if several else "By "
    return [
        Line(f"{before}{unit.unit}", unit.figures["auc"], "main" if unit.unit == "image" else "")
        for unit in model.units
    ]


def _pictures(evaluation: Evaluation) -> list[Picture]:
    table = evaluation.predictions
    labels = table["label"].to_numpy(dtype=np.int64)
    scores = {model.name: table[f"score_{model.name}"].to_numpy(dtype=float) for model in evaluation.models}
    curves = {name: metrics.roc(labels, values) for name, values in scores.items()}
    names = " and ".join(scores)
    return [
        Picture("ROC curve, by image", plots.roc(curves), f"ROC curve of {names}"),
        Picture(
            "Precision and recall, by image", plots.precision_recall(labels, scores), f"Precision of {names} by recall"
        ),
    ]


def _model(model: ModelEvaluation) -> dict[str, Any]:
    title = "Do the scores mean what they say?"
    return {
        "name": model.name,
        "threshold": _threshold(model.units[0]),
        "units": [{"name": unit.unit, "count": unit.count, "positive": unit.positive} for unit in model.units],
        "rows": _rows(model),
        "calibration": Picture(title, plots.calibration(model.reliability), f"Reliability of {model.name}"),
        "recalibrated": [
            {"name": WORDS[name], "before": _figure(model.units[0].figures[name]), "after": _figure(figure)}
            for name, figure in model.recalibrated.items()
        ],
        "subgroups": [
            {
                "column": group.column,
                "value": group.value,
                "images": group.images,
                "positive": group.positive,
                "patients": group.patients,
                "auc": None if group.auc is None else _figure(group.auc),
            }
            for group in model.subgroups
        ],
    }


def _threshold(unit: UnitFigures) -> str:
    if unit.threshold == HALF:
        return "0.5, as no better one comes with the model"
    return f"{unit.threshold:.3f} by image, the best by Youden's index on the out-of-fold scores of its own study"


def _rows(model: ModelEvaluation) -> list[dict[str, Any]]:
    """The figures by their names, each with a cell for each unit; empty where a unit does not have it."""
    names = [name for name in WORDS if any(name in unit.figures for unit in model.units)]
    return [
        {
            "name": WORDS[name],
            "cells": [_figure(unit.figures[name]) if name in unit.figures else None for unit in model.units],
        }
        for name in names
    ]


def _figure(figure: Interval) -> dict[str, str]:
    if np.isnan(figure.value):
        return {"value": "none", "interval": ""}
    return {"value": f"{figure.value:.3f}", "interval": interval_text(figure)}


def _difference(pair: PairedDifference) -> dict[str, str]:
    return {
        "name": f"{pair.second} less {pair.first}",
        "difference": signed(pair.patients.difference.value),
        "patients": signed_interval_text(pair.patients.difference),
        "patients_p": f"p = {pair.patients.p:.3f}",
        "delong": signed_interval_text(pair.delong.difference),
        "delong_p": f"p = {pair.delong.p:.3f}",
    }
