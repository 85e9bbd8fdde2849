"""The few things a reader takes from a DICOM header. Pixels are not touched."""

from dataclasses import dataclass
from typing import BinaryIO

from diagram_ray.data.decoding.dicom.header import read_header
from diagram_ray.data.decoding.dicom.image import spacing
from diagram_ray.data.decoding.dicom.library import Dataset

LONGEST_HEADER = 4 * 2**20
"""Bytes read of a file. Real headers have some kilobytes."""
_TAGS = ("Rows", "Columns", "ImagerPixelSpacing", "PixelSpacing")


@dataclass(frozen=True)
class Geometry:
    """Size of a pixel in mm (ImagerPixelSpacing (0018,1164), else PixelSpacing (0028,0030)) and the image's (H, W)."""

    spacing_mm: float | None
    shape: tuple[int, int] | None


def read_geometry(file: BinaryIO) -> Geometry:
    """The geometry in a DICOM file's header; None for each part that is missing, not plausible or unreadable."""
    try:
        header = read_header(file.read(LONGEST_HEADER), _TAGS, pixels=False)
        return Geometry(spacing(header), _shape(header))
    except Exception:  # a broken header raises anything; the image is refused with a reason when its pixels are read
        return Geometry(None, None)


def _shape(header: Dataset) -> tuple[int, int] | None:
    rows, columns = header.get("Rows"), header.get("Columns")
    return (int(rows), int(columns)) if rows and columns else None
