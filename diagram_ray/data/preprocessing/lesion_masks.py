"""Regions that pictures of their own outline: CBIS-DDSM's masks, each among files of which one is the mask.

The pixels decide what is the mask and what a crop of the lesion, because both files' names and the description of their
series err: a mask has two values, a crop has many. A mask may have been drawn on a copy of the image at another scale;
its box is brought to the image's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.mammogram import read_stored
from diagram_ray.data.records import Mask, Region
from diagram_ray.errors import DataError

MOST_CANDIDATES = 8
"""Files read for one mask. CBIS-DDSM has two: the mask and the crop."""
DISTORTION = 0.05
"""Part by which the aspect ratios of a mask and its image may differ. CBIS-DDSM's differ by under 0.01."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class _Picture:
    """What matters of a candidate."""

    shape: tuple[int, int]
    levels: int
    """1 (blank), 2 (a mask) or 3 for many."""
    box: tuple[int, int, int, int] | None
    """(top, left, bottom, right) of the higher of two values."""
    called_mask: bool


def regions(masks: tuple[Mask, ...], shape: tuple[int, int]) -> tuple[Region, ...]:
    """The region that each mask outlines, its box in pixels of an image of `shape` (rows, columns).

    Raises DataError if one of them is not there, is empty, is not to be told from another, or is of an image of other
    proportions. An image with a lesion at an unknown place is of no use for patches: a square of its background may
    hold the lesion. So `prepare_image` rejects it, with this reason.
    """
    return tuple(_region(mask, f"mask {number} of {len(masks)}", shape) for number, mask in enumerate(masks, start=1))


def _region(mask: Mask, name: str, shape: tuple[int, int]) -> Region:
    try:
        picture = _chosen(mask.paths, shape)
        return Region(_scaled(picture, shape), mask.finding, mask.label)
    except DataError as error:
        raise DataError(f"{name} ({mask.finding}): {error}") from None


def _chosen(paths: tuple[str, ...], shape: tuple[int, int]) -> _Picture:
    """The one candidate that is a mask."""
    if len(paths) > MOST_CANDIDATES:
        raise DataError(f"{len(paths)} files may be it; at most {MOST_CANDIDATES} are read")
    pictures, flaws = [], []
    for path in paths:
        try:
            pictures.append(_read(path))
        except DataError as error:
            flaws.append(str(error))
    masks = [picture for picture in pictures if picture.levels == 2]
    if len(masks) > 1:
        masks = [picture for picture in masks if _fits(picture.shape, shape)] or masks
    if len(masks) > 1:
        masks = [picture for picture in masks if picture.called_mask] or masks
    if len(masks) > 1:
        raise DataError(f"{len(masks)} files are masks, of {' and '.join(_size(one.shape) for one in masks)} pixels")
    if not masks:
        raise DataError("; ".join([f"none of {len(paths)} files is a mask", *map(_description, pictures), *flaws]))
    return masks[0]


def _read(path: str) -> _Picture:
    pixels, called_mask = read_stored(path)
    if pixels.ndim != 2:
        raise DataError(f"a picture of {pixels.ndim} dimensions")
    low, high = pixels.min(), pixels.max()
    if low == high:
        return _Picture((pixels.shape[0], pixels.shape[1]), 1, None, called_mask)
    inside = pixels == high
    if not (inside | (pixels == low)).all():
        return _Picture((pixels.shape[0], pixels.shape[1]), 3, None, called_mask)
    return _Picture((pixels.shape[0], pixels.shape[1]), 2, _bounds(inside), called_mask)


def _bounds(inside: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _scaled(picture: _Picture, shape: tuple[int, int]) -> Box:
    """The box in the image. Its edges are scaled, as if the mask were resized; a small lesion cannot get lost so."""
    if not _fits(picture.shape, shape):
        raise DataError(f"is {_size(picture.shape)} pixels, which are not the proportions of its image, {_size(shape)}")
    assert picture.box is not None  # noqa: S101 - it has two values
    down, across = (image / mask for image, mask in zip(shape, picture.shape, strict=True))
    top, left, bottom, right = picture.box
    return top * down, left * across, bottom * down, right * across


def _fits(mask: tuple[int, int], image: tuple[int, int]) -> bool:
    """Whether the proportions are the same, but for rows or columns that one of the two lost."""
    return abs(mask[0] * image[1] / (mask[1] * image[0]) - 1) <= DISTORTION


def _description(picture: _Picture) -> str:
    what = "blank" if picture.levels == 1 else "of many grey levels, as a crop"
    return f"one has {_size(picture.shape)} pixels and is {what}"


def _size(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}"
