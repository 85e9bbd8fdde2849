"""What an image may be, checked before and after it is decoded."""

import numpy as np
from numpy.typing import NDArray

from diagram_ray.errors import DataError

LARGEST_FILE = 128 * 2**20
"""Bytes, unpacked. The largest mammograms (films at 42 µm) have about 60 MB."""
LARGEST_IMAGE = 42_000_000
"""Pixels. A film of 24 x 30 cm at 42 µm has 41 million, the largest detectors have 24 million."""
SMALLEST_SIDE = 32
LONGEST_SIDE = 16
"""Times the shorter one. Mammograms are up to three times as long as wide; of a strip no small picture can be made."""


def check_size(rows: int, columns: int) -> None:
    """Raises DataError for a height or width that no mammogram has."""
    if min(rows, columns) < SMALLEST_SIDE:
        raise DataError(f"is {rows} x {columns} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed")
    if rows * columns > LARGEST_IMAGE:
        raise DataError(f"is {rows} x {columns} pixels; at most {LARGEST_IMAGE} are read")
    if max(rows, columns) > LONGEST_SIDE * min(rows, columns):
        raise DataError(f"is {rows} x {columns} pixels; one side may be {LONGEST_SIDE} times as long as the other")


def checked(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
    """The pixels (H, W) as float32. Raises DataError unless they are finite, of one picture, and not all the same."""
    if pixels.ndim != 2:
        raise DataError(f"pixels have the shape {pixels.shape}; expected rows and columns")
    check_size(*pixels.shape)
    greys = np.ascontiguousarray(pixels, dtype=np.float32)
    low, high = float(greys.min()), float(greys.max())  # NaN in one pixel makes both NaN
    if not (np.isfinite(low) and np.isfinite(high)):
        raise DataError("has pixels that are not finite numbers")
    if low == high:
        raise DataError(f"is blank: every pixel is {low:g}")
    return greys
