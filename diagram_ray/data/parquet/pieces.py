"""Pieces: what one task has prepared, written whole, until the shards are made of them.

    <name>-patches.parquet  a row an image: its patches' rows as JSON, their pixels
    <name>.parquet          a row an image: identity, digest, manifest row as JSON, pixels. Written last

A piece with its second file is whole. Its name follows from the identities in it, so a piece that is written twice is
the same piece.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray.data.preprocessing.prepare_image import Prepared, digest_of
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.opening import open_file
from diagram_ray.storage.paths import Place

HEADS = [(name, pa.string()) for name in ("identity", "digest", "manifest")]
IMAGES = pa.schema([*HEADS, ("patches", pa.int32()), ("pixels", pa.binary())])
PATCHES = pa.schema([("rows", pa.string()), ("pixels", pa.binary())])
SUFFIX, OF_PATCHES = ".parquet", "-patches.parquet"
PIECE_IMAGES = 64
"""The most images in one piece: seconds of work, which is what a run that is cut off loses."""
PIECE_BYTES = 64 * 2**20
"""The most bytes of pixels in one piece, unless a single image has more."""
READERS = 16
"""Pieces whose heads are read at a time: an object store answers late, but many at once."""


@dataclass(frozen=True)
class Entry:
    """One prepared image in a piece, without its pixels."""

    identity: str
    digest: str
    """The image's part of the dataset's fingerprint."""
    manifest: str
    """The image's row of the manifest, as JSON."""
    patches: int
    piece: str
    row: int

    @property
    def manifest_row(self) -> dict[str, Any]:
        """The image's row of the manifest."""
        return dict(json.loads(self.manifest))


class PieceWriter:
    """Collects prepared images, packed, and saves them as a piece."""

    def __init__(self) -> None:
        self._images, self._patches = _Packed(IMAGES), _Packed(PATCHES)
        self._rows: list[tuple[str, str, str, int]] = []

    def add(self, identity: str, prepared: Prepared) -> None:
        """Adds an image. Raises TypeError if a row holds what JSON does not: rows are written by our own code."""
        head = (identity, digest_of(prepared), json.dumps(prepared.manifest), len(prepared.patches))
        self._rows.append(head)
        self._images.add([*head, prepared.pixels.tobytes()])
        self._patches.add([json.dumps(prepared.patches), prepared.patch_pixels.tobytes()])

    def __len__(self) -> int:
        return len(self._rows)

    def save(self, folder: Place) -> list[Entry]:
        """Writes the piece, if there is an image in it. Raises OSError."""
        if not self._rows:
            return []
        name = hashlib.sha256("".join(row[0] for row in self._rows).encode()).hexdigest()[:24]
        write_atomic(folder / f"{name}{OF_PATCHES}", self._patches.finish())
        write_atomic(folder / f"{name}{SUFFIX}", self._images.finish())
        return [Entry(*row, name, number) for number, row in enumerate(self._rows)]


class _Packed:
    """A Parquet file in memory, each row packed as it comes: pixels are not held twice."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema, self._buffer = schema, io.BytesIO()
        self._writer = pq.ParquetWriter(self._buffer, schema, compression="zstd", use_dictionary=False)

    def add(self, row: Sequence[Any]) -> None:
        columns = [pa.array([value], type=field.type) for value, field in zip(row, self._schema, strict=True)]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self._schema))

    def finish(self) -> bytes:
        self._writer.close()
        return self._buffer.getvalue()


def whole_pieces(folder: Place) -> list[str]:
    """The names of all pieces in `folder`, which need not exist."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX) and not name.endswith(OF_PATCHES)]


def read_entries(folder: Place) -> list[Entry]:
    """The images of all pieces in `folder`, which need not exist."""
    with ThreadPoolExecutor(READERS) as pool:
        pieces = pool.map(lambda name: _entries(folder, name), whole_pieces(folder))
        return [entry for piece in pieces for entry in piece]


def _entries(folder: Place, name: str) -> list[Entry]:
    with open_file(folder / f"{name}{SUFFIX}") as file:
        table = pq.read_table(file, columns=["identity", "digest", "manifest", "patches"])
    return [Entry(**row, piece=name, row=number) for number, row in enumerate(table.to_pylist())]


def read_images(folder: Place, entries: Sequence[Entry]) -> Iterator[NDArray[np.uint16]]:
    """The pixels (H * W,) of each image, in the order asked for; a piece at a time is in memory."""
    for piece, group in groupby(entries, lambda entry: entry.piece):
        file = pq.ParquetFile(pa.BufferReader((folder / f"{piece}{SUFFIX}").read_bytes()))
        for entry in group:
            (pixels,) = file.read_row_group(entry.row, columns=["pixels"])["pixels"]
            yield np.frombuffer(pixels.as_buffer(), dtype=np.uint16)


def read_patches(folder: Place, entries: Sequence[Entry]) -> Iterator[tuple[list[dict[str, Any]], NDArray[np.uint16]]]:
    """The patches of each image: their rows, and their pixels (P * s * s,)."""
    for piece, group in groupby(entries, lambda entry: entry.piece):
        table = pq.read_table(pa.BufferReader((folder / f"{piece}{OF_PATCHES}").read_bytes()))
        for entry in group:
            rows = json.loads(table["rows"][entry.row].as_py())
            yield rows, np.frombuffer(table["pixels"][entry.row].as_buffer(), dtype=np.uint16)
