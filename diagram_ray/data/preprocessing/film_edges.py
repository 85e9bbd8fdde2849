"""What lies along the edges of a scanned film and is no breast: white borders, and the glow of a chest wall's edge.

All four edges are treated alike: an edge's `lines` are the image turned so that its first row is the edge; `Depths` are
how far something reaches from it, one number for each position along the edge.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BRIGHT = 0.5
"""Part of the range above which a border is, from the film's edge to the drop that ends it."""
WIDEST_BORDER = 0.1
"""Part of the image's height or width that a border may cover on each side."""
DROP = 0.12
"""Part of the range by which a border is brighter than what follows it within two pixels."""
FADE = 0.03
"""Part of the range above what follows up to which the blurred end of a border belongs to it."""
AFTER = 0.02
"""Part of the image's longer side over which that is looked at."""
OUTERMOST = 0.01
"""Part of the image's height or width that may be darker before the border begins."""
SMOOTH = 0.2
"""Part of an edge over which the border's end is a straight line."""
SLANT = 0.02
"""The most by which the border's end may slant, in pixels a pixel."""
POSITIONS = 0.25
"""Part of an edge along which a border must be seen: the slanting edge of a muscle is no border."""
TAIL = 0.06
"""Part of the image's longer side up to which a tail of the breast's area along an edge may reach into the image, and
along which it must be even: a breast tapers off."""
TAIL_EVEN = 0.25
"""Part by which an even tail may be narrower or wider than its median."""

Float = NDArray[np.float32]
Mask = NDArray[np.bool_]
Depths = NDArray[np.intp]


def film_border(relative: Float) -> Mask:
    """White stripes along the edges of an image (h, w) of grey levels from 0 to 1, with their blurred ends."""
    border = np.zeros(relative.shape, dtype=bool)
    after = max(3, round(AFTER * max(relative.shape)))
    for marked, lines in zip(_edges(border), _edges(relative), strict=True):
        _mark(marked, _border_depths(lines, after))
    return border


def tails(breast: Mask, border: Mask) -> Mask:
    """Where the breast's area runs on along an edge as a narrow stripe: glow of the film's edge, not tissue.

    Beside the breast, scans have a grey stripe along the chest wall's edge, and along the upper and lower one. It fades
    into the film, so that it is recognised by its shape: long, narrow and even, where a breast tapers off.
    """
    stripes = np.zeros(breast.shape, dtype=bool)
    reach = max(2, round(TAIL * max(breast.shape)))
    film = _inside(breast | border)  # some scans are wider than the film
    for marked, inner, outer in zip(_edges(stripes[film]), _edges(breast[film]), _edges(border[film]), strict=True):
        _mark(marked, _tail_depths(inner, outer, reach))
    return stripes & breast


def _inside(mask: Mask) -> tuple[slice, ...]:
    """The bounding box of what is marked, which is not nothing."""
    box: tuple[slice, ...] = ndimage.find_objects(mask.astype(np.uint8))[0]
    return box


def _edges(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Views whose first rows are the image's upper, lower, left and right edge."""
    for turned in (image, image.T):
        yield turned
        yield turned[::-1]


def _mark(lines: Mask, depths: Depths) -> None:
    lines |= np.arange(len(lines))[:, None] < depths


def _border_depths(lines: Float, after: int) -> Depths:
    """How far the border reaches; 0 throughout if there is none."""
    depth = max(1, round(WIDEST_BORDER * len(lines)))
    near = lines[: depth + 1 + after].copy()
    _smooth_over(near, round(OUTERMOST * len(lines)) + 2)
    least = np.minimum.accumulate(near, axis=0)[:depth]
    beyond = _maximum_from(near, after)[2 : depth + 2]
    ends: Mask = (least > BRIGHT) & (least - beyond > DROP)
    last = depth - 1 - ends[::-1].argmax(axis=0)
    across = np.arange(lines.shape[1])
    measured = last + 1 + (near[last + 1, across] > beyond[last, across] + FADE)
    seen = _straight(measured, np.any(ends, axis=0))
    if seen.mean() < POSITIONS:
        return np.zeros(lines.shape[1], dtype=np.intp)
    between = np.interp(across, across[seen], measured[seen]).round().astype(np.intp)
    white = (least > np.median(least[last, across][seen]) - DROP).sum(axis=0)
    depths: Depths = np.where(seen, measured, np.minimum(between, white + (white > 0)))
    return depths


def _smooth_over(lines: NDArray[Any], outermost: int) -> None:
    """Gives the outermost pixels the highest value from there on, among them: a film may be cut a little askew."""
    lines[:outermost] = np.maximum.accumulate(lines[:outermost][::-1], axis=0)[::-1]


def _straight(depths: Depths, seen: Mask) -> Mask:
    """Those of the depths seen that lie on a straight line along the edge: tissue that ends near it slants or bends."""
    if not seen.any():
        return seen
    middle = np.percentile(depths[seen], 50, method="lower")
    seen &= np.abs(depths - middle) <= 1 + SLANT * len(depths) / 2
    places, window = np.flatnonzero(seen), max(3, round(SMOOTH * len(depths)))
    smooth = np.interp(np.arange(len(depths)), places, ndimage.median_filter(depths[places], window, mode="nearest"))
    rise = ndimage.maximum_filter1d(smooth, window // 2) - ndimage.minimum_filter1d(smooth, window // 2)
    straight: Mask = seen & (np.abs(depths - smooth) <= 1) & (rise <= 1)
    return straight


def _maximum_from(lines: Float, length: int) -> Float:
    """The maximum of `length` pixels in each column, this one the first."""
    maxima: Float = ndimage.maximum_filter1d(lines, length, axis=0, origin=-(length // 2), mode="nearest")
    return maxima


def _tail_depths(breast: Mask, border: Mask, reach: int) -> Depths:
    """How far the breast's area is to be cut; 0 where it is none of a tail."""
    outside = _run(border)
    either = (breast | border)[: reach + 1 + int(outside.max())]
    _smooth_over(either, round(OUTERMOST * len(breast)) + 2)
    runs = _run(either) - outside
    short, count = ndimage.label((runs > 0) & (runs <= reach))
    beside = ndimage.binary_dilation(runs > reach)
    depths = np.zeros(len(runs), dtype=np.intp)
    for number in range(1, count + 1):
        tail = short == number
        middle = float(np.median(runs[tail]))
        even = tail & (np.abs(runs - middle) <= TAIL_EVEN * middle + 1)
        if even.sum() >= reach and beside[tail].any():
            narrow = tail & (runs <= (1 + TAIL_EVEN) * middle + 1)
            depths[narrow] = (runs + outside)[narrow]
    return depths


def _run(lines: Mask) -> Depths:
    """Pixels from the edge on in each column."""
    run: Depths = np.logical_and.accumulate(lines, axis=0).sum(axis=0)
    return run
