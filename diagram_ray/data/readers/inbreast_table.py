"""INbreast.csv: `Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads`, one row an image.

INbreast.xls has more columns, among them `Mass ` (with the blank), `Micros`, `Distortion` and `Asymmetry` with an X
where the image shows one, and ends with an empty row and a row of sums. Columns are found by name, so the short header
`File Name;Laterality;View;ACR;Bi-Rads` and the sheet saved as CSV are read as well. Only the columns named here are
looked at, and no cell is quoted.
"""

import csv
import io
import re
from collections import defaultdict
from dataclasses import dataclass

from diagram_ray.data.readers.inbreast_xls import is_spreadsheet, read_sheet
from diagram_ray.data.records import Reject
from diagram_ray.errors import DataError

MAX_BYTES = 4 << 20
BIRADS = ("1", "2", "3", "4", "4a", "4b", "4c", "5", "6")
DENSITIES = ("1", "2", "3", "4")
MARKS = {"mass": "mass", "micros": "calcification", "distortion": "distortion", "asymmetry": "asymmetry"}
"""The finding that each column marks: column -> finding."""


@dataclass(frozen=True)
class Row:
    """One line of the table. Laterality, view and date are '' where the table has no such column."""

    number: int
    file_id: str
    laterality: str
    view: str
    date: str
    density: str | None
    birads: str
    marked: tuple[str, ...] | None
    """Findings that the table marks with an X; None where it has no such columns."""


def parse_table(data: bytes, path: str, rejects: list[Reject]) -> dict[str, Row]:
    """File id -> row. Rows that cannot be used are added to `rejects`.

    Raises DataError if there is no header with the columns File Name and Bi-Rads.
    """
    header, *body = _cells(data, path)
    columns = {" ".join(name.lower().split()): place for place, name in enumerate(header)}
    for name in ("file name", "bi-rads"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r} among its {len(header)}")
    rows = []
    for number, cells in enumerate(body, start=2):
        row = _row(number, {name: cells[at].strip() for name, at in columns.items() if at < len(cells)})
        if isinstance(row, str):
            rejects.append(Reject(path, f"row {number}: {row}"))
        elif row:
            rows.append(row)
    return _unique(rows, path, rejects)


def _cells(data: bytes, path: str) -> list[list[str]]:
    """The header and the rows, of a CSV or a spreadsheet."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: longer than {MAX_BYTES} bytes")
    try:
        if is_spreadsheet(data):
            cells = read_sheet(data, path)
        else:
            text = _decode(data)
            cells = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise DataError(f"{path}: not a table with a header: {error}") from None
    if not cells:
        raise DataError(f"{path}: not a table with a header: it is empty")
    return cells


def _decode(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _delimiter(text: str) -> str:
    """Semicolons in the original; commas where a spreadsheet wrote it anew."""
    header = text.partition("\n")[0]
    return ";" if header.count(";") >= header.count(",") else ","


def _row(number: int, cells: dict[str, str]) -> Row | str | None:
    """The row, or what is wrong with it. None for the empty row and the row of sums that end the spreadsheet."""
    name, laterality = cells.get("file name", ""), cells.get("laterality", "").upper()
    if not name and not laterality:
        return None
    file_id = re.match(r"\d{1,16}", name, re.ASCII)
    if file_id is None:
        return "File Name does not begin with a number"
    birads, density = _whole(cells.get("bi-rads", "").lower()), _whole(cells.get("acr", ""))
    for column, value, allowed in (
        ("Bi-Rads", birads, BIRADS),
        ("ACR", density, (*DENSITIES, "")),
        ("Laterality", laterality, ("L", "R", "")),
    ):
        if value not in allowed:
            return f"{column} of image {file_id[0]} is not one of {', '.join(filter(None, allowed))}"
    date = _whole(cells.get("acquisition date", ""))
    return Row(number, file_id[0], laterality, _view(cells), date, density or None, birads, _marked(cells))


def _view(cells: dict[str, str]) -> str:
    view = cells.get("view", "").upper()
    return view if re.fullmatch("[A-Z]{2,4}", view) else ""


def _marked(cells: dict[str, str]) -> tuple[str, ...] | None:
    if not MARKS.keys() & cells.keys():
        return None
    return tuple(sorted(finding for column, finding in MARKS.items() if cells.get(column, "").upper() == "X"))


def _whole(text: str) -> str:
    """A spreadsheet's '2.0' as '2'."""
    return text.removesuffix(".0")


def _unique(rows: list[Row], path: str, rejects: list[Reject]) -> dict[str, Row]:
    """Of an image with several rows none is used: they may give it different labels."""
    by_id: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_id[row.file_id].append(row)
    for file_id, same in by_id.items():
        if len(same) > 1:
            numbers = ", ".join(str(row.number) for row in same)
            rejects.append(Reject(path, f"rows {numbers} are all about image {file_id}: none is used"))
    return {file_id: same[0] for file_id, same in by_id.items() if len(same) == 1}
