"""INbreast's outlines: the Apple property lists AllXML/<file id>.xml that OsiriX wrote (Moreira et al. 2012).

{Images: [{ROIs: [{Name, Type, Area, NumberOfPoints, Point_px: ["(x, y)", ...], ...}]}]}. x is the column and y the row,
from the top left corner. Type 15 is a closed outline, 19 a single point (one calcification). Area is in cm2.
"""

import math
import plistlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy

from diagram_ray.data.records import Region
from diagram_ray.errors import DataError

MAX_BYTES = 8 << 20
MAX_ROIS = 2000
MAX_COORDINATE = 100_000.0
MIN_SIDE_MM = 3.0
"""Least side of a region: an outline of a few pixels would be blown up to a patch of one grey."""
GROUP_MM = 10.0
"""Calcifications within a square of this side are one region of this size. Radiologists call several within 1 cm a
group (BI-RADS); one alone is far smaller than a patch, and what is around it says what it is."""
MIN_CHECKED_CM2 = 0.05
"""Areas below this are a few pixels and say nothing of the scale: real ones are 20 % off the outline's own."""
SCALE_TOLERANCE = 0.2
OUTLINE, POINT = 15, 19

CALCIFICATION = "calcification"
FINDINGS = {
    "mass": "mass",
    "calcification": CALCIFICATION,
    "calcifications": CALCIFICATION,
    "cluster": "cluster",
    "spiculated region": "spiculated region",
    "espiculated region": "spiculated region",
    "asymmetry": "asymmetry",
    "assymetry": "asymmetry",
    "distortion": "distortion",
}
UNNAMED = "unnamed"

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_POINT = re.compile(rf"\s*\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)\s*", re.ASCII)

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Outline:
    """One ROI. `points` is (n, 2) float64, (x, y) in pixels."""

    finding: str
    points: NDArray[np.float64]
    area_cm2: float


@dataclass(frozen=True)
class Annotation:
    """The ROIs of one image, and one sentence for each that could not be used."""

    outlines: tuple[Outline, ...]
    problems: tuple[str, ...]


def parse_point(text: object) -> tuple[float, float]:
    """The point (x, y) of a Point_px string. Raises DataError if it is not two finite coordinates of an image."""
    match = _POINT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise DataError(f"point {_short(text)} is not of the form '(x, y)'")
    x, y = float(match[1]), float(match[2])
    if not (abs(x) <= MAX_COORDINATE and abs(y) <= MAX_COORDINATE):
        raise DataError(f"point {_short(text)} is farther than {MAX_COORDINATE:.0f} pixels from the image's corner")
    return x, y


def parse_annotation(data: bytes) -> Annotation:
    """Reads one XML file. An ROI that is malformed becomes a problem; the others stay.

    Raises DataError if the file as a whole is not such a property list, declares entities, is longer than 8 MiB or has
    more than 2000 ROIs.
    """
    outlines, problems = [], []
    for number, roi in enumerate(_rois(_load(data)), start=1):
        if number > MAX_ROIS:
            raise DataError(f"it has more than {MAX_ROIS} ROIs")
        try:
            outlines.append(_outline(roi))
        except DataError as error:
            problems.append(f"ROI {number}: {error}")
    return Annotation(tuple(outlines), tuple(problems))


def implied_spacing(outlines: tuple[Outline, ...]) -> float | None:
    """Size of a pixel in mm at which the outlines have the areas written beside them; None if they are too small."""
    pixels = math.fsum(_polygon_area(outline.points) for outline in outlines)
    square_mm = 100.0 * math.fsum(outline.area_cm2 for outline in outlines)
    if square_mm < 100.0 * MIN_CHECKED_CM2 or pixels <= 0.0:
        return None
    return math.sqrt(square_mm / pixels)


def check_scale(outlines: tuple[Outline, ...], spacing_mm: float) -> None:
    """Raises DataError if the written areas differ by more than 20 % from the outlines' own at `spacing_mm`."""
    implied = implied_spacing(outlines)
    if implied is not None and abs((implied / spacing_mm) ** 2 - 1.0) > SCALE_TOLERANCE:
        raise DataError(f"its areas (cm2) fit pixels of {implied:.3f} mm, but the image has {spacing_mm:.3f} mm")


def regions(
    outlines: tuple[Outline, ...], label: str | None, spacing_mm: float, shape: tuple[int, int] | None
) -> tuple[Region, ...]:
    """Bounding boxes of the outlines, each at least 3 mm high and wide, within an image of `shape` (H, W) if known.

    Calcifications smaller than 10 mm are joined to groups of 10 mm: some images were marked speck by speck, and
    hundreds of almost equal boxes would outweigh every mass. Raises DataError for an outline outside of the image.
    """
    least, group = MIN_SIDE_MM / spacing_mm, GROUP_MM / spacing_mm
    boxes = [(outline.finding, _box(outline.points)) for outline in outlines]
    specks = [box for finding, box in boxes if finding == CALCIFICATION and _side(box) < group]
    rest = [
        (finding, _fit(box, least, shape))
        for finding, box in boxes
        if not (finding == CALCIFICATION and _side(box) < group)
    ]
    joined = [(CALCIFICATION, _fit(box, group, shape)) for box in _groups(specks, group)]
    return tuple(Region(box, finding, label) for finding, box in rest + joined)


def _load(data: bytes) -> Any:
    if len(data) > MAX_BYTES:
        raise DataError(f"it has {len(data)} bytes; an annotation has at most {MAX_BYTES}")
    try:
        return plistlib.loads(data, fmt=plistlib.FMT_XML)
    except Exception as error:  # expat and plistlib raise many kinds; none of them may stop the indexing
        raise DataError(f"it is not an XML property list ({type(error).__name__})") from None


def _rois(document: Any) -> Iterator[Any]:
    for image in _list(document, "Images"):
        yield from _list(image, "ROIs")


def _list(value: Any, key: str) -> list[Any]:
    items = value.get(key) if isinstance(value, dict) else None
    if not isinstance(items, list):
        raise DataError(f"it has no list {key!r} where one is expected")
    return items


def _outline(roi: Any) -> Outline:
    if not isinstance(roi, dict):
        raise DataError("it is not a dictionary")
    kind = roi.get("Type", OUTLINE)
    if kind not in (OUTLINE, POINT):
        raise DataError(f"Type {_short(kind)} is neither {OUTLINE} (outline) nor {POINT} (point)")
    points = [parse_point(text) for text in _list(roi, "Point_px")]
    if not points:
        raise DataError("it has no points")
    if roi.get("NumberOfPoints", len(points)) != len(points):
        raise DataError(f"NumberOfPoints is {_short(roi['NumberOfPoints'])}, but {len(points)} points follow")
    return Outline(_finding(roi.get("Name")), np.array(points, dtype=np.float64), _area(roi.get("Area", 0.0)))


def _finding(name: object) -> str:
    """Stray names ('Point 1', 'Unnamed', blank) are kept as lesions of no name, so that nothing is cut there."""
    return FINDINGS.get(" ".join(name.lower().split()), UNNAMED) if isinstance(name, str) else UNNAMED


def _area(value: object) -> float:
    if isinstance(value, int | float) and 0.0 <= value < 1e4:
        return float(value)
    raise DataError(f"Area {_short(value)} is not a number of cm2")


def _polygon_area(points: NDArray[np.float64]) -> float:
    x, y = points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _box(points: NDArray[np.float64]) -> Box:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(top), float(left), float(bottom), float(right)


def _side(box: Box) -> float:
    top, left, bottom, right = box
    return max(bottom - top, right - left)


def _groups(boxes: list[Box], side: float) -> list[Box]:
    """Joins boxes whose centres lie within a square of `side` (complete linkage: chains do not grow beyond it)."""
    corners = np.unique(np.round(np.array(boxes, dtype=np.float64).reshape(-1, 4)), axis=0)
    if len(corners) < 2:
        return boxes[:1]
    centres = (corners[:, :2] + corners[:, 2:]) / 2
    group = hierarchy.fcluster(hierarchy.linkage(centres, "complete", "chebyshev"), side, "distance")
    return [_around(corners[group == number]) for number in np.unique(group)]


def _around(corners: NDArray[np.float64]) -> Box:
    (top, left), (bottom, right) = corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)
    return float(top), float(left), float(bottom), float(right)


def _fit(box: Box, least: float, shape: tuple[int, int] | None) -> Box:
    height, width = shape or (math.inf, math.inf)
    top, bottom = _grow(box[0], box[2], least, height)
    left, right = _grow(box[1], box[3], least, width)
    return top, left, bottom, right


def _grow(low: float, high: float, least: float, limit: float) -> tuple[float, float]:
    """The interval about its centre with at least the length `least`, cut off at 0 and `limit`."""
    half = max(high - low, least) / 2
    centre = (low + high) / 2
    if not 0.0 <= centre <= limit:
        raise DataError(f"an outline about {centre:.0f} lies outside of the image, which ends at {limit:.0f} pixels")
    return max(centre - half, 0.0), min(centre + half, float(limit))


def _short(value: object) -> str:
    """A number as it is. Text is not quoted: radiologists may have written anything."""
    if isinstance(value, str):
        return f"of {len(value)} characters"
    text = repr(value) if isinstance(value, int | float) else type(value).__name__
    return text if len(text) <= 20 else f"{text[:17]}..."
