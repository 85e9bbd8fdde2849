"""A table of images, CSV or Parquet, as rows of text. Whatever else stands in it is not read.

CSV: commas or semicolons, UTF-8 or Latin-1; cells stay text, so patient 007 is not patient 7. Parquet: numbers, dates,
booleans, categories and missing values of any column type become the text that a CSV would have.
"""

import csv
import datetime
import decimal
import io
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.errors import DataError
from diagram_ray.storage.opening import open_file, open_place

Row = dict[str, str | None]
"""Column -> cell; None for an empty one."""

LARGEST = 128 * 2**20
"""The most bytes of a table."""
MOST_ROWS = 500_000
"""The most rows of a table: more images make no dataset that a machine could train on."""
MOST_COLUMNS = 2000
LONGEST = 100_000
"""Characters of a Parquet file's cell: one that many rows share takes no room there, but does here."""


def read_rows(table: str, needed: Iterable[str], optional: Iterable[str]) -> list[tuple[int, Row | None]]:
    """The rows with their numbers, the header being row 1. None for a row with more cells than the header.

    Only the columns `needed` and `optional` are read, in any case. Raises DataError if a needed one is missing or
    the file is no table. Its cells are quoted nowhere, nor is its header: a table without one begins with a patient.
    """
    data = _read(table)
    try:
        columns = {*needed, *optional}
        cell_rows = _parquet(data, table, columns) if data[:4] == b"PAR1" else _csv(data)
        header = next(cell_rows)
        places = _places(header or (), table, needed, optional)
        chosen = (_chosen(cells, places, len(header or ())) for cells in islice(cell_rows, MOST_ROWS + 1))
        rows = list(enumerate(chosen, start=2))
    except DataError:
        raise
    except Exception as error:  # the parsers' words may quote cells
        raise DataError(f"{table}: not a CSV or Parquet table ({type(error).__name__})") from None
    if len(rows) > MOST_ROWS:
        raise DataError(f"{table}: has more than {MOST_ROWS} rows")
    return rows


def _read(table: str) -> bytes:
    place = open_place(table)
    try:
        with open_file(place) as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise DataError(f"{table}: no such file") from None
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{table}: cannot be read ({type(error).__name__})") from None
    if len(data) > LARGEST:
        raise DataError(f"{table}: has more than {LARGEST // 2**20} MiB")
    return data


def _csv(data: bytes) -> Iterator[list[Any]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return (row for row in rows if row)


def _parquet(data: bytes, table: str, wanted: set[str]) -> Iterator[list[Any]]:
    file = pq.ParquetFile(io.BytesIO(data))
    if file.metadata.num_rows > MOST_ROWS:
        raise DataError(f"{table}: has more than {MOST_ROWS} rows")
    names = [name for name in file.schema_arrow.names if name.strip().lower() in wanted]
    if _declared_bytes(file.metadata, set(names)) > LARGEST:
        raise DataError(f"{table}: its columns unpack to more than {LARGEST // 2**20} MiB")
    words = [field.name for field in file.schema_arrow if field.name in names and pa.types.is_string(field.type)]
    yield names
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=words)  # a word that a million rows share is read once
    for batch in file.iter_batches(batch_size=1000, columns=names):
        columns = [_cells(column, table) for column in batch.columns]
        yield from (list(cells) for cells in zip(*columns, strict=True))


def _declared_bytes(metadata: pq.FileMetaData, names: set[str]) -> int:
    """The bytes of the columns `names`, unpacked, as the file says."""
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    columns = (group.column(place) for group in groups for place in range(group.num_columns))
    return sum(column.total_uncompressed_size for column in columns if column.path_in_schema in names)


def _cells(column: pa.Array, table: str) -> list[Any]:
    if not isinstance(column, pa.DictionaryArray):
        return list(column.to_pylist())
    words = column.dictionary.to_pylist()
    if any(len(str(word)) > LONGEST for word in words):
        raise DataError(f"{table}: has a cell of more than {LONGEST} characters")
    return [None if place is None else words[place] for place in column.indices.to_pylist()]


def _places(header: Iterable[Any], table: str, needed: Iterable[str], optional: Iterable[str]) -> dict[str, int]:
    """Where the columns are."""
    names = [str(name).strip().lower() for name in header]
    if len(names) > MOST_COLUMNS:
        raise DataError(f"{table}: has {len(names)} columns; at most {MOST_COLUMNS} are read")
    columns = [*needed, *optional]
    if doubled := next((name for name in columns if names.count(name) > 1), None):
        raise DataError(f"{table}: column {doubled!r} stands {names.count(doubled)} times")
    for name in needed:
        if name not in names:
            there = ", ".join(columns[at] for at in range(len(columns)) if columns[at] in names) or "none of its names"
            raise DataError(f"{table}: has no column {name!r}; of those that are read it has: {there}")
    return {name: names.index(name) for name in columns if name in names}


def _chosen(cells: list[Any], places: dict[str, int], width: int) -> Row | None:
    if len(cells) > width:
        return None
    return {name: _text(cells[at]) if at < len(cells) else None for name, at in places.items()}


def _text(value: Any) -> str | None:
    """A cell as text: 2 for 2.0, None for an empty one."""
    if isinstance(value, str):
        return value.strip() or None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, int | float | decimal.Decimal | datetime.date | datetime.time):
        raise TypeError(type(value).__name__)
    return str(value).strip() or None
