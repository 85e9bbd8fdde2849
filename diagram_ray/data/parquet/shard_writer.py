"""The step from pieces to a dataset: Parquet shards of even size, the tables, and dataset.json.

Images stand in the order of their ids, and patches in that of their images: the same images give the same files,
whatever they were prepared with.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray import __version__
from diagram_ray.data.parquet.layout import (
    FORMAT_VERSION,
    IMAGES,
    MANIFEST,
    PATCHES,
    REJECTS,
    SOURCES,
    image_schema,
    patch_schema,
)
from diagram_ray.data.parquet.pieces import Entry, read_images, read_patches
from diagram_ray.data.preprocessing.prepare_image import Options, fingerprint
from diagram_ray.data.records import Index, Reject
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.storage.paths import Place

SHARD_BYTES = 128 * 2**20
GROUP_BYTES = 8 * 2**20
"""Pixels in one row group: what a reader needs in memory at least."""

Row = tuple[dict[str, Any], NDArray[np.uint16]]


@dataclass(frozen=True)
class Shard:
    """A file to be made: of the pictures of some images, or of their patches."""

    folder: str
    """The folder: 'images' or 'patches'."""
    number: int
    entries: tuple[Entry, ...]

    @property
    def name(self) -> str:
        """The name of the file inside the dataset."""
        return f"{self.folder}/part-{self.number:05d}.parquet"


def plan_shards(entries: Sequence[Entry], options: Options) -> list[Shard]:
    """The shards of a dataset; one empty one of patches where there are none. Images are never parted from theirs."""
    picture = 2 * options.image_size[0] * options.image_size[1]
    patch = 2 * options.patch_size**2
    sizes = {IMAGES: [picture] * len(entries), PATCHES: [patch * entry.patches for entry in entries]}
    return [
        Shard(folder, number, tuple(entries[start:stop]))
        for folder, of_folder in sizes.items()
        for number, (start, stop) in enumerate(_cuts(of_folder))
    ]


def _cuts(sizes: list[int]) -> list[tuple[int, int]]:
    """Ranges of about equal size, as many as fit SHARD_BYTES best."""
    total = sum(sizes)
    count = max(1, round(total / SHARD_BYTES))
    ends = list(accumulate(sizes))
    edges = [int(np.searchsorted(ends, total * part / count)) + 1 for part in range(1, count)]
    edges = sorted({0, *(edge for edge in edges if edge < len(sizes)), len(sizes)})
    return list(pairwise(edges))


def write_shard(pieces: Place, root: Place, options: Options, shard: Shard) -> int:
    """Makes a shard of the dataset at `root` from the folder of pieces; returns its rows. Raises OSError."""
    of_images = shard.folder == IMAGES
    schema = image_schema(*options.image_size) if of_images else patch_schema(options.patch_size)
    rows = (_image_rows if of_images else _patch_rows)(pieces, shard)
    written = 0
    with (
        (root / shard.name).open("wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for group in _groups(rows, schema):
            writer.write_table(_table(group, schema), row_group_size=max(1, len(group)))
            written += len(group)
    return written


def _image_rows(pieces: Place, shard: Shard) -> Iterator[Row]:
    for entry, pixels in zip(shard.entries, read_images(pieces, shard.entries), strict=True):
        yield entry.manifest_row, pixels


def _patch_rows(pieces: Place, shard: Shard) -> Iterator[Row]:
    some = [entry for entry in shard.entries if entry.patches]
    for rows, pixels in read_patches(pieces, some):
        yield from zip(rows, pixels.reshape(len(rows), -1), strict=True)


def _groups(rows: Iterator[Row], schema: pa.Schema) -> Iterator[list[Row]]:
    """Row groups; one that is empty where there are no rows, so that the file can be read."""
    shape = schema.field("pixels").type.shape
    limit = max(1, GROUP_BYTES // (2 * shape[0] * shape[1]))
    group: list[Row] = []
    some = False
    for row in rows:
        group.append(row)
        if len(group) == limit:
            yield group
            group, some = [], True
    if group or not some:
        yield group


def _table(group: list[Row], schema: pa.Schema) -> pa.Table:
    kind = schema.field("pixels").type
    flat = np.concatenate([np.empty(0, np.uint16), *(pixels for _, pixels in group)])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.shape[0] * kind.shape[1])
    columns = [
        pa.array([row.get(name) for row, _ in group], type=schema.field(name).type) for name in schema.names[:-1]
    ]
    pixels = pa.ExtensionArray.from_storage(kind, lists.cast(kind.storage_type))
    return pa.Table.from_arrays([*columns, pixels], schema=schema)


def write_tables(root: Place, entries: Sequence[Entry], shards: list[Shard], rejects: list[Reject]) -> None:
    """Writes manifest.parquet, sources.parquet and rejects.parquet. Raises OSError."""
    manifest = pd.DataFrame([entry.manifest_row for entry in entries])
    write_table(root / MANIFEST, pa.Table.from_pandas(manifest, preserve_index=False))
    parts = [(shard.number, entry) for shard in shards if shard.folder == IMAGES for entry in shard.entries]
    sources = {
        "identity": [entry.identity for _, entry in parts],
        "part": [number for number, _ in parts],
        "digest": [entry.digest for _, entry in parts],
        "manifest": [entry.manifest for _, entry in parts],
    }
    write_table(root / SOURCES, pa.table(sources))
    columns = {"path": [item.path for item in rejects], "reason": [item.reason for item in rejects]}
    write_table(root / REJECTS, pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns])))


def dataset_info(
    index: Index, entries: Sequence[Entry], patches: int, rejects: list[Reject], settings: dict[str, Any]
) -> dict[str, Any]:
    """The content of dataset.json. `settings` are the keys of it that say how the dataset was made."""
    rows = [entry.manifest_row for entry in entries]
    labels = Counter("(none)" if row["label"] is None else str(row["label"]) for row in rows)
    counted = {name: settings[name] for name in ("image_size", "patch_size", "classes")}
    return {
        "format_version": FORMAT_VERSION,
        "name": index.name,
        **settings,
        "counts": {
            "images": len(rows),
            "patients": len({row["patient_id"] for row in rows}),
            "patches": patches,
            "rejects": len(rejects),
            "labels": dict(labels.most_common()),
        },
        "rejects": dict(Counter(item.reason for item in rejects).most_common(20)),
        "notes": list(index.notes),
        "fingerprint": fingerprint(counted, (entry.digest for entry in entries)),
        "created_by": __version__,
    }


def as_json(info: dict[str, Any]) -> bytes:
    """The text of dataset.json."""
    return json.dumps(info, indent=1).encode()
