"""Images of a dataset that is there already, taken over as pieces: `prepare --update` decodes what is new only."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray.data.parquet.layout import IMAGES, PATCHES, SOURCES, open_dataset
from diagram_ray.data.parquet.pieces import PIECE_IMAGES, Entry, PieceWriter
from diagram_ray.data.preprocessing.prepare_image import Options, Prepared, digest_of, pixel_digest
from diagram_ray.storage.opening import filesystem_of, open_file
from diagram_ray.storage.parquet_files import read_table
from diagram_ray.storage.paths import Place


@dataclass(frozen=True)
class OldImage:
    """A row of sources.parquet."""

    identity: str
    part: int
    digest: str
    manifest: str
    """The image's row of the manifest, as JSON."""


@dataclass(frozen=True)
class OldPart:
    """A shard of images, and those of its rows that are still wanted."""

    number: int
    rows: dict[int, OldImage]


def old_images(out: str) -> list[OldImage]:
    """The images of the dataset `out`, in its order; none if it does not say what they were made from."""
    sources = open_dataset(out) / SOURCES
    try:
        return [OldImage(**row) for row in read_table(sources).to_pylist()]
    except Exception:  # damaged tables raise anything
        return []


def old_parts(images: list[OldImage], chosen: Collection[str]) -> list[OldPart]:
    """The shards that hold the images with the `chosen` identities."""
    places: Counter[int] = Counter()
    parts: dict[int, dict[int, OldImage]] = defaultdict(dict)
    for image in images:
        if image.identity in chosen:
            parts[image.part][places[image.part]] = image
        places[image.part] += 1
    return [OldPart(number, rows) for number, rows in sorted(parts.items())]


def take_over(out: str, folder: Place, options: Options, part: OldPart) -> list[Entry]:
    """Writes the wanted images of a shard of the dataset `out` as pieces; those that are damaged are left out."""
    entries: list[Entry] = []
    writer = PieceWriter()
    for identity, prepared in _readable(_prepared(out, part, options)):
        writer.add(identity, prepared)
        if len(writer) == PIECE_IMAGES:
            entries += writer.save(folder)
            writer = PieceWriter()
    return entries + writer.save(folder)


def _readable(images: Iterator[tuple[str, Prepared]]) -> Iterator[tuple[str, Prepared]]:
    """Those before the first that cannot be read; the others are decoded again. Damaged shards raise anything."""
    with suppress(Exception):
        yield from images


def _prepared(out: str, part: OldPart, options: Options) -> Iterator[tuple[str, Prepared]]:
    """The wanted images of a shard, but for those that are not what they were."""
    old = open_dataset(out)
    manifests = {row: json.loads(image.manifest) for row, image in part.rows.items()}
    patches = _patches(old, [manifest["image_id"] for manifest in manifests.values()])
    empty = np.zeros((0, options.patch_size, options.patch_size), np.uint16)
    with open_file(old / IMAGES / f"part-{part.number:05d}.parquet") as file:
        for row, pixels in enumerate(_pictures(file)):
            if row in manifests:
                rows, cuts = patches[manifests[row]["image_id"]]
                prepared = Prepared(manifests[row], pixels, rows, np.stack(cuts) if cuts else empty)
                if digest_of(prepared) == part.rows[row].digest and pixel_digest(pixels) == manifests[row]["digest"]:
                    yield part.rows[row].identity, prepared


def _pictures(file: Any) -> Iterator[NDArray[np.uint16]]:
    for batch in pq.ParquetFile(file).iter_batches(batch_size=PIECE_IMAGES, columns=["pixels"]):
        yield from batch["pixels"].to_numpy_ndarray()


def _patches(old: Place, image_ids: list[str]) -> dict[str, tuple[list[dict[str, Any]], list[Any]]]:
    """Image id -> its patches' rows and pixels, in their order."""
    files, path = filesystem_of(old / PATCHES)
    table = pq.read_table(path, filesystem=files, filters=[("image_id", "in", image_ids)])
    patches: dict[str, tuple[list[dict[str, Any]], list[Any]]] = defaultdict(lambda: ([], []))
    rows = table.drop_columns(["pixels"]).to_pylist()
    pictures = table["pixels"].combine_chunks().to_numpy_ndarray() if rows else []
    for row, pixels in zip(rows, pictures, strict=True):
        patches[row["image_id"]][0].append(row)
        patches[row["image_id"]][1].append(pixels)
    return patches
