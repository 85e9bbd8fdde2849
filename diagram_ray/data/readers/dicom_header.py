"""The few things a reader takes from a DICOM header. Pixels are not touched."""

import math
import warnings
from dataclasses import dataclass
from typing import BinaryIO

import pydicom

_TAGS = ["Rows", "Columns", "ImagerPixelSpacing", "PixelSpacing"]


@dataclass(frozen=True)
class Geometry:
    """Size of a pixel in mm (ImagerPixelSpacing (0018,1164), else PixelSpacing (0028,0030)) and the image's (H, W)."""

    spacing_mm: float | None
    shape: tuple[int, int] | None


def read_geometry(file: BinaryIO) -> Geometry:
    """The geometry in a DICOM file's header; None for each part that is missing, not plausible or unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of every odd value of an old header
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_TAGS))
            return Geometry(_spacing(header), _shape(header))
    except Exception:  # a broken header raises anything; the image is refused with a reason when its pixels are read
        return Geometry(None, None)


def _spacing(header: pydicom.Dataset) -> float | None:
    value = header.get("ImagerPixelSpacing") or header.get("PixelSpacing")
    if not value:
        return None
    spacing = float(value[0])
    return spacing if math.isfinite(spacing) and 0.001 < spacing < 10.0 else None


def _shape(header: pydicom.Dataset) -> tuple[int, int] | None:
    rows, columns = header.get("Rows"), header.get("Columns")
    return (int(rows), int(columns)) if rows and columns else None
