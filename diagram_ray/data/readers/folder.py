"""Your own images: a folder for each class, or a table that says what each file is.

Class folders: SOURCE/<class>/<any depth>/<image>. The patient is what stands before the first '_' or '-' in the file's
name; `patient_pattern` (a regular expression whose first group is the patient) says otherwise.

A table (CSV or Parquet; columns by name, in any case): `path` (inside SOURCE), `patient`, `label`, and if known
`laterality`, `view`, `exam`, `spacing_mm`, and a lesion's box `top`, `left`, `bottom`, `right` in pixels. Several rows
with one path are several lesions of one image. Further columns (`density`, ...) go into the manifest, as text.
"""

import math
import posixpath
import re
from typing import Any

import fsspec
import pandas as pd

from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm")
PATIENT = r"^([^_-]+)"
POSITIVE = ("malignant", "cancer", "positive", "abnormal", "1", "true", "yes")
NEEDED = ("path", "patient", "label")
OF_IMAGE = ("patient", "laterality", "view", "exam", "spacing_mm")
BOX = ("top", "left", "bottom", "right")

Row = dict[str, str | None]


def index(source: str, table: str | None = None, positive: str | None = None, patient_pattern: str = PATIENT) -> Index:
    """The images in `source`. `positive` names the positive class; by default it is told by its name.

    An image's label is the positive class if one of its rows says so. A row or file that cannot be used is a reject.
    Raises DataError if there is no folder or table, the pattern is none, no image is found, or all are of one class.
    """
    folder = Source(source)
    files = folder.files()
    if table:
        rows, rejects = _rows_of_table(_read_table(table), table, set(files))
    else:
        rows, rejects = _rows_of_folders(folder, files, patient_pattern)
    if not rows:
        first = (
            f"; the first of {len(rejects)} files or rows: {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        )
        raise DataError(f"{source}: no image found; read are {', '.join(SUFFIXES)}{first}")
    classes = _order(sorted({row["label"] for row in rows if row["label"]}), positive, table or source)
    images = [_record(folder, group, classes) for group in _by_path(rows)]
    records = [image for image in images if isinstance(image, ImageRecord)]
    rejects += [image for image in images if isinstance(image, Reject)]
    return Index(records, rejects, classes, folder.name)


def _rows_of_folders(folder: Source, files: list[str], pattern: str) -> tuple[list[Row], list[Reject]]:
    try:
        patient_of = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--patient-pattern {pattern!r}: not a regular expression: {error}") from None
    if patient_of.groups < 1:
        raise DataError(f"--patient-pattern {pattern!r}: needs a group (...) that is the patient")
    rows: list[Row] = []
    rejects = []
    for path in files:
        parts = path.split("/")
        match = patient_of.search(parts[-1])
        if not path.lower().endswith(SUFFIXES):
            rejects.append(Reject(folder.full(path), f"not an image that is read ({', '.join(SUFFIXES)})"))
        elif len(parts) < 2:
            rejects.append(Reject(folder.full(path), "is not in a class folder"))
        elif match is None or not match.group(1):
            rejects.append(Reject(folder.full(path), f"the name has no patient in it by the pattern {pattern!r}"))
        else:
            rows.append({"path": path, "patient": match.group(1), "label": parts[0]})
    return rows, rejects


def _rows_of_table(frame: pd.DataFrame, table: str, files: set[str]) -> tuple[list[Row], list[Reject]]:
    rows: list[Row] = []
    rejects = []
    for number, values in enumerate(frame.to_dict("records"), start=2):
        row = {str(name): _text(value) for name, value in values.items()}
        if reason := _flaw(row, files):
            rejects.append(Reject(f"{table}: row {number}", reason))
        else:
            rows.append(row | {"path": _inside(row["path"])})
    return rows, rejects


def _flaw(row: Row, files: set[str]) -> str:
    """Why a row of the table cannot be used; '' if it can."""
    if row["path"] is None or row["patient"] is None:
        return "has no path or no patient"
    path = _inside(row["path"])
    if path is None:
        return f"path {row['path']!r} leaves the source folder; allowed are paths inside it, such as a/b.png"
    if path not in files:
        return f"path {row['path']!r}: no such file in the source folder"
    edges = [row.get(edge) for edge in BOX]
    if any(edge is not None for edge in edges) and _box(row) is None:
        return f"the box {edges} is not top < bottom and left < right, in pixels from the top left corner"
    spacing = row.get("spacing_mm")
    if spacing is not None and not 0.001 < _number(spacing) < 10:
        return f"spacing_mm {spacing!r}: expected millimetres, such as 0.07"
    return ""


def _inside(path: str | None) -> str | None:
    """The path in its plain form (no '.', '..' or doubled '/'); None if it is absolute or leaves the folder."""
    plain = posixpath.normpath(path or "..")
    return None if plain.startswith("/") or plain.split("/")[0] == ".." else plain


def _read_table(table: str) -> pd.DataFrame:
    """The table with column names in lower case. CSV cells stay text: patient 007 is not patient 7."""
    try:
        with fsspec.open(table, "rb") as file:
            if table.lower().endswith(".parquet"):
                frame = pd.read_parquet(file)
            else:
                frame = pd.read_csv(file, dtype=str, keep_default_na=False, na_values=[""], encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{table}: no such file") from None
    except Exception as error:  # parsers and object stores raise kinds of their own
        raise DataError(f"{table}: not a CSV or Parquet table: {' '.join(str(error).split())}") from None
    names = [str(name).strip().lower() for name in frame.columns]
    if doubled := next((name for name in names if names.count(name) > 1), None):
        raise DataError(f"{table}: column {doubled!r} stands {names.count(doubled)} times")
    for name in NEEDED:
        if name not in names:
            raise DataError(f"{table}: has no column {name!r}; found: {', '.join(names)}")
    return frame.set_axis(names, axis=1)


def _order(labels: list[str], positive: str | None, where: str) -> tuple[str, ...]:
    """The classes, the positive one last."""
    if positive is not None and positive not in labels:
        raise DataError(f"{where}: --positive {positive!r} is no class; found: {', '.join(labels)}")
    if len(labels) < 2:
        raise DataError(f"{where}: two classes or more are needed; found: {', '.join(labels) or 'no label'}")
    if positive is None:
        positive = next((name for word in POSITIVE for name in labels if name.lower() == word), labels[-1])
    return (*(name for name in labels if name != positive), positive)


def _by_path(rows: list[Row]) -> list[list[Row]]:
    groups: dict[str | None, list[Row]] = {}
    for row in rows:
        groups.setdefault(row["path"], []).append(row)
    return list(groups.values())


def _record(folder: Source, rows: list[Row], classes: tuple[str, ...]) -> ImageRecord | Reject:
    """One image from its rows."""
    first = rows[0]
    path, patient = str(first["path"]), str(first["patient"])
    for name in OF_IMAGE:
        if len(told := {row.get(name) for row in rows}) > 1:
            return Reject(folder.full(path), f"its rows disagree: {name} is {' and '.join(sorted(map(str, told)))}")
    labels = [row["label"] for row in rows if row["label"] is not None]
    return ImageRecord(
        path=folder.full(path),
        image_id=path,
        patient_id=patient,
        exam_id=f"{patient}/{first.get('exam') or ''}",
        laterality=_side(first.get("laterality")),
        view=str(first["view"]).upper() if first.get("view") else None,
        label=max(labels, key=classes.index) if labels else None,
        columns={name: value for name, value in first.items() if name not in (*NEEDED, *OF_IMAGE, *BOX)},
        regions=tuple(
            Region(box, (row.get("finding") or "lesion").lower(), row["label"]) for row in rows if (box := _box(row))
        ),
        spacing_mm=_number(first["spacing_mm"]) if first.get("spacing_mm") else None,
    )


def _box(row: Row) -> tuple[float, float, float, float] | None:
    """The lesion's box; None where it is missing or impossible."""
    top, left, bottom, right = (_number(row.get(edge)) for edge in BOX)
    return (top, left, bottom, right) if 0 <= top < bottom < math.inf and 0 <= left < right < math.inf else None


def _number(text: str | None) -> float:
    """NaN for what is none."""
    try:
        return float(text) if text is not None else math.nan
    except ValueError:
        return math.nan


def _side(value: str | None) -> str | None:
    """'L' or 'R' from L, left, R, right, in any case."""
    letter = (value or "").upper()[:1]
    return letter if letter in ("L", "R") else None


def _text(value: Any) -> str | None:
    """A cell as text: 2 for 2.0, None for an empty one."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if pd.isna(value) else str(value).strip() or None
