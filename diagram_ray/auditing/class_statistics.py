"""Counts and statistics by class, as the page and audit.json show them."""

from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.auditing.description import HISTOGRAM
from diagram_ray.auditing.feature_groups import GROUPS, NAMES
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import auc

COUNTED = ("class", "view", "laterality", "density", "birads", "scanner", "split", "source")
"""What is counted by class: the class itself, columns of the manifest, and `source`, the outermost folder."""
MOST_VALUES = 20
"""Values of a column that are listed."""
UNKNOWN = "(none)"
NUMBERS = tuple(
    name for group in GROUPS for name in group.columns if name not in (*NAMES, *HISTOGRAM, "inverted", "mirrored")
)
"""Columns whose spread is shown by class."""


def countable(manifest: pd.DataFrame) -> pd.DataFrame:
    """The columns image_id, patient_id, label and the columns of COUNTED, as text, (none) where there is nothing."""
    columns = {name: manifest[name] for name in COUNTED if name in manifest} | {"class": manifest["label"]}
    if "source_folder" in manifest:
        columns["source"] = manifest["source_folder"].fillna("").map(lambda folder: str(folder).split("/")[0])
    ids = {name: manifest[name].astype(str) for name in ("image_id", "patient_id")}
    return pd.DataFrame({"label": manifest["label"], **columns}).map(_text).assign(**ids)


def _text(value: Any) -> str:
    if value is None or value == "" or value != value:  # NaN
        return UNKNOWN
    return f"{value:g}" if isinstance(value, float) else str(value)


def count_rows(images: "pd.Series[int]", patients: "pd.Series[int]", field: str) -> list[dict[str, Any]]:
    """The counts of images and patients by (value, label), of the MOST_VALUES commonest values, in their order."""
    whole = images.groupby(level=field).sum().sort_values(ascending=False, kind="stable")
    return [
        {
            "value": str(value),
            "images": {str(label): int(count) for label, count in images.xs(value, level=field).sort_index().items()},
            "patients": {
                str(label): int(count) for label, count in patients.xs(value, level=field).sort_index().items()
            },
        }
        for value in sorted(whole.index[:MOST_VALUES])
    ]


def statistics(images: pd.DataFrame, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """The quartiles of each number in each class, and how well it alone orders the classes (AUC, no model)."""
    known = images[images["label"].isin(classes)]
    rows = []
    for name in NUMBERS:
        values = _numbers(known, name)
        if values is not None and values.nunique() > 1:
            by_class = {label: _quartiles(values[known["label"] == label]) for label in classes}
            rows.append({"column": name, "classes": by_class, "auc": _auc(values, known["label"] == classes[-1])})
    return rows


def histograms(images: pd.DataFrame, classes: tuple[str, ...]) -> dict[str, list[float]]:
    """The mean histogram of the breast's grey levels in each class."""
    means = {label: images.loc[images["label"] == label, HISTOGRAM].mean() for label in classes}
    return {label: [round(float(part), 5) for part in mean] for label, mean in means.items() if mean.notna().all()}


def _numbers(images: pd.DataFrame, name: str) -> "pd.Series[float] | None":
    if name not in images:
        return None
    return pd.to_numeric(images[name].map(lambda value: np.nan if value is None else value), errors="coerce")


def _quartiles(values: "pd.Series[float]") -> list[float] | None:
    known = values.dropna()
    return [float(f"{edge:.5g}") for edge in known.quantile([0.25, 0.5, 0.75])] if len(known) else None


def _auc(values: "pd.Series[float]", positive: "pd.Series[bool]") -> float | None:
    known = values.notna()
    try:
        return round(auc(positive[known].to_numpy().astype(int), values[known].to_numpy()), 4)
    except DataError:
        return None
