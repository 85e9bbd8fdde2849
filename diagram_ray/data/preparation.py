"""What `prepare` does to one image: decode, standardise, cut patches. It does not know who runs it, or where.

Identities leave here as keyed hashes (HMAC-SHA-256, 16 hexadecimal digits): of patients, of exams, and of an image
whose own id contains its patient's. The same key gives the same hashes, so datasets prepared with it can be joined.
"""

import hashlib
import hmac
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.mammogram import read_mammogram
from diagram_ray.data.pixels import Box, Standardised, background_boxes, cut_patch, square_around, standardise
from diagram_ray.data.records import ImageRecord, Reject
from diagram_ray.data.shards import BACKGROUND, ROI
from diagram_ray.errors import DataError

BACKGROUND_PART = 1 / 8
"""Side of a background patch as a part of the breast's height: about 25 mm, as a lesion with its surroundings."""


@dataclass(frozen=True)
class Options:
    """How images are prepared."""

    image_size: tuple[int, int]
    """(H, W)"""
    patch_size: int
    background_patches: int
    """Wanted per image; small breasts may give fewer."""
    key: bytes
    """Of the hashes."""
    negative: str
    """The class of background patches."""


@dataclass(frozen=True)
class Prepared:
    """One image, ready to be written."""

    manifest: dict[str, Any]
    pixels: NDArray[np.uint16]
    """(H, W)"""
    patches: list[dict[str, Any]]
    """Rows of patches/ without their pixels."""
    patch_pixels: NDArray[np.uint16]
    """(P, s, s)"""


def prepare_image(record: ImageRecord, options: Options) -> Prepared | Reject:
    """Prepares one image, or says why it cannot be used."""
    try:
        return _prepare(record, options)
    except DataError as error:
        return Reject(record.path, str(error))
    except MemoryError:
        return Reject(record.path, "does not fit in memory")


def keyed_hash(key: bytes, text: str) -> str:
    """16 hexadecimal digits that stand for `text` and do not tell it to anyone without the key."""
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:16]


def _prepare(record: ImageRecord, options: Options) -> Prepared:
    mammogram = read_mammogram(record.path)
    standard = standardise(mammogram, options.image_size, record.laterality)
    height, width = standard.crop[2] - standard.crop[0], standard.crop[3] - standard.crop[1]
    if min(height, width) < options.patch_size:
        raise DataError(
            f"the breast is {height} x {width} pixels, smaller than a patch of "
            f"{options.patch_size} x {options.patch_size}"
        )
    boxes = _boxes(record, mammogram.pixels.shape, standard, options)
    image_id = _image_id(record, options.key)
    patches = [
        {
            "patch_id": f"{image_id}-{number:03d}",
            "image_id": image_id,
            "patient_id": keyed_hash(options.key, record.patient_id),
            "box": [float(edge) for edge in box],
            **told,
        }
        for number, (box, told) in enumerate(boxes)
    ]
    cuts = [cut_patch(mammogram, standard, box, options.patch_size) for box, _ in boxes]
    manifest = {
        **record.columns,
        "image_id": image_id,
        "patient_id": keyed_hash(options.key, record.patient_id),
        "exam_id": keyed_hash(options.key, record.exam_id),
        "laterality": record.laterality or mammogram.laterality,
        "view": record.view or mammogram.view,
        "label": record.label,
        "spacing_mm": mammogram.spacing_mm or record.spacing_mm,
        "inverted": standard.inverted,
        "mirrored": standard.mirrored,
        "breast_part": round(standard.breast_part, 4),
        "digest": _digest(standard.pixels),
    }
    empty = np.zeros((0, options.patch_size, options.patch_size), dtype=np.uint16)
    return Prepared(manifest, standard.pixels, patches, np.stack(cuts) if cuts else empty)


def _boxes(
    record: ImageRecord, shape: tuple[int, ...], standard: Standardised, options: Options
) -> list[tuple[Box, dict[str, Any]]]:
    """The squares to cut: around each region, and at random places of the breast that depend on the image alone."""
    found: list[tuple[Box, dict[str, Any]]] = []
    for region in record.regions:
        _check_inside(region.box, shape)
        top, left, side = square_around(region.box, shape)
        told = {"kind": ROI, "finding": region.finding, "label": region.label}
        found.append(((top, left, top + side, left + side), told))
    random = np.random.default_rng(int(_digest(standard.pixels)[:16], 16))
    avoid = [region.box for region in record.regions]
    told = {"kind": BACKGROUND, "finding": None, "label": options.negative}
    squares = background_boxes(standard, avoid, options.background_patches, BACKGROUND_PART, random)
    return found + [(box, told) for box in squares]


def _check_inside(box: Box, shape: tuple[int, ...]) -> None:
    """A box that misses the image was drawn on another one."""
    top, left, bottom, right = box
    if not (bottom > 0 and right > 0 and top < shape[0] and left < shape[1]):
        where = f"rows {top:g} to {bottom:g}, columns {left:g} to {right:g}"
        raise DataError(f"a lesion's box ({where}) lies outside the image of {shape[0]} x {shape[1]} pixels")


def check_distinct(records: list[ImageRecord]) -> None:
    """Raises DataError if two records have one id or one file: it would be trained on as one patient's and tested as
    another's."""
    for what in ("image_id", "path"):
        counts = Counter(getattr(record, what) for record in records)
        if doubled := next((value for value, count in counts.items() if count > 1), None):
            patients = sorted({record.patient_id for record in records if getattr(record, what) == doubled})
            raise DataError(f"{what} {doubled!r} stands {counts[doubled]} times, for {len(patients)} patient(s)")


def _image_id(record: ImageRecord, key: bytes) -> str:
    """The source's own id, unless it tells the patient."""
    return keyed_hash(key, record.image_id) if record.patient_id in record.image_id else record.image_id


def _digest(pixels: NDArray[np.uint16]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


class Fingerprint:
    """A digest of all that a dataset says, whatever the order in which it was prepared."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._lines = [json.dumps(settings, sort_keys=True)]

    def add(self, prepared: Prepared) -> None:
        """Takes one image and its patches into account; the image's pixels count by their digest."""
        patches = _digest(prepared.patch_pixels)
        self._lines.append(json.dumps([prepared.manifest, prepared.patches, patches], sort_keys=True, default=str))

    def hexdigest(self) -> str:
        """The first 16 hexadecimal digits of SHA-256 over everything, sorted."""
        return hashlib.sha256("\n".join(sorted(self._lines)).encode()).hexdigest()[:16]
