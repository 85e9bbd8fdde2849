"""Preparation on Ray Data: records are decoded on all machines, and stream through the driver into Parquet shards.

Bounded memory: Ray Data lets the decoders run ahead only as far as its object store allows, and the driver holds one
shard. The dataset appears at once: a local folder is built beside its place and renamed; in an object store
dataset.json, without which nothing is a dataset, is written last.
"""

import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import ray.data
from numpy.typing import NDArray
from ray.exceptions import RayError

from diagram_ray import __version__
from diagram_ray.data.preparation import Fingerprint, Options, Prepared, check_distinct, prepare_image
from diagram_ray.data.records import ImageRecord, Index, Reject
from diagram_ray.data.shards import (
    FORMAT_VERSION,
    INFO,
    MANIFEST,
    REJECTS,
    check_vacant,
    image_schema,
    open_place,
    patch_schema,
)
from diagram_ray.errors import DataError, DiagramError, UsageError

SHARD_BYTES = 128 * 2**20
BLOCK = 16
"""Images in one task: a few seconds of work."""
Progress = Callable[[int, int, int], None]
"""(images done, images in all, of them rejected)"""


def prepare_dataset(index: Index, out: str, options: Options, source_format: str, progress: Progress) -> dict[str, Any]:
    """Prepares the images of `index` into the dataset `out` (a folder or URI) and returns its dataset.json.

    Needs an open Ray session. Raises UsageError if `out` holds something, DataError if no image can be used or one is
    given twice, DiagramError if a worker fails.
    """
    check_distinct(index.records)
    with _destination(out) as (files, root):
        writer = _Writer(files, root, index, options)
        for done, item in enumerate(_stream(index.records, options), start=1):
            writer.add(item)
            progress(done, len(index.records), len(writer.rejects))
        return writer.finish(source_format)


def _stream(records: list[ImageRecord], options: Options) -> Iterator[Prepared | Reject]:
    """The prepared images, in the order of the records."""
    shared = ray.put(records)

    def work(batch: Any) -> Any:
        mine = ray.get(shared)
        items = [to_bytes(prepare_image(mine[number], options)) for number in batch["id"].tolist()]
        return {"item": np.array(items, dtype=object)}

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    blocks = max(1, -(-len(records) // BLOCK))
    rows = ray.data.range(len(records), override_num_blocks=blocks).map_batches(work, batch_size=BLOCK)
    try:
        for row in rows.iter_rows():
            yield from_bytes(row["item"], options)
    except RayError as error:
        raise DiagramError(f"a worker failed: {' '.join(str(error).split())[-400:]}") from error


def to_bytes(item: Prepared | Reject) -> bytes:
    """An item as bytes: a line of JSON, then the pixels."""
    if isinstance(item, Reject):
        return json.dumps({"reject": [item.path, item.reason]}).encode()
    head = json.dumps({"manifest": item.manifest, "patches": item.patches}).encode()
    return head + b"\n" + item.pixels.tobytes() + item.patch_pixels.tobytes()


def from_bytes(data: bytes, options: Options) -> Prepared | Reject:
    """The item that `to_bytes` made bytes of."""
    head, _, pixels = data.partition(b"\n")
    told = json.loads(head)
    if "reject" in told:
        return Reject(*told["reject"])
    flat = np.frombuffer(pixels, dtype=np.uint16)
    rows, columns = options.image_size
    patches = flat[rows * columns :].reshape(-1, options.patch_size, options.patch_size)
    return Prepared(told["manifest"], flat[: rows * columns].reshape(rows, columns), told["patches"], patches)


class _Shards:
    """Parquet files of even size in one folder of a dataset."""

    def __init__(self, files: Any, folder: str, schema: pa.Schema, expected: int) -> None:
        self._files, self._folder, self._schema = files, folder, schema
        shape = schema.field("pixels").type.shape
        row_bytes = 2 * shape[0] * shape[1]
        shards = max(1, round(expected * row_bytes / SHARD_BYTES))
        self._limit = max(1, -(-expected // shards))
        self._rows: list[dict[str, Any]] = []
        self._pixels: list[NDArray[np.uint16]] = []
        self._parts = 0
        self.written = 0

    def add(self, row: dict[str, Any], pixels: NDArray[np.uint16]) -> None:
        self._rows.append(row)
        self._pixels.append(pixels)
        if len(self._rows) >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Writes what is held; an empty first shard too, so that the folder can be read."""
        if not self._rows and self._parts:
            return
        kind = self._schema.field("pixels").type
        flat = np.concatenate([picture.ravel() for picture in self._pixels] or [np.empty(0, np.uint16)])
        lists = pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.shape[0] * kind.shape[1])
        columns = [
            pa.array([row.get(name) for row in self._rows], type=self._schema.field(name).type)
            for name in self._schema.names[:-1]
        ]
        table = pa.Table.from_arrays(
            [*columns, pa.ExtensionArray.from_storage(kind, lists.cast(kind.storage_type))], schema=self._schema
        )
        name = f"{self._folder}/part-{self._parts:05d}.parquet"
        pq.write_table(table, name, filesystem=self._files, compression="zstd", row_group_size=256)
        self.written += len(self._rows)
        self._parts += 1
        self._rows, self._pixels = [], []


class _Writer:
    """Collects prepared images into a dataset's files."""

    def __init__(self, files: Any, root: str, index: Index, options: Options) -> None:
        self._files, self._root, self._index, self._options = files, root, index, options
        regions = sum(len(record.regions) for record in index.records)
        expected = regions + options.background_patches * len(index.records)
        for folder in ("images", "patches"):
            files.makedirs(f"{root}/{folder}", exist_ok=True)
        self._images = _Shards(files, f"{root}/images", image_schema(*options.image_size), len(index.records))
        self._patches = _Shards(files, f"{root}/patches", patch_schema(options.patch_size), expected)
        self._manifest: list[dict[str, Any]] = []
        self.rejects = list(index.rejects)
        self._settings = {
            "image_size": list(options.image_size),
            "patch_size": options.patch_size,
            "classes": list(index.classes),
        }
        self._fingerprint = Fingerprint(self._settings)

    def add(self, item: Prepared | Reject) -> None:
        if isinstance(item, Reject):
            self.rejects.append(item)
            return
        self._fingerprint.add(item)
        self._manifest.append(item.manifest)
        self._images.add(item.manifest, item.pixels)
        for row, pixels in zip(item.patches, item.patch_pixels, strict=True):
            self._patches.add(row, pixels)

    def finish(self, source_format: str) -> dict[str, Any]:
        if not self._manifest:
            first, count = self.rejects[0], len(self._index.records)
            raise DataError(f"none of the {count} images can be used; the first reason: {first.path}: {first.reason}")
        self._images.flush()
        self._patches.flush()
        manifest = pd.DataFrame(self._manifest).sort_values("image_id")
        self._write_table(MANIFEST, pa.Table.from_pandas(manifest, preserve_index=False))
        rejects = {"path": [item.path for item in self.rejects], "reason": [item.reason for item in self.rejects]}
        self._write_table(
            REJECTS, pa.table(rejects, schema=pa.schema([("path", pa.string()), ("reason", pa.string())]))
        )
        info = self._info(manifest, source_format)
        self._files.pipe_file(f"{self._root}/{INFO}", json.dumps(info, indent=1).encode())
        return info

    def _info(self, manifest: pd.DataFrame, source_format: str) -> dict[str, Any]:
        labels = manifest["label"].fillna("(none)").value_counts()
        return {
            "format_version": FORMAT_VERSION,
            "name": self._index.name,
            "source_format": source_format,
            **self._settings,
            "counts": {
                "images": len(manifest),
                "patients": int(manifest["patient_id"].nunique()),
                "patches": self._patches.written,
                "rejects": len(self.rejects),
                "labels": {str(name): int(count) for name, count in labels.items()},
            },
            "rejects": dict(Counter(item.reason for item in self.rejects).most_common(20)),
            "fingerprint": self._fingerprint.hexdigest(),
            "created_by": __version__,
        }

    def _write_table(self, name: str, table: pa.Table) -> None:
        pq.write_table(table, f"{self._root}/{name}", filesystem=self._files)


@contextmanager
def _destination(out: str) -> Iterator[tuple[Any, str]]:
    """Where to write so that `out` appears whole; nothing is left of a preparation that fails.

    Raises UsageError if there is something already, or nothing can be written.
    """
    check_vacant(out)
    files, root = open_place(out)
    if "file" in files.protocol:
        with _draft(Path(root), out) as draft:
            yield files, str(draft)
        return
    try:
        yield files, root
    except BaseException:
        # check_vacant has seen that all there is was written here.
        files.invalidate_cache()
        if files.exists(root):
            files.rm(root, recursive=True)
        raise


@contextmanager
def _draft(place: Path, out: str) -> Iterator[Path]:
    """A hidden folder beside `place` that becomes it."""
    draft = place.with_name(f".{place.name}.partial-{os.getpid()}")
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from None
    try:
        yield draft
        try:
            draft.rename(place)  # over an empty folder too, but over no other
        except OSError as error:
            raise UsageError(f"--out {out}: was filled by somebody else meanwhile: {error.strerror}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
