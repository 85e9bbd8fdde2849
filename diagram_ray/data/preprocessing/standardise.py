"""A decoded mammogram becomes the picture that networks see, and patches in the same polarity, side and grey scale.

    stored pixels -> polarity undone -> film borders trimmed -> breast found -> cropped -> chest wall to the left
                  -> grey levels from the breast's own range to 1..65535, background 0 -> resized, padded

The breast is found on a copy of about 512 pixels; the crop and the resizing work on the full image.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diagram_ray.data.decoding.mammogram import Mammogram
from diagram_ray.data.preprocessing.breast_mask import (
    Anatomy,
    chest_wall_is_right,
    find_breast,
    is_inverted,
)
from diagram_ray.errors import DataError

WORKING_SIDE = 512
"""The breast is found at about this many pixels on the longer side."""
LEVELS = 65535
RANGE = (1.0, 99.9)
"""Percentiles of the breast's grey levels that become 0 and 65535. A tenth of the pixels are brighter in 0.5 % of
CBIS-DDSM's mass boxes; brighter than the 99.5th percentile in 14 %."""
SHARES = (5, 25, 50, 75, 95)
"""Percentiles of the breast's grey levels that are recorded."""

Float = NDArray[np.float32]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Standardised:
    """A mammogram made comparable, and how it was made, so that a region can follow it."""

    pixels: NDArray[np.uint16]
    """The pixels (H, W): 0 is background alone, 1 the breast's darkest, 65535 its brightest; the chest wall is at the
    left."""
    inverted: bool
    """Bright was dark in the file."""
    mirrored: bool
    """The chest wall was on the right."""
    crop: tuple[int, int, int, int]
    """The box (top, left, bottom, right) of the breast in original pixels."""
    scale: float
    """Output pixels per original pixel."""
    offset: int
    """Rows of padding above the breast."""
    levels: tuple[float, float]
    """The original grey levels (after undoing the polarity) that became 0 and 65535. The breast's own 0 is 1 in
    `pixels`, and stays 0 in patches."""
    breast: NDArray[np.bool_]
    """The breast on the working copy."""
    foreign: NDArray[np.bool_]
    """Film labels, white borders and glow along the edges on the working copy: blanked wherever they come into a
    picture."""
    working_factor: int
    """Original pixels per pixel of the working copy."""
    film: dict[str, float]
    """Features of the film beyond the breast: label_part and border_part, the parts of the image that are bright labels
    outside the breast and white film border; and of the breast's grey levels, polarity undone, in parts of the image's
    range: grey_mean, grey_sd, and the percentiles grey_p05 to grey_p95."""

    def to_output(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where original (row, column) points (N, 2) lie in `pixels`."""
        top, left, _, right = self.crop
        rows = (points[:, 0] - top) * self.scale + self.offset
        columns = right - points[:, 1] if self.mirrored else points[:, 1] - left
        return np.stack([rows, columns * self.scale], axis=1)

    @cached_property
    def breast_part(self) -> float:
        """The part of the image that the breast covers."""
        return float(self.breast.mean())


def standardise(mammogram: Mammogram, size: tuple[int, int], laterality: str | None = None) -> Standardised:
    """The picture of a mammogram at `size` (H, W). Raises DataError if no breast is found.

    `laterality` ('L' or 'R') is believed only where the breast's shape does not tell its side: headers err.
    """
    factor = max(1, round(max(mammogram.pixels.shape) / WORKING_SIDE))
    small = _shrink(mammogram.pixels, factor)
    inverted = is_inverted(small, mammogram.inverted)
    if inverted:
        small = -small
    anatomy = find_breast(small)
    breast = anatomy.breast
    mirrored = chest_wall_is_right(breast, laterality or mammogram.laterality)
    crop = _crop(breast, factor, mammogram.pixels.shape)
    tissue = small[ndimage.binary_erosion(breast, iterations=2, border_value=1)]
    low, high = np.percentile(tissue, RANGE) if tissue.size else (0.0, 0.0)
    if not high > low:
        raise DataError("the breast is too narrow, or has one grey level only")
    scale = min(size[0] / (crop[2] - crop[0]), size[1] / (crop[3] - crop[1]))
    shape = _scaled_shape(crop, scale, size)
    picture = _resize(mammogram.pixels, crop, shape)
    inside = _resize(breast.astype(np.float32), tuple(edge / factor for edge in crop), shape) > 0.5
    levels = np.maximum(_to_levels(-picture if inverted else picture, (float(low), float(high))), 1) * inside
    pixels, offset = _place(levels, size, mirrored)
    return Standardised(
        pixels, inverted, mirrored, crop, scale, offset, (float(low), float(high)), breast,
        anatomy.labels | anatomy.border | anatomy.tails, factor, _film(small, anatomy),
    )  # fmt: skip


def cut_patch(mammogram: Mammogram, standard: Standardised, box: Box, patch_size: int) -> NDArray[np.uint16]:
    """The smallest square that holds `box` (top, left, bottom, right; original pixels), at patch_size (s, s).

    The square is shifted, never stretched, where it would leave the image (paper Sect. 3).
    """
    top, left, side = square_around(box, mammogram.pixels.shape)
    cut = _resize(mammogram.pixels, (top, left, top + side, left + side), (patch_size, patch_size))
    levels = _to_levels(-cut if standard.inverted else cut, standard.levels)
    edges = tuple(edge / standard.working_factor for edge in (top, left, top + side, left + side))
    if standard.foreign.any():
        levels *= _resize(standard.foreign.astype(np.float32), edges, (patch_size, patch_size)) < 0.5
    return np.ascontiguousarray(levels[:, ::-1] if standard.mirrored else levels).round().astype(np.uint16)


def square_around(box: Box, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """The place (top, left, side) of the smallest square that holds `box` and lies inside an image of `shape`."""
    top, left, bottom, right = box
    side = min(max(bottom - top, right - left, 1.0), float(shape[0]), float(shape[1]))
    return (
        float(np.clip((top + bottom - side) / 2, 0, shape[0] - side)),
        float(np.clip((left + right - side) / 2, 0, shape[1] - side)),
        side,
    )


def background_boxes(
    standard: Standardised, regions: list[Box], count: int, part: float, random: np.random.Generator
) -> list[Box]:
    """The boxes of up to `count` squares inside the breast that touch no region. Their side is `part` of the breast's
    height."""
    factor = standard.working_factor
    side = max(2, round((standard.crop[2] - standard.crop[0]) * part / factor))
    free = standard.breast.copy()
    for top, left, bottom, right in regions:
        free[int(top // factor) : int(bottom // factor) + 1, int(left // factor) : int(right // factor) + 1] = False
    sums = np.pad(free.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    filled = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    corners = np.argwhere(filled == side * side) * factor
    chosen = corners[random.permutation(len(corners))[:count]]
    return [
        (float(row), float(column), float(row + side * factor), float(column + side * factor)) for row, column in chosen
    ]


def _film(small: Float, anatomy: Anatomy) -> dict[str, float]:
    """`Standardised.film`, from the working copy."""
    greys = (small[anatomy.breast] - small.min()) / max(float(np.ptp(small)), 1e-12)
    numbers = {
        "label_part": anatomy.labels.mean(),
        "border_part": anatomy.border.mean(),
        "grey_mean": greys.mean(),
        "grey_sd": greys.std(),
    }
    shares = np.percentile(greys, SHARES)
    numbers |= {f"grey_p{share:02d}": value for share, value in zip(SHARES, shares, strict=True)}
    return {name: round(float(value), 4) for name, value in numbers.items()}


def _shrink(pixels: Float, factor: int) -> Float:
    """Means of factor × factor blocks; a rest at the bottom and right edge is left out."""
    rows, columns = (length // factor for length in pixels.shape)
    # Rows first: whole rows are added as vectors, and sums of 16-bit greys fit float32 exactly.
    tall = pixels[: rows * factor, : columns * factor].reshape(rows, factor, columns * factor)
    sums = tall.sum(axis=1, dtype=np.float32).reshape(rows, columns, factor).sum(axis=2, dtype=np.float32)
    means: Float = sums / np.float32(factor * factor)
    return means


def _crop(breast: NDArray[np.bool_], factor: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The breast's bounding box in original pixels; to the very edge where only a rest of a block lies beyond it."""
    edges = []
    for axis, length in ((1, shape[0]), (0, shape[1])):
        inside = np.flatnonzero(breast.any(axis=axis))
        last = (int(inside[-1]) + 1) * factor
        edges.append((int(inside[0]) * factor, length if length - last < factor else last))
    (top, bottom), (left, right) = edges
    return top, left, bottom, right


def _scaled_shape(crop: tuple[int, int, int, int], scale: float, size: tuple[int, int]) -> tuple[int, int]:
    height, width = (round((crop[axis + 2] - crop[axis]) * scale) for axis in (0, 1))
    return min(size[0], max(1, height)), min(size[1], max(1, width))


def _resize(pixels: Float, box: tuple[float, ...], shape: tuple[int, int]) -> Float:
    """What is inside `box` (top, left, bottom, right) at `shape`, averaged where it shrinks (triangle filter)."""
    top, left = box[:2]
    bottom, right = (min(edge, length) for edge, length in zip(box[2:], pixels.shape, strict=True))
    # Pillow copies what it is given, and a film has 50 MB: cut first. Its filter reaches an output pixel farther.
    down, across = (
        math.ceil(max(1.0, length / target)) + 1
        for length, target in zip((bottom - top, right - left), shape, strict=True)
    )
    row, column = max(0, int(top) - down), max(0, int(left) - across)
    cut = pixels[row : math.ceil(bottom) + down, column : math.ceil(right) + across]
    inside = (left - column, top - row, right - column, bottom - row)
    resized = Image.fromarray(np.ascontiguousarray(cut)).resize(shape[::-1], Image.Resampling.BILINEAR, box=inside)
    return np.asarray(resized, dtype=np.float32)


def _to_levels(picture: Float, levels: tuple[float, float]) -> Float:
    low, high = levels
    scaled: Float = np.clip((picture - low) / (high - low), 0.0, 1.0) * LEVELS
    return scaled


def _place(levels: Float, size: tuple[int, int], mirrored: bool) -> tuple[NDArray[np.uint16], int]:
    """The pixels on a black picture of `size`, chest wall at the left edge, centred vertically."""
    height, width = levels.shape
    offset = (size[0] - height) // 2
    placed = np.zeros(size, dtype=np.uint16)
    placed[offset : offset + height, :width] = (levels[:, ::-1] if mirrored else levels).round().astype(np.uint16)
    return placed, offset
