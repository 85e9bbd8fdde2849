"""INbreast.xls: the cells of its first sheet as text. The second has patients' numbers, ages and dates: never read."""

import io
from typing import Any

import xlrd

from diagram_ray.errors import DataError

SHEET = "Sheet1"
MAGIC = (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"\x09\x08\x10\x00")
"""How a spreadsheet of Excel 97 begins: in the usual container, and bare."""
MOST_ROWS = 10_000


def is_spreadsheet(data: bytes) -> bool:
    """Whether `data` are a spreadsheet of Excel 97 or later, before .xlsx."""
    return data.startswith(MAGIC)


def read_sheet(data: bytes, path: str) -> list[list[str]]:
    """The rows of Sheet1; of the first sheet if none has this name. A number is written as in a CSV: 22678622, 4, 0.5.

    Raises DataError if it is no spreadsheet or has more than 10,000 rows.
    """
    try:
        sheet = _sheet(data)
        if sheet.nrows > MOST_ROWS:
            raise DataError(f"{path}: has {sheet.nrows} rows; at most {MOST_ROWS} are read")
        return [[_text(value) for value in sheet.row_values(row)] for row in range(sheet.nrows)]
    except DataError:
        raise
    except Exception as error:  # xlrd raises what it likes on damaged files, and its words may quote cells
        raise DataError(f"{path}: not a spreadsheet that can be read ({type(error).__name__})") from None


def _sheet(data: bytes) -> Any:
    """On demand: other sheets are not even parsed. What xlrd has to say of the file goes nowhere."""
    with xlrd.open_workbook(file_contents=data, on_demand=True, ragged_rows=True, logfile=io.StringIO()) as book:
        names = book.sheet_names()
        return book.sheet_by_index(names.index(SHEET) if SHEET in names else 0)


def _text(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else str(value)
    return value if isinstance(value, str) else ""
