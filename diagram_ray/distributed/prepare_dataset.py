"""Preparation on Ray Data, at any size: tasks decode images into pieces, and other tasks make even shards of those.

Pixels never pass through the driver, which holds the tables only, about 2 KB an image. A task holds one image and the
piece it is part of. Pieces are kept when a run is cut off, and the next one goes on with them. A file whose decoding
kills its worker is found by trying the images of its piece alone, and becomes a reject.
"""

import dataclasses
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from diagram_ray.data.parquet.layout import PATCHES, read_rejects
from diagram_ray.data.parquet.pieces import (
    PIECE_BYTES,
    PIECE_IMAGES,
    Entry,
    PieceWriter,
    read_entries,
    whole_pieces,
)
from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.parquet.shard_writer import (
    Shard,
    dataset_info,
    plan_shards,
    write_shard,
    write_tables,
)
from diagram_ray.data.parquet.source_identity import SourceImage, identify_images
from diagram_ray.data.parquet.staging import WorkArea, work_area
from diagram_ray.data.parquet.update import OldImage, old_images, old_parts, take_over
from diagram_ray.data.preprocessing.prepare_image import Options, check_distinct, prepare_image
from diagram_ray.data.preprocessing.pseudonyms import anonymous, anonymous_rejects, keyed_hash
from diagram_ray.data.records import Index, Reject
from diagram_ray.distributed.data_tasks import UNLIMITED, processors, run_tasks
from diagram_ray.errors import DataError, DiagramError
from diagram_ray.storage.paths import Place

log = logging.getLogger("diagram_ray")

KILLERS = 50
"""Files that may kill their worker. More are no matter of single files, but of the machine's memory or of a decoder."""
UNTOLD = ("key", "negative", "root")
"""Options that are left out of dataset.json: a secret, what the classes say, and a place on somebody's disk."""
KILLED = "its decoding killed the worker"


Progress = Callable[[PreparationProgress], None]
Decoded = tuple[list[Entry], list[tuple[str, Reject]]]
"""The result of a piece: its images, and the identities of its rejects."""


def prepare_dataset(
    index: Index, out: str, options: Options, source_format: str, progress: Progress, update: bool = False
) -> dict[str, Any]:
    """Prepares the images of `index` into the dataset `out` (a folder or URI) and returns its dataset.json.

    The same files and options give the same dataset, however it came about. `update`: `out` may hold a dataset, whose
    images stay if what they were made from has not changed. A run that is cut off is gone on with by the next call.
    Needs an open Ray session. Raises UsageError if `out` holds something else or another run prepares it, DataError if
    no image can be used or one is given twice, DiagramError if workers fail.
    """
    check_distinct(index.records)
    with work_area(out, _settings(index, options, source_format), update) as area:
        run = _Run(area, index, options, progress)
        try:
            run.decode()
            return run.finish(source_format)
        except (KeyboardInterrupt, DiagramError):
            if run.in_pieces:
                log.info(
                    "%d of %d images are kept in %s: the same command goes on with them",
                    run.in_pieces, len(run.images), area.path,
                )  # fmt: skip
            raise


def _settings(index: Index, options: Options, source_format: str) -> dict[str, Any]:
    """The settings by which a dataset is made, as in dataset.json. What was made otherwise is not mixed with it."""
    settings = {name: value for name, value in dataclasses.asdict(options).items() if name not in UNTOLD}
    settings |= {"classes": index.classes, "key_id": keyed_hash(options.key, "which key this is")}
    return dict(json.loads(json.dumps({"source_format": source_format, **settings})))


class _Run:
    """A preparation: the images that are wanted, and what has become of them so far."""

    def __init__(self, area: WorkArea, index: Index, options: Options, progress: Progress) -> None:
        self._area, self._index, self._options, self._progress = area, index, options, progress
        self.images = identify_images(index.records, options)
        self._left_out = anonymous_rejects(index, options.key)
        self._entries: dict[str, Entry] = {}
        self._rejects: dict[str, Reject] = {}
        self._old: list[OldImage] = old_images(area.out) if area.old else []
        self._megapixels = 0.0

    @property
    def in_pieces(self) -> int:
        """Images that need not be decoded again."""
        return len(self._entries)

    def decode(self) -> None:
        """Brings every image into a piece or among the rejects."""
        self._take_up()
        kept = {image.identity for image in self._old} & {image.identity for image in self.images}
        kept -= self._entries.keys()
        if self._area.old:
            log.info("%d of %d images are as they were when %s was made", len(kept), len(self.images), self._area.out)
        self._report(len(kept))
        self._decode(kept)
        if self._unchanged():
            return
        parts = old_parts(self._old, kept)
        take = partial(take_over, self._area.out, self._area.pieces, self._options)
        for _, entries in run_tasks("comparing files", take, parts):
            self._entries |= {entry.identity: entry for entry in entries}
        self._decode(frozenset())

    def finish(self, source_format: str) -> dict[str, Any]:
        """Makes the dataset of the pieces; returns its dataset.json."""
        rejects = self._all_rejects()
        if self._area.old and self._unchanged():
            log.info("%s: nothing has changed", self._area.out)
            return self._area.old
        entries = [self._entries[image.identity] for image in self.images if image.identity in self._entries]
        if not entries:
            raise DataError(
                f"none of the {len(self.images)} images can be used; "
                f"the first reason: {rejects[0].path}: {rejects[0].reason}"
            )
        self._check_pieces(entries)
        draft = self._area.make_draft()
        shards = plan_shards(entries, self._options)
        rows = self._write(shards, draft)
        write_tables(draft, entries, shards, rejects)
        if burned := sum(entry.manifest_row.get("burned_in") is True for entry in entries):
            log.warning(
                "%d images say that text in their pixels tells the patient: it is blanked outside of the breast only",
                burned,
            )
        settings = _settings(self._index, self._options, source_format)
        info = dataset_info(self._index, entries, rows[PATCHES], rejects, settings)
        info = self._area.publish(draft, info)
        self._area.remove()
        return info

    def _take_up(self) -> None:
        """Finds what an earlier run has left."""
        old = read_entries(self._area.pieces)
        identities = {image.identity for image in self.images}
        self._entries = {entry.identity: entry for entry in old if entry.identity in identities}
        if self._entries:
            log.info("%d of %d images are there from an earlier run", len(self._entries), len(self.images))
        elif old:
            log.info("%d images of an earlier run are of no use: their files, or this program, have changed", len(old))

    def _decode(self, kept: Collection[str]) -> None:
        """Decodes what is neither there nor `kept`. Lost images are tried alone, then alone on the whole cluster."""
        done = self._entries.keys() | kept | self._rejects.keys()
        todo = [image for image in self.images if image.identity not in done]
        lost = self._round(_pieces(todo, self._options), len(kept))
        lost = self._round([[image] for image in lost], len(kept), losses=KILLERS)
        lost = self._round([[image] for image in lost], len(kept), losses=KILLERS, at_a_time=1)
        for image in lost:
            reject = Reject(image.record.path, KILLED, image.record.patient_id)
            self._rejects[image.identity] = anonymous(reject, self._options.root, self._options.key)

    def _round(
        self, pieces: list[list[SourceImage]], kept: int, losses: int = UNLIMITED, at_a_time: int | None = None
    ) -> list[SourceImage]:
        """Decodes pieces; returns the images of those whose worker has died."""
        work = partial(_decode, self._area.pieces, self._options)
        lost = {image.identity: image for piece in pieces for image in piece}
        for piece, (entries, rejects) in run_tasks("preparing images", work, pieces, at_a_time, losses):
            for image in piece:
                del lost[image.identity]
            self._entries |= {entry.identity: entry for entry in entries}
            self._rejects |= dict(rejects)
            self._megapixels += sum(_megapixels(entry) for entry in entries)
            self._report(kept)
        return list(lost.values())

    def _report(self, kept: int) -> None:
        rejects = len(self._left_out) + len(self._rejects)
        done = len(self._entries) + len(self._rejects) + kept
        self._progress(PreparationProgress("preparing images", done, len(self.images), rejects, self._megapixels))

    def _all_rejects(self) -> list[Reject]:
        rejects = [self._rejects[image.identity] for image in self.images if image.identity in self._rejects]
        return [*self._left_out, *rejects]

    def _unchanged(self) -> bool:
        """Whether there is a dataset already that is what this run would make."""
        if self._area.old is None:
            return False
        if {image.identity for image in self._old} != {image.identity for image in self.images} - self._rejects.keys():
            return False
        rejects = read_rejects(self._area.out)
        return list(zip(rejects["path"], rejects["reason"], strict=True)) == [
            (reject.path, reject.reason) for reject in self._all_rejects()
        ]

    def _check_pieces(self, entries: Sequence[Entry]) -> None:
        there = whole_pieces(self._area.pieces)
        if not {entry.piece for entry in entries} <= set(there):
            raise DiagramError(
                f"--out {self._area.out}: what other machines have written is not seen on this one; "
                "a cluster needs a shared disk or an object store"
            )

    def _write(self, shards: list[Shard], draft: Place) -> dict[str, int]:
        """Writes the shards; returns the rows in each folder. A shard whose worker dies is tried once more."""
        work = partial(write_shard, self._area.pieces, draft, self._options)
        rows: Counter[str] = Counter()
        todo = {shard.name: shard for shard in shards}
        for _ in range(2):
            for shard, written in run_tasks("writing shards", work, list(todo.values())):
                del todo[shard.name]
                rows[shard.folder] += written
                self._progress(PreparationProgress("writing shards", len(shards) - len(todo), len(shards)))
        if todo:
            raise DiagramError(f"the worker that writes {min(todo)} has died twice")
        return rows


def _pieces(images: list[SourceImage], options: Options) -> list[list[SourceImage]]:
    """The images that one task prepares: neighbours in the dataset. The last pieces are small: all end together."""
    prepared = 2 * options.image_size[0] * options.image_size[1]
    most = max(1, min(PIECE_IMAGES, PIECE_BYTES // prepared))
    pieces, start = [], 0
    while start < len(images):
        size = max(1, min(most, (len(images) - start) // (2 * processors())))
        pieces.append(images[start : start + size])
        start += size
    return pieces


def _decode(folder: Place, options: Options, piece: list[SourceImage]) -> Decoded:
    """Prepares the images of a piece, one after the other, and saves them. Runs in a task."""
    writer = PieceWriter()
    rejects = []
    for image in piece:
        item = prepare_image(image.record, options)
        if isinstance(item, Reject):
            rejects.append((image.identity, item))
        else:
            writer.add(image.identity, item)
    return writer.save(folder), rejects


def _megapixels(entry: Entry) -> float:
    row = entry.manifest_row
    return float(row.get("rows", 0) * row.get("columns", 0)) / 1e6
