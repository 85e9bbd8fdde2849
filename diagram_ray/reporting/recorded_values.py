"""Values from a study's files, checked or brought into Python's own types."""

from typing import Any

import pandas as pd

from diagram_ray.errors import DataError
from diagram_ray.storage.paths import Place

TRIAL_COLUMNS = [
    *("number", "state", "reason", "auc_mean", "auc_sd", "accuracy_mean", "fold_auc", "fold_accuracy"),
    *("folds", "epochs", "fold_epochs", "worker_seconds"),
]
CURVE_COLUMNS = ["trial", "fold", "epoch", "auc"]
PREDICTION_COLUMNS = ["trial", "repeat", "fold", "image_id", "patient_id", "label", "score"]
BASELINE_COLUMNS = ["group", "fold", "image_id", "patient_id", "label", "score"]


def checked(table: pd.DataFrame, columns: list[str], path: Place) -> pd.DataFrame:
    """The table of the file `path` as it is. Raises DataError if one of these columns is missing."""
    missing = [name for name in columns if name not in table]
    if missing:
        raise DataError(f"{path}: column {missing[0]!r} is missing")
    return table


def mapping(value: Any) -> dict[Any, Any]:
    """The value itself if it is a mapping, else an empty one: what a study file lacks is left out of the page."""
    return value if isinstance(value, dict) else {}


def plain(value: Any) -> Any:
    """A table's value as Python's own; None where it is missing."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return value.item() if hasattr(value, "item") else value
