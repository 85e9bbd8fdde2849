"""INbreast.csv: `Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads`, one row an image.

Columns are found by name, so the short header `File Name;Laterality;View;ACR;Bi-Rads` and the sheet of INbreast.xls
saved as CSV are read as well.
"""

import csv
import io
import re
from collections import defaultdict
from dataclasses import dataclass

from diagram_ray.data.records import Reject
from diagram_ray.errors import DataError

MAX_BYTES = 16 << 20
BIRADS = ("1", "2", "3", "4", "4a", "4b", "4c", "5", "6")
DENSITIES = ("1", "2", "3", "4")


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


def parse_table(data: bytes, path: str, rejects: list[Reject]) -> dict[str, Row]:
    """File id -> row. Rows that cannot be used are added to `rejects`.

    Raises DataError if there is no header with the columns File Name and Bi-Rads.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"{path}: longer than {MAX_BYTES} bytes")
    text = _decode(data)
    try:
        header, *body = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}: not a table with a header: {error}") from None
    columns = {" ".join(name.lower().split()): place for place, name in enumerate(header)}
    for name in ("file name", "bi-rads"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; its columns are {', '.join(header)[:200]}")
    rows = []
    for number, cells in enumerate(body, start=2):
        row = _row(number, {name: cells[at].strip() for name, at in columns.items() if at < len(cells)})
        if isinstance(row, str):
            rejects.append(Reject(path, f"row {number}: {row}"))
        elif row:
            rows.append(row)
    return _unique(rows, path, rejects)


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
        return f"File Name {name[:40]!r} does not begin with a number"
    birads, density = _whole(cells.get("bi-rads", "").lower()), _whole(cells.get("acr", ""))
    for column, value, allowed in (
        ("Bi-Rads", birads, BIRADS),
        ("ACR", density, (*DENSITIES, "")),
        ("Laterality", laterality, ("L", "R", "")),
    ):
        if value not in allowed:
            return f"{column} {value[:20]!r} of image {file_id[0]} is not one of {', '.join(filter(None, allowed))}"
    view, date = cells.get("view", "").upper(), cells.get("acquisition date", "")
    return Row(number, file_id[0], laterality, view, date, density or None, birads)


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
