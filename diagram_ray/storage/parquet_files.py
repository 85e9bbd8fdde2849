"""Small Parquet tables, written and read whole."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place


def write_table(path: Place, table: pa.Table) -> None:
    """Writes a Parquet file atomically."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_atomic(path, buffer.getvalue())


def read_table(path: Place) -> pa.Table:
    """The table that `write_table` wrote. Raises FileNotFoundError, and what pyarrow raises at a damaged file."""
    return pq.read_table(path if isinstance(path, Path) else pa.BufferReader(path.read_bytes()))
