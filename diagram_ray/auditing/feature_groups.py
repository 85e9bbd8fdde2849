"""The trivial features of an image: what can be known of its file without looking at the breast, and a little more.

A group of features is asked as a whole how well it tells the classes apart.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diagram_ray.auditing.description import BRIGHTNESS, HISTOGRAM

CLASS_WORDS = ("normal", "benign", "malignant", "cancer", "negative", "positive", "abnormal")
"""Folders whose names begin so arrange an archive by class, as DDSM's do."""
DEEPEST = 4
"""Folders of a path that are looked at."""
MOST_VALUES = 40
"""The most values that are kept of a feature with names for values; rarer ones count as one."""
FEWEST_PATIENTS = 2
"""A value that one patient alone has cannot be learned on other patients."""

Floats = NDArray[np.float64]


class Kind(StrEnum):
    """What a group of features looks at."""

    FILE = "file"
    """How the image was taken, scanned and stored: nothing of the breast."""
    BREAST = "breast"
    """The breast, but only its size and the shares of its grey levels."""


@dataclass(frozen=True)
class Group:
    """Features that belong together."""

    name: str
    kind: Kind
    columns: tuple[str, ...]
    note: str
    """What the group is, and what of it a network may see after preparation."""


GREYS = ("grey_mean", "grey_sd", "grey_p05", "grey_p25", "grey_p50", "grey_p75", "grey_p95")
GROUPS = (
    Group(
        "image size", Kind.FILE, ("rows", "columns", "aspect"),
        "Pixels of the original file. Resizing leaves traces of it: sharpness and noise.",
    ),
    Group("pixel spacing", Kind.FILE, ("spacing_mm",), "As the file or the table tells it."),
    Group(
        "scanner", Kind.FILE, ("scanner",), "As the table tells it. Each has a noise and a contrast of its own."
    ),
    Group("polarity", Kind.FILE, ("inverted",), "Whether the file was dark on white. Preparation undoes it."),
    Group(
        "side", Kind.FILE, ("laterality", "mirrored"),
        "Left or right, as told and as seen. Preparation turns all breasts one way.",
    ),
    Group("view", Kind.FILE, ("view",), "A network sees it in the shape of the breast."),
    Group("film border", Kind.FILE, ("border_part",), "The part of the image that is white border. It is blanked."),
    Group(
        "film labels", Kind.FILE, ("label_part", "burned_in"),
        "Letters and stickers outside the breast. Preparation blanks them.",
    ),
    Group(
        "source folder", Kind.FILE, ("source_folder",),
        "Where the file lay. Folders are often a hospital, a year or a scanner.",
    ),
    Group(
        "breast size", Kind.BREAST, ("breast_part", "picture_part"),
        "The part of the image, and of the prepared picture, that is breast.",
    ),
    Group("grey levels", Kind.BREAST, GREYS, "Of the breast, in the file. Preparation evens them out."),
    Group(
        "brightness", Kind.BREAST, tuple(BRIGHTNESS),
        "Mean, spread and percentiles of the breast's grey levels in the prepared picture.",
    ),
    Group(
        "histogram", Kind.BREAST, tuple(HISTOGRAM),
        "Of the breast's grey levels in the prepared picture, as a network gets it.",
    ),
)  # fmt: skip


def _together(name: str, note: str, *kinds: Kind) -> Group:
    """All features of these kinds; of the last one's kind."""
    columns = tuple(column for group in GROUPS if group.kind in kinds for column in group.columns)
    return Group(name, kinds[-1], columns, note)


ALL_FILE = _together("all facts of the file", "Everything that can be known without looking at the breast.", Kind.FILE)
ALL_BREAST = _together("grey levels and size together", "All that is known of the breast but its shapes.", Kind.BREAST)
EVERYTHING = _together(
    "everything together", "The file, and the breast's grey levels and size.", Kind.FILE, Kind.BREAST
)
NAMES = ("scanner", "laterality", "view", "source_folder")
"""Columns whose values are names; all others are numbers."""


def with_derived(images: pd.DataFrame) -> pd.DataFrame:
    """The table with the column `aspect`, where it has rows and columns."""
    if not {"rows", "columns"} <= set(images.columns):
        return images
    return images.assign(aspect=images["columns"].astype(float) / images["rows"].astype(float))


def encoded(images: pd.DataFrame, group: Group, classes: tuple[str, ...]) -> Floats:
    """The features of a group as numbers (N, K), without those that are the same for all images; K may be 0."""
    columns: list[Floats] = []
    for name in group.columns:
        if name in images:
            values = images[name]
            if name == "source_folder":
                columns += _folders(values, images["patient_id"], classes)
            elif name in NAMES:
                columns += _names(values, images["patient_id"])
            else:
                columns += _numbers(values)
    varied = [column for column in columns if np.ptp(column) > 0]
    return np.stack(varied, axis=1) if varied else np.zeros((len(images), 0))


def _numbers(values: "pd.Series[Any]") -> list[Floats]:
    """The numbers, the median where there is none, and whether there is one."""
    numbers = pd.to_numeric(values.map(lambda value: np.nan if value is None else value), errors="coerce")
    known = np.asarray(numbers.astype(float))
    missing = np.isnan(known)
    if missing.all():
        return []
    return [np.where(missing, np.nanmedian(known), known), missing.astype(float)]


def _names(values: "pd.Series[Any]", patients: "pd.Series[Any]") -> list[Floats]:
    """One column for each value that several patients have; a missing value is one too."""
    texts = values.map(lambda value: "" if pd.isna(value) else str(value))
    owners = patients.groupby(texts).nunique().sort_values(ascending=False, kind="stable")
    kept = owners.index[owners >= FEWEST_PATIENTS][:MOST_VALUES]
    return [np.asarray((texts == value).astype(float)) for value in kept]


def _folders(values: "pd.Series[Any]", patients: "pd.Series[Any]", classes: tuple[str, ...]) -> list[Floats]:
    """One column for each folder, at any depth, in which several patients' files lie."""
    paths = values.map(lambda value: plain_folder("" if pd.isna(value) else str(value), classes).split("/"))
    columns: list[Floats] = []
    for depth in range(1, DEEPEST + 1):
        columns += _names(paths.map(lambda path, depth=depth: "/".join(path[:depth])), patients)
    return columns


def plain_folder(folder: str, classes: tuple[str, ...]) -> str:
    """The folder without the parts that are named for a class: these arrange the archive and are in no pixel."""
    words = (*CLASS_WORDS, *(name.lower() for name in classes if len(name) > 2))
    exact = {name.lower() for name in classes}
    parts = [
        "" if part.lower() in exact or re.sub(r"[^a-z]", "", part.lower()).startswith(words) else part
        for part in folder.split("/")
    ]
    return "/".join(parts)
