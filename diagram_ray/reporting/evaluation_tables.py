"""An evaluation as JSON and as rows of tables."""

import math
from dataclasses import asdict, is_dataclass
from typing import Any

from diagram_ray.evaluation.held_out import Evaluation


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """The evaluation as evaluation.json has it: all but the scores. What is not known is null."""
    return {name: _plain(value) for name, value in vars(evaluation).items() if name != "predictions"}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def figure_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows of figures.csv: `model, unit, figure, value, low, high`."""
    return [
        {"model": model.name, "unit": unit.unit, "figure": name, **asdict(figure)}
        for model in evaluation.models
        for unit in model.units
        for name, figure in unit.figures.items()
    ]


def subgroup_rows(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The rows of subgroups.csv: counts and AUC of each value of each column."""
    rows = []
    for model in evaluation.models:
        for group in model.subgroups:
            figures = {"value": None, "low": None, "high": None} if group.auc is None else asdict(group.auc)
            counts = {"images": group.images, "positive": group.positive, "patients": group.patients}
            names = {"model": model.name, "column": group.column, "group": group.value}
            rows.append(names | counts | {f"auc_{name}": value for name, value in figures.items()})
    return rows
