"""A DICOM file as a mammogram: any transfer syntax that GDCM or we decode, one picture, grey.

Of the header only the tags listed here are read, and none of their values is quoted where it could be anything.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom import frames, grey_scale, kind
from diagram_ray.data.decoding.dicom.header import read_header
from diagram_ray.data.decoding.dicom.kind import USUAL, Allowed, check_kind, check_single
from diagram_ray.data.decoding.dicom.library import Dataset, MultiValue
from diagram_ray.data.decoding.limits import check_size
from diagram_ray.errors import DataError

TAGS = (
    "NumberOfFrames",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PresentationLUTShape",
    "ImageLaterality",
    "Laterality",
    "ViewPosition",
    "ImagerPixelSpacing",
    "PixelSpacing",
    "BurnedInAnnotation",
    *kind.TAGS,
    *frames.TAGS,
    *grey_scale.TAGS,
)
"""All tags of a header that are read."""
GREY = ("MONOCHROME1", "MONOCHROME2")
VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "SIO", "ISO", "XCC", "XCCL", "XCCM", "FB", "LL", "RL", "AT", "CV", "TAN")
"""Values of (0018,5101) View Position that mammograms have; others are left out."""
MOST_FRAMES = 9999
"""The most frames that are believed: what is more is no number of frames, and is not repeated."""
FLAGS = {"YES": True, "NO": False}


@dataclass(frozen=True)
class DicomImage:
    """What is taken from a DICOM file; the fields are those of `mammogram.Mammogram`."""

    pixels: NDArray[np.float32]
    laterality: str | None
    view: str | None
    spacing_mm: float | None
    inverted: bool
    burned_in: bool | None


def read_dicom(data: bytes, allowed: Allowed = USUAL) -> DicomImage:
    """The mammogram in a DICOM file. Raises DataError, whose message is the reason alone.

    What is no mammogram, or FOR PROCESSING, is refused unless it is `allowed`.
    """
    header = read_header(data, TAGS)
    with _damage():
        check_kind(header, allowed)
        _check(header)
        inverted = header.PhotometricInterpretation == "MONOCHROME1" or header.get("PresentationLUTShape") == "INVERSE"
        return DicomImage(
            pixels=grey_scale.grey_levels(frames.stored_pixels(header), header, inverted),
            laterality=_side(header),
            view=_view(header),
            spacing_mm=spacing(header),
            inverted=inverted,
            burned_in=FLAGS.get(header.get("BurnedInAnnotation") or ""),
        )


def read_mask(data: bytes) -> tuple[NDArray[np.integer], bool]:
    """The stored pixels (H, W) of a DICOM file, and whether its Series Description says 'mask'. Raises DataError."""
    header = read_header(data, (*TAGS, "SeriesDescription"))
    with _damage():
        _check(header)
        return frames.stored_pixels(header), "mask" in str(header.get("SeriesDescription")).lower()


@contextmanager
def _damage() -> Iterator[None]:
    """Whatever goes wrong inside becomes a DataError. pydicom's words may quote values, so they go no further."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that are merely unusual
            yield
    except DataError:
        raise
    except Exception as error:  # values of the wrong kind make pydicom raise anything
        raise DataError(f"its DICOM header or pixels are damaged ({type(error).__name__})") from None


def spacing(header: Dataset) -> float | None:
    """Row spacing in mm. The detector's own comes first: Pixel Spacing may be that of a calibrated projection."""
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            value = header.get(name)
            number = float(value[0] if isinstance(value, MultiValue | Sequence) else value)
        except (TypeError, ValueError, IndexError):  # missing, or not a number
            continue
        if 0.01 < number < 10:
            return number
    return None


def _check(header: Dataset) -> None:
    if "PixelData" not in header:
        raise DataError("(7FE0,0010) Pixel Data is missing")
    check_single(header)
    count = int(header.get("NumberOfFrames") or 1)
    if count != 1:
        shown = count if 0 <= count <= MOST_FRAMES else "no number of frames"
        raise DataError(f"(0028,0008) Number of Frames is {shown}; only single images are read")
    samples = int(header.get("SamplesPerPixel") or 1)
    if samples != 1 or header.get("PhotometricInterpretation") not in GREY:
        raise DataError(f"is not grey: (0028,0004) Photometric Interpretation must be one of {', '.join(GREY)}")
    check_size(int(header.get("Rows") or 0), int(header.get("Columns") or 0))


def _side(header: Dataset) -> str | None:
    value = header.get("ImageLaterality") or header.get("Laterality")
    return value if isinstance(value, str) and value in ("L", "R") else None


def _view(header: Dataset) -> str | None:
    value = str(header.get("ViewPosition") or "").strip().upper()
    return value if value in VIEWS else None
