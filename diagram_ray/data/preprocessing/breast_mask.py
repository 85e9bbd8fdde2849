"""Where the breast is on a film, and what else is: letters, stickers, white borders. On a copy of about 512 pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import isotropic_opening

from diagram_ray.data.preprocessing.film_edges import film_border, tails
from diagram_ray.errors import DataError

EXTREME = 0.05
"""Part of an image's range, at either end, in which a pixel may be background."""
UNDECIDED = 0.05
"""Difference between the parts of nearly white and nearly black pixels below which the header tells the polarity."""
TISSUE = 0.06
"""Part of the range between background and white above which a pixel is tissue rather than background."""
BACKGROUND = 0.1
"""Part of the range below which the commonest grey level is the background's."""
HAZE = 0.2
"""Part of the range below which the background ends, however uneven it is."""
FEW = 0.1
"""Part of that level's pixels below which a level is no longer background."""
BRIGHT = 0.5
"""Part of the range above which what is outside the breast is a film label: letters, stickers, tape."""
SMALLEST_BREAST = 0.04
"""Part of the image that the breast must cover."""
AMBIGUOUS = 0.06
"""Where the halves of the breast differ by less than this part of its area, the laterality decides its side."""
STICKER = (0.001, 0.03)
"""Part of the image that a white sticker covers."""
STICKER_WHITE = 0.93
"""Part of the range between the image's darkest and brightest pixel above which a sticker is, but for its letters."""
STICKER_FILLS = 0.6
"""Part of its bounding box that a sticker fills, with its letters."""
STICKER_ALONE = 0.45
"""Part of a sticker's surroundings that is darker than BRIGHT tissue."""

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Anatomy:
    """What is where; all masks are of the working copy's shape."""

    breast: Mask
    labels: Mask
    """Bright things outside the breast, without the film border."""
    border: Mask
    """White stripes along the edges."""
    tails: Mask
    """Grey stripes along the edges that led off the breast."""


def is_inverted(small: Float, header: bool) -> bool:
    """Whether the background is bright.

    A mammogram's background is a large even area at one end of the grey scale. Tissue, labels and film borders at the
    other end are smaller. Where the two ends hold about as many pixels, the header's word counts.
    """
    relative = _relative(small)
    bright, dark = float((relative > 1 - EXTREME).mean()), float((relative < EXTREME).mean())
    return header if abs(bright - dark) < UNDECIDED else bright > dark


def find_breast(small: Float) -> Anatomy:
    """The breast is the largest connected area of tissue, its holes filled. Raises DataError if it is too small.

    `small` (h, w): tissue brighter than the background. A sticker that touches the breast is cut off, and so is the
    glow that runs on from it along the film's edge.
    """
    relative = _relative(small)
    border = film_border(relative)
    tissue = (relative > _end_of_background(relative)) & ~border
    breast = _largest(tissue)
    sticker, cut = _sticker(small, breast), tails(breast, border)
    if sticker.any() or cut.any():
        breast = _largest(tissue & ~sticker & ~cut)
    cut &= ~breast
    return Anatomy(breast, _labels((relative > BRIGHT) & ~breast & ~border & ~cut, breast), border, cut)


def _end_of_background(relative: Float) -> float:
    """The grey level from which on a pixel is tissue.

    The background is the commonest of the dark levels; where it is uneven, as on scans that kept the film's own haze,
    it ends where few pixels are left of it.
    """
    width = 0.005
    counts, edges = np.histogram(relative, np.arange(-EXTREME, HAZE + width, width))
    counts = np.convolve(counts, np.ones(3) / 3, "same")
    peak = int(counts[edges[1:] < BACKGROUND].argmax())
    few = np.flatnonzero(counts[peak:] < FEW * counts[peak])
    level = max(float(edges[peak]), float(np.median(relative[relative < EXTREME])))
    return max(level + TISSUE, float(edges[peak + few[0]]) if few.size else 0)


def chest_wall_is_right(breast: Mask, laterality: str | None) -> bool:
    """The chest wall is where the breast is tallest: its half of the bounding box holds more of the breast."""
    columns = breast.sum(axis=0)[np.flatnonzero(breast.any(axis=0))[0] :]
    columns = np.trim_zeros(columns, "b")
    half = len(columns) // 2
    difference = float(columns[len(columns) - half :].sum() - columns[:half].sum()) / float(columns.sum())
    if abs(difference) < AMBIGUOUS and laterality is not None:
        return laterality == "R"
    return difference > 0


def _labels(bright: Mask, breast: Mask) -> Mask:
    """What is bright outside the breast, without what touches it: that is skin, which the opening has cut off."""
    parts, count = ndimage.label(bright)
    skin = np.zeros(count + 1, dtype=bool)
    skin[parts[ndimage.binary_dilation(breast, iterations=2)]] = True
    return bright & ~skin[parts]


def _relative(small: Float) -> Float:
    """0 to 1 for nearly all pixels, so that a few odd ones do not set the scale."""
    low, high = np.percentile(small, (0.5, 99.5))
    relative: Float = (small - low) / max(float(high - low), 1e-12)
    return relative


def _largest(tissue: Mask) -> Mask:
    labels, count = ndimage.label(_opened(tissue, radius=max(1, round(max(tissue.shape) / 100))))
    if count:
        sizes = np.bincount(labels.ravel())
        sizes[0] = 0
        breast: Mask = ndimage.binary_fill_holes(labels == sizes.argmax())
        if breast.mean() >= SMALLEST_BREAST:
            return breast
    raise DataError(f"no breast found: nothing brighter than the background covers {SMALLEST_BREAST:.0%} of the image")


def _opened(tissue: Mask, radius: int) -> Mask:
    """Tissue without what is narrower than a disk of `radius`; at the image's edge the breast is taken to go on.

    It goes on as its mirror image: a bright line along the film's edge, which joins labels to the breast, stays narrow.
    """
    opened: Mask = isotropic_opening(np.pad(tissue, radius, mode="symmetric"), radius)  # type: ignore[no-untyped-call]
    return opened[radius:-radius, radius:-radius]


def _sticker(small: Float, breast: Mask) -> Mask:
    """White stickers that the breast's area runs into, with a margin.

    A sticker is evenly white, compact, and lies on dark film. So do implants and folds of skin; but these reach the
    third of the breast at the chest wall, where no sticker is.
    """
    relative = (small - small.min()) / max(float(np.ptp(small)), 1e-12)
    white = ndimage.binary_opening((relative > STICKER_WHITE) & breast)
    labels, _ = ndimage.label(ndimage.binary_fill_holes(white))
    stickers = np.zeros(breast.shape, dtype=bool)
    allowed = _outer_columns(breast)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        area = int((labels[box] == number).sum())
        if not STICKER[0] < area / breast.size < STICKER[1] or area < STICKER_FILLS * labels[box].size:
            continue
        sticker = labels == number
        around = ndimage.binary_dilation(sticker, iterations=8) & ~ndimage.binary_dilation(sticker, iterations=3)
        if allowed[box[1]].all() and (relative[around] < BRIGHT).mean() > STICKER_ALONE:
            stickers |= ndimage.binary_dilation(sticker, iterations=4)
    return stickers


def _outer_columns(breast: Mask) -> Mask:
    """The columns beyond the third of the breast that is at its chest wall."""
    inside = np.flatnonzero(breast.any(axis=0))
    first, last = int(inside[0]), int(inside[-1]) + 1
    third = (last - first) // 3
    outer = np.ones(breast.shape[1], dtype=bool)
    outer[last - third :] = not chest_wall_is_right(breast, None)
    outer[: first + third] = chest_wall_is_right(breast, None)
    return outer
