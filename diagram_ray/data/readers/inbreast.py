"""INbreast (Moreira et al., Acad Radiol 2012): INbreast.csv, AllDICOMs/ and AllXML/.

Image names are <file id>_<16 hex digits>_MG_<L|R>_<view>_ANON.dcm. The table's Patient ID column is blanked out, so
the hash in the name is the only key of a patient; it stays the same over exams of different dates. ML in a name is
the table's MLO. Classes: BI-RADS 1 and 2 negative, 4, 5 and 6 cancer (DiaGRAM paper, Sect. 3). BI-RADS 3 stays in the
index with no label, so that another target (density) can use it.
"""

import csv
import io
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import fsspec

from diagram_ray.data.readers.dicom_header import Geometry, read_geometry
from diagram_ray.data.readers.inbreast_xml import Annotation, check_scale, parse_annotation, regions
from diagram_ray.data.records import ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

NAME = "INbreast"
NEGATIVE, CANCER = "negative", "cancer"
LABELS = {"1": NEGATIVE, "2": NEGATIVE, "3": None, "4": CANCER, "4a": CANCER, "4b": CANCER, "4c": CANCER}
LABELS |= {"5": CANCER, "6": CANCER}
SPACING_MM = 0.07
"""Pixel size of all INbreast images (Siemens MammoNovation), used where a header gives none."""
NO_FINDING = "none"
MAX_TABLE_BYTES = 16 << 20

_IMAGE = re.compile(r"(\d{1,16})_([0-9a-f]{16})_MG_([LR])_([A-Z]{2,4})_ANON\.dcm", re.IGNORECASE)
_VIEWS = {"ML": "MLO"}


@dataclass(frozen=True)
class _Image:
    """What a DICOM file's name says."""

    path: str
    file_id: str
    patient: str
    laterality: str
    view: str


@dataclass(frozen=True)
class _Row:
    """One line of the table. Laterality and view are '' where the table has no such column."""

    number: int
    file_id: str
    laterality: str
    view: str
    date: str
    density: str | None
    birads: str


class _Tree:
    """The files of an INbreast folder on any fsspec file system."""

    def __init__(self, source: str) -> None:
        self.source = source
        try:
            self.fs, self.root = fsspec.core.url_to_fs(source)
            top = self.fs.ls(self.root, detail=True)
        except FileNotFoundError:
            raise DataError(f"{source}: no such folder") from None
        except (OSError, ValueError, ImportError) as error:
            raise DataError(f"{source}: cannot be listed: {error}") from None
        if not top:
            raise DataError(f"{source}: the folder is empty; expected INbreast.csv, AllDICOMs and AllXML")
        self.folders = {_base(entry["name"]).lower(): entry["name"] for entry in top if entry["type"] == "directory"}
        self.files = sorted(entry["name"] for entry in top if entry["type"] == "file")

    def files_of(self, folder: str, suffix: str) -> list[str]:
        """Files ending in `suffix` in the sub-folder `folder` (any case), or in the root where there is none."""
        inside = self.folders.get(folder.lower())
        files = sorted(self.fs.find(inside, maxdepth=1)) if inside else self.files
        return [path for path in files if path.lower().endswith(suffix) and not _base(path).startswith(".")]

    def read(self, path: str, limit: int) -> bytes:
        """The file's bytes, one more than `limit` at most. Raises DataError if it cannot be read."""
        try:
            with self.fs.open(path, "rb") as file:
                data: bytes = file.read(limit + 1)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        return data

    def geometry(self, path: str) -> Geometry:
        """Pixel spacing and size from the image's header, where it has them."""
        try:
            with self.fs.open(path, "rb") as file:
                return read_geometry(file)
        except OSError:
            return Geometry(None, None)

    def uri(self, path: str) -> str:
        """The path as `read_mammogram` takes it: plain for local files, a URI for others."""
        return path if "file" in self.fs.protocol else str(self.fs.unstrip_protocol(path))


def index(source: str) -> Index:
    """The images of an INbreast folder (local path or fsspec URI). Classes: negative, cancer.

    A row without an image, an image without a row and a contradiction between the two are rejects. An annotation that
    cannot be used is a reject as well, but its image stays, without regions and with `finding` None: its label comes
    from the table. An exam is a patient's images of one acquisition date, or all of them where the table has no dates.
    Raises DataError if the folder or the table is missing or not one image can be used.
    """
    tree = _Tree(source)
    rejects: list[Reject] = []
    table = _find_table(tree)
    rows = _unique_rows(_read_rows(tree, table, rejects), tree.uri(table), rejects)
    images = _unique_images(tree, rejects)
    annotations = {_base(path).rpartition(".")[0]: path for path in tree.files_of("AllXML", ".xml")}
    _reject_leftovers(tree, table, rows, images, annotations, rejects)
    records = [
        _record(tree, rows[file_id], images[file_id], annotations, rejects)
        for file_id in sorted(rows.keys() & images.keys())
        if not _contradicts(rows[file_id], images[file_id], rejects)
    ]
    if not records:
        raise DataError(f"{source}: none of the {len(rows)} images in {_base(table)} is there as a DICOM file")
    return Index(records, rejects, (NEGATIVE, CANCER), NAME)


def _find_table(tree: _Tree) -> str:
    names = {_base(path).lower(): path for path in tree.files}
    if "inbreast.csv" in names:
        return names["inbreast.csv"]
    if "inbreast.xls" in names or "inbreast.xlsx" in names:
        raise DataError(f"{tree.source}: INbreast.xls is not read; save its first sheet beside it as INbreast.csv")
    raise DataError(f"{tree.source}: no INbreast.csv in it; the folder must have the table, AllDICOMs and AllXML")


def _read_rows(tree: _Tree, table: str, rejects: list[Reject]) -> list[_Row]:
    data = tree.read(table, MAX_TABLE_BYTES)
    if len(data) > MAX_TABLE_BYTES:
        raise DataError(f"{table}: longer than {MAX_TABLE_BYTES} bytes")
    lines = io.StringIO(_decode(data), newline="")
    try:
        header, *body = csv.reader(lines, delimiter=_delimiter(lines.getvalue()))
    except (csv.Error, ValueError) as error:
        raise DataError(f"{table}: not a table with a header: {error}") from None
    columns = {" ".join(name.lower().split()): place for place, name in enumerate(header)}
    for name in ("file name", "bi-rads"):
        if name not in columns:
            raise DataError(f"{table}: no column {name!r}; its columns are {', '.join(header)[:200]}")
    return [row for number, cells in enumerate(body, start=2) if (row := _row(number, cells, columns, table, rejects))]


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _delimiter(text: str) -> str:
    """Semicolons in the original; commas where a spreadsheet wrote it anew."""
    header = text.partition("\n")[0]
    return ";" if header.count(";") >= header.count(",") else ","


def _row(number: int, cells: list[str], columns: dict[str, int], table: str, rejects: list[Reject]) -> _Row | None:
    def cell(name: str) -> str:
        place = columns.get(name, len(cells))
        return cells[place].strip() if place < len(cells) else ""

    file_id = re.match(r"\d*", cell("file name"), re.ASCII)
    if not file_id or not file_id[0]:
        if cell("file name") or cell("laterality"):  # spreadsheets end in an empty row and a row of sums
            rejects.append(Reject(table, f"row {number}: File Name {cell('file name')!r} does not begin with a number"))
        return None
    birads, density = _whole(cell("bi-rads").lower()), _whole(cell("acr"))
    problem = _row_problem(birads, density, cell("laterality").upper())
    if problem:
        rejects.append(Reject(table, f"row {number} ({file_id[0]}): {problem}"))
        return None
    sides = cell("laterality").upper(), cell("view").upper()
    return _Row(number, file_id[0], *sides, cell("acquisition date"), density or None, birads)


def _whole(text: str) -> str:
    """A spreadsheet's '2.0' as '2'."""
    return text.removesuffix(".0")


def _row_problem(birads: str, density: str, laterality: str) -> str | None:
    if birads not in LABELS:
        return f"Bi-Rads {birads[:20]!r} is not one of {', '.join(LABELS)}"
    if density not in ("", "1", "2", "3", "4"):
        return f"ACR {density[:20]!r} is not one of 1, 2, 3, 4 or blank"
    if laterality not in ("", "L", "R"):
        return f"Laterality {laterality[:20]!r} is neither L nor R"
    return None


def _unique_rows(rows: list[_Row], table: str, rejects: list[Reject]) -> dict[str, _Row]:
    """File id -> row. Of an image with several rows none is used: they may give it different labels."""
    by_id: dict[str, list[_Row]] = defaultdict(list)
    for row in rows:
        by_id[row.file_id].append(row)
    for file_id, same in by_id.items():
        if len(same) > 1:
            numbers = ", ".join(str(row.number) for row in same)
            rejects.append(Reject(table, f"rows {numbers} are all about image {file_id}: none is used"))
    return {file_id: same[0] for file_id, same in by_id.items() if len(same) == 1}


def _unique_images(tree: _Tree, rejects: list[Reject]) -> dict[str, _Image]:
    """File id -> image. Of images with one id none is used: they may belong to different patients."""
    by_id: dict[str, list[_Image]] = defaultdict(list)
    for path in tree.files_of("AllDICOMs", ".dcm"):
        match = _IMAGE.fullmatch(_base(path))
        if match is None:
            expected = "<file id>_<16 hex digits>_MG_<L|R>_<view>_ANON.dcm"
            rejects.append(Reject(tree.uri(path), f"the file name is not of the form {expected}"))
            continue
        file_id, patient, laterality, view = match.groups()
        view = _VIEWS.get(view.upper(), view.upper())
        by_id[file_id].append(_Image(tree.uri(path), file_id, patient.lower(), laterality.upper(), view))
    for file_id, same in by_id.items():
        if len(same) > 1:
            rejects += [Reject(image.path, f"{len(same)} files have the id {file_id}: none is used") for image in same]
    return {file_id: same[0] for file_id, same in by_id.items() if len(same) == 1}


def _reject_leftovers(
    tree: _Tree,
    table: str,
    rows: dict[str, _Row],
    images: dict[str, _Image],
    annotations: dict[str, str],
    rejects: list[Reject],
) -> None:
    for file_id in sorted(rows.keys() - images.keys()):
        rejects.append(Reject(tree.uri(table), f"row {rows[file_id].number}: no DICOM file of image {file_id}"))
    for file_id in sorted(images.keys() - rows.keys()):
        rejects.append(Reject(images[file_id].path, f"no usable row of image {file_id} in {_base(table)}"))
    for name in sorted(annotations.keys() - rows.keys() - images.keys()):
        rejects.append(Reject(tree.uri(annotations[name]), "an annotation of an image that is not there"))


def _contradicts(row: _Row, image: _Image, rejects: list[Reject]) -> bool:
    """The side decides how an image is mirrored; where table and name differ, the row may be of another image."""
    if row.laterality in ("", image.laterality):
        return False
    reason = f"the file name says {image.laterality}, row {row.number} of the table says {row.laterality}"
    rejects.append(Reject(image.path, reason))
    return True


def _record(tree: _Tree, row: _Row, image: _Image, annotations: dict[str, str], rejects: list[Reject]) -> ImageRecord:
    label = LABELS[row.birads]
    found = _annotated(tree, image, annotations, label, rejects)
    columns: dict[str, str | float | None] = {
        "birads": row.birads,
        "density": row.density,
        "finding": None if found is None else " + ".join(sorted({one.finding for one in found})) or NO_FINDING,
    }
    return ImageRecord(
        path=image.path,
        image_id=image.file_id,
        patient_id=image.patient,
        exam_id=f"{image.patient}:{row.date}",
        laterality=image.laterality,
        view=row.view or image.view,
        label=label,
        columns=columns,
        regions=found or (),
    )


def _annotated(
    tree: _Tree, image: _Image, annotations: dict[str, str], label: str | None, rejects: list[Reject]
) -> tuple[Region, ...] | None:
    """The regions of an image; () if nothing was outlined; None if it is not known what was."""
    if not annotations:
        return None
    path = annotations.get(image.file_id)
    if path is None:
        return ()
    geometry = tree.geometry(image.path)
    spacing = geometry.spacing_mm or SPACING_MM
    try:
        annotation: Annotation = parse_annotation(tree.read(path, MAX_TABLE_BYTES))
        check_scale(annotation.outlines, spacing)
        found = regions(annotation.outlines, label, spacing, geometry.shape)
    except DataError as error:
        rejects.append(Reject(tree.uri(path), f"the annotation is not used: {error}"))
        return None
    rejects += [Reject(tree.uri(path), problem) for problem in annotation.problems]
    return found


def _base(path: Any) -> str:
    return str(path).replace("\\", "/").rstrip("/").rpartition("/")[2]
