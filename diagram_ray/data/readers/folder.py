"""Your own images: a folder for each class, or a table that says what each file is.

Class folders: SOURCE/<class>/<any depth>/<image>. The patient is what stands before the first '_' or '-' in the file's
name; `patient_pattern` (a regular expression whose first group is the patient) says otherwise.

A table (CSV or Parquet; columns by name, in any case): `path` (inside SOURCE), `patient`, `label`, and if known
`laterality`, `view`, `exam`, `density`, `birads`, `finding`, `spacing_mm`, and a lesion's box `top`, `left`, `bottom`,
`right` in pixels. Several rows with one path are several lesions of one image. Further columns go into the manifest.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from diagram_ray.data.records import ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm")
PATIENT = r"^([^_-]+)"
POSITIVE = ("malignant", "cancer", "positive", "abnormal", "1", "true", "yes")
BOX = ("top", "left", "bottom", "right")
KNOWN = ("path", "patient", "label", "laterality", "view", "exam", "spacing_mm", *BOX)


def index(source: str, table: str | None = None, positive: str | None = None, patient_pattern: str = PATIENT) -> Index:
    """The images in `source`. `positive` names the positive class; by default it is told by its name.

    Raises DataError if there is no folder, no image, no pattern match, or not two classes.
    """
    root = Path(source)
    if not root.is_dir():
        raise DataError(f"{source}: no such folder")
    rows, rejects = _rows_of_table(root, Path(table)) if table else _rows_of_folders(root, patient_pattern)
    if not rows:
        raise DataError(f"{source}: no image found; read are {', '.join(SUFFIXES)}")
    labels = sorted({str(row["label"]) for row in rows if row["label"] is not None})
    classes = _order(labels, positive, table or source)
    return Index([_record(root, group, classes) for group in _by_path(rows)], rejects, classes, root.resolve().name)


def _rows_of_folders(root: Path, pattern: str) -> tuple[list[dict[str, Any]], list[Reject]]:
    try:
        patient_of = re.compile(pattern)
    except re.error as error:
        raise DataError(f"--patient-pattern {pattern!r}: not a regular expression: {error}") from None
    if patient_of.groups < 1:
        raise DataError(f"--patient-pattern {pattern!r}: needs a group (...) that is the patient")
    rows, rejects = [], []
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        inside = path.relative_to(root)
        match = patient_of.search(path.name)
        if path.suffix.lower() not in SUFFIXES:
            rejects.append(Reject(str(path), f"not an image that is read ({', '.join(SUFFIXES)})"))
        elif len(inside.parts) < 2:
            rejects.append(Reject(str(path), "is not in a class folder"))
        elif match is None:
            rejects.append(Reject(str(path), f"the name has no patient in it by the pattern {pattern!r}"))
        else:
            rows.append({"path": str(inside), "patient": match.group(1), "label": inside.parts[0]})
    return rows, rejects


def _rows_of_table(root: Path, table: Path) -> tuple[list[dict[str, Any]], list[Reject]]:
    frame = _read_table(table)
    rows, rejects = [], []
    for number, values in enumerate(frame.to_dict("records"), start=2):
        row = {str(key): None if pd.isna(value) else value for key, value in values.items()}
        where = f"{table}: row {number}"
        path = root / str(row["path"] or "")
        if row["path"] is None or row["patient"] is None:
            rejects.append(Reject(where, "has no path or no patient"))
        elif not path.resolve().is_relative_to(root.resolve()):
            rejects.append(Reject(where, f"path {row['path']!r} leaves {root}"))
        elif not path.is_file():
            rejects.append(Reject(where, f"path {row['path']!r}: no such file in {root}"))
        else:
            rows.append(row)
    return rows, rejects


def _read_table(table: Path) -> pd.DataFrame:
    if not table.is_file():
        raise DataError(f"{table}: no such file")
    try:
        frame = pd.read_parquet(table) if table.suffix == ".parquet" else pd.read_csv(table, dtype={"patient": str})
    except (ValueError, OSError) as error:
        raise DataError(f"{table}: not a CSV or Parquet table: {' '.join(str(error).split())}") from None
    frame.columns = [str(name).strip().lower() for name in frame.columns]
    for name in ("path", "patient", "label"):
        if name not in frame.columns:
            raise DataError(f"{table}: has no column {name!r}; found: {', '.join(frame.columns)}")
    return frame


def _order(labels: list[str], positive: str | None, where: str) -> tuple[str, ...]:
    """The classes, the positive one last."""
    if positive is None:
        positive = next((name for word in POSITIVE for name in labels if name.lower() == word), labels[-1])
    if positive not in labels:
        raise DataError(f"{where}: --positive {positive!r} is no class; found: {', '.join(labels)}")
    return (*(name for name in labels if name != positive), positive)


def _by_path(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(str(row["path"]), []).append(row)
    return list(groups.values())


def _record(root: Path, rows: list[dict[str, Any]], classes: Sequence[str]) -> ImageRecord:
    """One image from its rows. Its label is the worst (last) class among them."""
    first = rows[0]
    labels = [str(row["label"]) for row in rows if row["label"] is not None]
    patient = str(first["patient"])
    return ImageRecord(
        path=str(root / str(first["path"])),
        image_id=str(first["path"]),
        patient_id=patient,
        exam_id=f"{patient}/{first.get('exam') or ''}",
        laterality=_letter(first.get("laterality")),
        view=str(first["view"]).upper() if first.get("view") else None,
        label=max(labels, key=list(classes).index) if labels else None,
        columns={key: _plain(value) for key, value in first.items() if key not in KNOWN},
        regions=tuple(
            Region(
                (float(row["top"]), float(row["left"]), float(row["bottom"]), float(row["right"])),
                str(row.get("finding") or "lesion"),
                str(row["label"]) if row["label"] is not None else None,
            )
            for row in rows
            if all(row.get(edge) is not None for edge in BOX)
        ),
        spacing_mm=float(first["spacing_mm"]) if first.get("spacing_mm") else None,
    )


def _letter(value: object) -> str | None:
    """'L' or 'R' from L, left, R, right, in any case."""
    letter = str(value or "").strip().upper()[:1]
    return letter if letter in ("L", "R") else None


def _plain(value: object) -> str | float | None:
    return value if value is None or isinstance(value, str | float) else str(value)
