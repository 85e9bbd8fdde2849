"""Your own images: a folder for each class, or a table that says what each file is.

Class folders: SOURCE/<class>/<any depth>/<image>. The patient is what stands before the first '_' or '-' in the file's
name; `patient_pattern` (a regular expression whose first group is the patient) says otherwise.

A table (CSV or Parquet; columns by name, in any case): `path` (inside SOURCE), `patient`, `label`, and if known
`laterality`, `view`, `exam`, `spacing_mm`, and a lesion's box `top`, `left`, `bottom`, `right` in pixels. Several rows
with one path are several lesions of one image. Of further columns those in `COLUMNS` go into the manifest, as text, and
those asked for; no others, because hospitals' tables hold names, dates and notes.
"""

import math
import posixpath
import re

from diagram_ray.data.decoding.dicom.header import is_dicom
from diagram_ray.data.decoding.raster_image import is_picture
from diagram_ray.data.readers.folder_table import Row, read_rows
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import OWN_COLUMNS, ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".pgm")
"""The suffixes of images, which may have .gz behind them. A file without a suffix is an image if it begins like one."""
PATIENT = r"^([^_-]+)"
POSITIVE = ("malignant", "cancer", "positive", "abnormal", "1", "true", "yes")
NEEDED = ("path", "patient", "label")
OF_IMAGE = ("patient", "laterality", "view", "exam", "spacing_mm")
BOX = ("top", "left", "bottom", "right")
COLUMNS = (
    *("density", "birads", "finding", "assessment", "subtlety", "pathology", "severity"),
    *("split", "scanner", "volume"),
)
"""Further columns that are taken from a table without being asked for."""
LABELS = 100
MOST_CLASSES = 8
"""Labels that a message lists: a table whose columns are mixed up may have a patient's name in each row."""
OUTSIDE = "leads outside the source folder; only files inside it are read"
NAMELESS = "has no path or no patient"
LONGEST = 64
"""Characters of a cell that goes into the dataset. What is longer is free text, and may be about anybody."""

_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,5}$")


def index(
    source: str,
    table: str | None = None,
    positive: str | None = None,
    patient_pattern: str = PATIENT,
    keep_columns: tuple[str, ...] = (),
) -> Index:
    """The images in `source`. `positive` names the positive class; by default it is recognised by its name.

    `keep_columns` are columns of the table that go into the manifest besides `COLUMNS`. An image's label is the
    positive class if one of its rows says so. A row or file that cannot be used is a reject. Raises DataError if there
    is no folder or table, a column asked for is missing or has a name of ours, the pattern is none, no image is found,
    or all are of one class.
    """
    folder = Source(source)
    files = folder.files()
    kept = tuple(name.strip().lower() for name in keep_columns)
    if table:
        rows, rejects = _rows_of_table(folder, table, set(files), _further(kept))
    else:
        rows, rejects = _rows_of_folders(folder, files, patient_pattern)
    if not rows:
        first = f"; the first of {len(rejects)} reasons: {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise DataError(f"{source}: no image found; read are {', '.join(SUFFIXES)}{first}")
    classes = _order(sorted({row["label"] for row in rows if row["label"]}), positive, table or source)
    images = [_record(folder, group, classes) for group in _by_path(rows)]
    records = [image for image in images if isinstance(image, ImageRecord)]
    rejects += [image for image in images if isinstance(image, Reject)]
    return Index(records, rejects, classes, folder.name)


def _further(kept: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns that the table must have, and others that it may have."""
    for name in kept:
        if name in (*OWN_COLUMNS, *NEEDED, *OF_IMAGE, *BOX):
            raise DataError(f"--keep-columns {name}: the dataset has a column of this name; rename the table's")
    may = (*OF_IMAGE, *BOX, *COLUMNS)
    return (*NEEDED, *kept), tuple(name for name in may if name not in (*NEEDED, *kept))


def _rows_of_folders(folder: Source, files: list[str], pattern: str) -> tuple[list[Row], list[Reject]]:
    try:
        patient_of = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise DataError(f"--patient-pattern {pattern!r}: not a regular expression: {error}") from None
    if patient_of.groups < 1:
        raise DataError(f"--patient-pattern {pattern!r}: needs a group (...) that is the patient")
    rows: list[Row] = []
    rejects = []
    for path in files:
        parts = path.split("/")
        match = patient_of.search(parts[-1])
        patient = match.group(1) if match else None
        if reason := _file_flaw(folder, path):
            rejects.append(Reject(folder.full(path), reason, patient))
        elif len(parts) < 2:
            rejects.append(Reject(folder.full(path), "is not in a class folder", patient))
        elif not patient:
            rejects.append(Reject(folder.full(path), f"the name has no patient in it by the pattern {pattern!r}"))
        else:
            rows.append({"path": path, "patient": patient, "label": parts[0]})
    return rows, rejects


def _file_flaw(folder: Source, path: str) -> str:
    """Why a file of the folder is not to be read; '' if it is."""
    if folder.leads_out(path):
        return f"is a link that {OUTSIDE}"
    name = path.lower().removesuffix(".gz")
    if name.endswith(SUFFIXES) or (not _SUFFIX.search(name) and _begins_like_an_image(folder, path)):
        return ""
    return f"not an image that is read ({', '.join(SUFFIXES)})"


def _begins_like_an_image(folder: Source, path: str) -> bool:
    try:
        with folder.open(path) as file:
            head = file.read(132)
    except OSError:
        return False
    return is_dicom(head, "") or is_picture(head)


def _rows_of_table(
    folder: Source, table: str, files: set[str], columns: tuple[tuple[str, ...], tuple[str, ...]]
) -> tuple[list[Row], list[Reject]]:
    rows: list[Row] = []
    rejects = []
    paths: dict[str | None, tuple[str | None, str]] = {}
    for number, row in read_rows(table, *columns):
        if row is None:
            rejects.append(Reject(f"{table}: row {number}", "has more cells than the header: its columns are shifted"))
            continue
        written = row["path"]
        if written not in paths:  # many rows may share one
            paths[written] = _plain_path(folder, written, files)
        path, flaw = paths[written]
        if reason := flaw or _flaw(row):
            rejects.append(Reject(f"{table}: row {number}", reason, row["patient"]))
        else:
            row["path"] = path
            rows.append(row)
    return rows, rejects


def _plain_path(folder: Source, written: str | None, files: set[str]) -> tuple[str | None, str]:
    """A table's path in plain form, and why it cannot be used; '' if it can."""
    if written is None:
        return None, NAMELESS
    path = _inside(written)
    if path is None:
        return None, "its path leaves the source folder; allowed are paths inside it, such as a/b.png"
    if path not in files:
        return path, "its path: no such file in the source folder"
    return path, f"its path is a link that {OUTSIDE}" if folder.leads_out(path) else ""


def _flaw(row: Row) -> str:
    """Why a row of the table whose path is good cannot be used; '' if it can."""
    if row["patient"] is None:
        return NAMELESS
    if any(row.get(edge) is not None for edge in BOX) and _box(row) is None:
        return "the box is not top < bottom and left < right, in pixels from the top left corner"
    spacing = row.get("spacing_mm")
    if spacing is not None and not 0.001 < _number(spacing) < 10:
        return "spacing_mm: expected millimetres, such as 0.07"
    for name, cell in row.items():
        if cell is not None and len(cell) > LONGEST and name not in ("path", "patient", "exam"):
            return f"{name} is longer than {LONGEST} characters: free text is not taken"
    return ""


def _inside(path: str) -> str | None:
    """The path in its plain form (no '.', '..' or doubled '/'); None if it is absolute or leaves the folder."""
    plain = posixpath.normpath(path)
    return None if plain.startswith("/") or plain.split("/")[0] == ".." else plain


def _order(labels: list[str], positive: str | None, where: str) -> tuple[str, ...]:
    """The classes, the positive one last."""
    if positive is not None and positive not in labels:
        raise DataError(f"{where}: --positive {positive!r} is no class; found: {_list(labels)}")
    if len(labels) > LABELS:
        raise DataError(
            f"{where}: {len(labels)} different labels; at most {LABELS} are classes: is the label column right?"
        )
    if len(labels) < 2:
        raise DataError(f"{where}: two classes or more are needed; found: {_list(labels) or 'no label'}")
    if positive is None:
        positive = next((name for word in POSITIVE for name in labels if name.lower() == word), labels[-1])
    return (*(name for name in labels if name != positive), positive)


def _list(labels: list[str]) -> str:
    return ", ".join(labels[:MOST_CLASSES]) + (f" and {len(labels) - MOST_CLASSES} more" * (len(labels) > MOST_CLASSES))


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
        if len({row.get(name) for row in rows}) > 1:
            return Reject(folder.full(path), f"its rows disagree about its {name}", patient)
    labels = [row["label"] for row in rows if row["label"] is not None]
    return ImageRecord(
        path=folder.full(path),
        image_id=path,
        patient_id=patient,
        exam_id=f"{patient}/{first.get('exam') or ''}",
        laterality=_side(first.get("laterality")),
        view=str(first["view"]).upper() if first.get("view") else None,
        label=max(labels, key=classes.index) if labels else None,
        columns={name: cell for name, cell in first.items() if name not in (*NEEDED, *OF_IMAGE, *BOX)},
        regions=tuple(
            Region(box, (row.get("finding") or "lesion").lower(), row["label"]) for row in rows if (box := _box(row))
        ),
        spacing_mm=_number(first["spacing_mm"]) if first.get("spacing_mm") else None,
    )


def _box(row: Row) -> tuple[float, float, float, float] | None:
    """The lesion's box; None where it is missing or impossible."""
    if row.get("top") is None:  # most rows have none
        return None
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
