"""CBIS-DDSM's description tables: {mass,calc}_case_description_{train,test}_set.csv, one row an abnormality.

Columns are found by name; `breast density` and `breast_density` are the same. Line breaks stand inside quoted fields:
every mask path of the mass tables ends with one, and so does every crop path of the calc tables. Paths have the form
folder/StudyInstanceUID/SeriesInstanceUID/file; the folder repeats what the row says, and both must agree.
"""

import csv
import io
import re
from dataclasses import dataclass

from diagram_ray.errors import DataError

MAX_BYTES = 4 << 20
MOST_COLUMNS = 100
PATHOLOGIES = ("BENIGN_WITHOUT_CALLBACK", "BENIGN", "MALIGNANT")
"""The pathologies, the worst last."""
CHOICES = {
    "left or right breast": ("LEFT", "RIGHT"),
    "image view": ("CC", "MLO"),
    "breast density": ("0", "1", "2", "3", "4"),
    "abnormality type": ("MASS", "CALCIFICATION"),
    "assessment": ("0", "1", "2", "3", "4", "5"),
    "pathology": PATHOLOGIES,
    "subtlety": ("0", "1", "2", "3", "4", "5"),
}
"""What the columns may hold, in any case. Density 0 means that none was given."""
PATHS = ("image file path", "cropped image file path", "roi mask file path")
COLUMNS = ("patient id", "abnormality id", *CHOICES, *PATHS)
FOLDER = re.compile(r"(Mass|Calc)-(Training|Test)_(P_\d{5})_(LEFT|RIGHT)_(CC|MLO)(?:_(\d{1,3}))?", re.ASCII)
"""A folder of an image, or with a number behind of one of its abnormalities."""

_PATH = re.compile(rf"({FOLDER.pattern})/\d[\d.]{{1,63}}/(\d[\d.]{{1,63}})/[\d-]{{1,16}}\.dcm", re.ASCII)
_PATH_FORM = "{Mass,Calc}-{Training,Test}_<patient>_<side>_<view>[_<abnormality>]/<StudyUID>/<SeriesUID>/<digits>.dcm"
_NAME = re.compile(r"(mass|calc)_case_description_(train|test)_set", re.IGNORECASE)

Cells = dict[str, str]


@dataclass(frozen=True, order=True)
class Film:
    """One mammogram. Its file may be stored twice: among the mass images and among the calc images."""

    patient: str
    """The patient's id, such as 'P_00001'."""
    side: str
    """The breast: 'LEFT' or 'RIGHT'."""
    view: str


@dataclass(frozen=True)
class Place:
    """Where a file should be. The file's own name is not kept: on disk it is another one."""

    folder: str
    series: str
    """The SeriesInstanceUID."""


@dataclass(frozen=True)
class Row:
    """One abnormality, which is one row of a table."""

    table: str
    number: int
    """The header is row 1, as in a spreadsheet: records are counted, not lines."""
    film: Film
    abnormality: int
    """Unique on the film, over mass and calc tables."""
    density: str | None
    finding: str
    """The kind of abnormality: 'mass' or 'calcification'."""
    assessment: str
    """BI-RADS 0 to 5; 0 is incomplete."""
    subtlety: str
    """The subtlety, 1 (hard to see) to 5 (obvious); 0 twice."""
    pathology: str
    """The pathology, one of PATHOLOGIES."""
    split: str
    """The official split: 'train' or 'test'."""
    image: Place
    crop: Place
    mask: Place


@dataclass(frozen=True)
class Flaw:
    """A row that cannot be used."""

    table: str
    number: int
    reason: str
    films: frozenset[Film]
    """The films that it may be about: their label is not known without it."""


@dataclass(frozen=True)
class Table:
    """What one file holds."""

    rows: list[Row]
    flaws: list[Flaw]


def is_named_as_table(path: str) -> bool:
    """Whether a file's name is that of a description table."""
    return path.lower().endswith(".csv") and _NAME.search(path.rpartition("/")[2]) is not None


def is_table(head: bytes) -> bool:
    """Whether a file that begins with `head` has a description table's columns, whatever its name."""
    try:
        return not _missing(_header(next(csv.reader(io.StringIO(_decode(head), newline="")), [])))
    except csv.Error:
        return False


def parse_table(data: bytes, path: str) -> Table:
    """The rows of a table. Raises DataError if it has not the COLUMNS, or is not a CSV file from end to end."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: longer than {MAX_BYTES} bytes; the longest of CBIS-DDSM has 924914")
    reader = csv.reader(io.StringIO(_decode(data), newline=""), strict=True)
    table, number = Table([], []), 1
    try:
        header = _header(next(reader, []))
        _check_header(header, path)
        for number, values in enumerate(reader, start=2):
            if any(values):
                _add(table, path, number, dict(zip(header, map(str.strip, values), strict=False)))
    except csv.Error as error:
        raise DataError(f"{path}: the row after row {number} is not CSV: {error}") from None
    return table


def _decode(data: bytes) -> str:
    return data.decode("utf-8-sig", errors="replace")


def _header(names: list[str]) -> list[str]:
    return [" ".join(name.lower().replace("_", " ").split()) for name in names[: MOST_COLUMNS + 1]]


def _missing(header: list[str]) -> list[str]:
    return [name for name in COLUMNS if name not in header]


def _check_header(header: list[str], path: str) -> None:
    if len(header) > MOST_COLUMNS:
        raise DataError(f"{path}: has more than {MOST_COLUMNS} columns; CBIS-DDSM's tables have 14")
    if missing := _missing(header):
        present = ", ".join(name for name in COLUMNS if name in header) or "none of those that are needed"
        raise DataError(f"{path}: no column {', '.join(map(repr, missing))}; it has {present}")
    if doubled := next((name for name in COLUMNS if header.count(name) > 1), None):
        raise DataError(f"{path}: column {doubled!r} stands {header.count(doubled)} times")


def _add(table: Table, path: str, number: int, cells: Cells) -> None:
    places = {name: _PATH.fullmatch(cells.get(name, "")) for name in PATHS}
    reason = _flaw_of_value(cells) or next(
        filter(None, (_flaw_of_path(cells, *place, path) for place in places.items())), ""
    )
    if reason:
        table.flaws.append(Flaw(path, number, reason, _films(cells, places)))
    else:
        table.rows.append(_row(path, number, cells, places))


def _flaw_of_value(cells: Cells) -> str:
    """Which of a row's values cannot be; '' if all can. The value itself is not repeated: it might tell a person."""
    for column, allowed in CHOICES.items():
        if cells.get(column, "").upper() not in allowed:
            return f"{column} is not one of {', '.join(allowed)}"
    if not re.fullmatch(r"P_\d{5}", cells.get("patient id", ""), re.ASCII):
        return "patient id is not P_ and five digits"
    if not re.fullmatch(r"[1-9]\d{0,2}", cells.get("abnormality id", ""), re.ASCII):
        return "abnormality id is not a number from 1 to 999"
    return ""


def _flaw_of_path(cells: Cells, column: str, match: re.Match[str] | None, table: str) -> str:
    """A path must be of CBIS-DDSM's form, and of the row's own patient, side, view, abnormality and table."""
    if match is None:
        return f"{column} is not of the form {_PATH_FORM}"
    of_row = {
        "abnormality type": cells["abnormality type"][:4].title(),
        "patient id": cells["patient id"],
        "left or right breast": cells["left or right breast"].upper(),
        "image view": cells["image view"].upper(),
        "abnormality id": None if column == PATHS[0] else cells["abnormality id"],
    }
    for (name, value), of_path in zip(of_row.items(), match.group(2, 4, 5, 6, 7), strict=True):
        if value != of_path:
            return f"{column} is of another {name} than its row"
    named = _NAME.search(table.rpartition("/")[2])
    if named and not match[1].lower().startswith((named[1] + "-" + named[2]).lower()):
        return f"{column} is not of {named[1]} {named[2]}, which the table's name says"
    return ""


def _films(cells: Cells, places: dict[str, re.Match[str] | None]) -> frozenset[Film]:
    """Every film that a flawed row could be about: the one of its values, and those of its paths."""
    triples = [(cells.get("patient id", ""), cells.get("left or right breast", ""), cells.get("image view", ""))]
    triples += [(match[4], match[5], match[6]) for match in places.values() if match]
    return frozenset(Film(patient, side.upper(), view.upper()) for patient, side, view in triples)


def _row(path: str, number: int, cells: Cells, places: dict[str, re.Match[str] | None]) -> Row:
    image, crop, mask = (Place(match[1], match[8]) for match in places.values() if match)
    density = cells["breast density"]
    return Row(
        table=path,
        number=number,
        film=Film(cells["patient id"], cells["left or right breast"].upper(), cells["image view"].upper()),
        abnormality=int(cells["abnormality id"]),
        density=None if density == "0" else density,
        finding=cells["abnormality type"].lower(),
        assessment=cells["assessment"],
        subtlety=cells["subtlety"],
        pathology=cells["pathology"].upper(),
        split="train" if "-Training_" in image.folder else "test",
        image=image,
        crop=crop,
        mask=mask,
    )
