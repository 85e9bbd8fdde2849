"""What `prepare` does to one image: decode, standardise, cut patches. It does not know who runs it, or where.

Identities leave here as keyed hashes (`identities`): of patients, of exams, and of an image whose own id contains its
patient's.
"""

import hashlib
import json
import traceback
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.kind import USUAL, Allowed
from diagram_ray.data.decoding.mammogram import Mammogram, read_mammogram
from diagram_ray.data.preprocessing import lesion_masks
from diagram_ray.data.preprocessing.pseudonyms import anonymous, hidden, names, source_folder
from diagram_ray.data.preprocessing.pseudonyms import anonymous_rejects as anonymous_rejects
from diagram_ray.data.preprocessing.pseudonyms import common_root as common_root
from diagram_ray.data.preprocessing.pseudonyms import keyed_hash as keyed_hash
from diagram_ray.data.preprocessing.standardise import (
    Box,
    Standardised,
    background_boxes,
    cut_patch,
    square_around,
    standardise,
)
from diagram_ray.data.records import BACKGROUND, ROI, ImageRecord, Region, Reject
from diagram_ray.errors import DataError

BACKGROUND_PART = 1 / 8
"""Side of a background patch as a part of the breast's height: about 25 mm, as a lesion with its surroundings."""


@dataclass(frozen=True)
class Options:
    """How images are prepared."""

    image_size: tuple[int, int]
    """Height and width (H, W) of the prepared images."""
    patch_size: int
    background_patches: int
    """Wanted per image; small breasts may give fewer."""
    key: bytes = field(repr=False)
    """The secret key of the hashes."""
    negative: str
    """The class of background patches."""
    root: str = ""
    """The folder that the data set's files are in: the manifest has each image's folder inside it."""
    allowed: Allowed = USUAL
    """DICOM images that are taken although they are no mammograms, or FOR PROCESSING."""


@dataclass(frozen=True)
class Prepared:
    """One image, ready to be written."""

    manifest: dict[str, Any]
    pixels: NDArray[np.uint16]
    """The pixels of the image, (H, W)."""
    patches: list[dict[str, Any]]
    """Rows of patches/ without their pixels."""
    patch_pixels: NDArray[np.uint16]
    """The pixels of the patches, (P, s, s)."""


def prepare_image(record: ImageRecord, options: Options) -> Prepared | Reject:
    """Prepares one image, or says why it cannot be used. It raises nothing, and neither result tells the patient."""
    try:
        return _prepare(record, options)
    except DataError as error:
        reason = str(error)
    except MemoryError:
        reason = "does not fit in memory"
    except Exception as error:  # a fault of this program; one image must not end the whole, nor its values be logged
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = f"could not be prepared ({type(error).__name__} in {Path(place.filename).name}, line {place.lineno})"
    return anonymous(Reject(record.path, reason, record.patient_id), options.root, options.key)


def _prepare(record: ImageRecord, options: Options) -> Prepared:
    if any("\ud800" <= letter <= "\udfff" for letter in record.path):
        raise DataError("the name of the file or of a folder it is in is no text; rename it")
    mammogram = read_mammogram(record.path, record.film, options.allowed)
    standard = standardise(mammogram, options.image_size, record.laterality)
    height, width = standard.crop[2] - standard.crop[0], standard.crop[3] - standard.crop[1]
    if min(height, width) < options.patch_size:
        raise DataError(
            f"the breast is {height} x {width} pixels, smaller than a patch of "
            f"{options.patch_size} x {options.patch_size}"
        )
    boxes = _boxes(_regions(record, mammogram), mammogram.pixels.shape, standard, options)
    image_id = image_id_of(record, options.key)
    patches = [
        {
            "patch_id": f"{image_id}-{number:03d}",
            "image_id": image_id,
            "patient_id": keyed_hash(options.key, record.patient_id),
            "box": [float(edge) for edge in box],
            **columns,
        }
        for number, (box, columns) in enumerate(boxes)
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
        "burned_in": mammogram.burned_in,
        "rows": mammogram.pixels.shape[0],
        "columns": mammogram.pixels.shape[1],
        "source_folder": source_folder(record, options.root, options.key),
        "inverted": standard.inverted,
        "mirrored": standard.mirrored,
        "breast_part": round(standard.breast_part, 4),
        **standard.film,
        "digest": pixel_digest(standard.pixels),
    }
    empty = np.zeros((0, options.patch_size, options.patch_size), dtype=np.uint16)
    return Prepared(manifest, standard.pixels, patches, np.stack(cuts) if cuts else empty)


def _regions(record: ImageRecord, mammogram: Mammogram) -> tuple[Region, ...]:
    rows, columns = mammogram.pixels.shape
    return record.regions + lesion_masks.regions(record.masks, (rows, columns))


def _boxes(
    regions: tuple[Region, ...], shape: tuple[int, ...], standard: Standardised, options: Options
) -> list[tuple[Box, dict[str, Any]]]:
    """The squares to cut: around each region, and at random places of the breast that depend on the image alone."""
    boxes: list[tuple[Box, dict[str, Any]]] = []
    for region in regions:
        _check_inside(region.box, shape)
        top, left, side = square_around(region.box, shape)
        columns = {"kind": ROI, "finding": region.finding, "label": region.label}
        boxes.append(((top, left, top + side, left + side), columns))
    random = np.random.default_rng(int(pixel_digest(standard.pixels)[:16], 16))
    avoid = [region.box for region in regions]
    columns = {"kind": BACKGROUND, "finding": None, "label": options.negative}
    squares = background_boxes(standard, avoid, options.background_patches, BACKGROUND_PART, random)
    return boxes + [(box, columns) for box in squares]


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
            shown = doubled
            for patient in patients:
                shown = hidden(shown, patient, "...")
            raise DataError(f"{what} {shown!r} stands {counts[doubled]} times, for {len(patients)} patient(s)")


def image_id_of(record: ImageRecord, key: bytes) -> str:
    """The image's id in the dataset: the source's own, or its keyed hash if that identifies the patient."""
    return keyed_hash(key, record.image_id) if names(record.image_id, record.patient_id) else record.image_id


def pixel_digest(pixels: NDArray[np.uint16]) -> str:
    """SHA-256 of the pixels alone, in hexadecimal digits."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def digest_of(prepared: Prepared) -> str:
    """The digest of all that is said of one image and its patches; the image's pixels count by the manifest's
    digest."""
    content = [prepared.manifest, prepared.patches, pixel_digest(prepared.patch_pixels)]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def fingerprint(settings: dict[str, Any], digests: Iterable[str]) -> str:
    """The fingerprint of a dataset: 16 hexadecimal digits that stand for all a dataset says, whatever the order in
    which it was prepared."""
    lines = [json.dumps(settings, sort_keys=True), *sorted(digests)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
