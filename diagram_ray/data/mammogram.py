"""One image file, decoded: DICOM, PGM, PNG, JPEG or TIFF, from a local path or an fsspec URI.

Only whitelisted header fields leave this module: laterality, view and pixel size. Files are hostile input: the kind is
told from the first bytes, sizes are limited before pixels are decoded, and whatever goes wrong is a DataError that
says what.
"""

import io
import warnings
from dataclasses import dataclass

import fsspec
import numpy as np
import pydicom
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut

from diagram_ray.errors import DataError

LARGEST_FILE = 512 * 2**20
"""Bytes. The largest mammograms (DDSM at 42 µm) have about 60 MB."""
LARGEST_IMAGE = 120_000_000
"""Pixels."""
SMALLEST_SIDE = 32
PICTURES = ("PPM", "PNG", "JPEG", "TIFF")
"""Pillow's names of what is opened. Its other decoders are not needed here, and some start programs (EPS)."""
GREY_MODES = ("1", "L", "LA", "P", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")
COLOUR_TOLERANCE = 32
"""Grey levels of 255 by which the channels of a grey picture may differ (JPEG, tinted letters)."""


@dataclass(frozen=True)
class Mammogram:
    """A decoded image, as stored: tissue may be bright or dark, the breast on either side."""

    pixels: NDArray[np.float32]
    """(H, W)"""
    laterality: str | None = None
    """'L' or 'R', from (0020,0062) Image Laterality or (0020,0060) Laterality."""
    view: str | None = None
    """'CC', 'MLO', ..., from (0018,5101) View Position."""
    spacing_mm: float | None = None
    """From (0018,1164) Imager Pixel Spacing or (0028,0030) Pixel Spacing."""
    inverted: bool = False
    """The file says that high values are dark: MONOCHROME1 in (0028,0004). `pixels` are as stored."""


def read_mammogram(path: str) -> Mammogram:
    """Decodes a file. Raises DataError, whose message is the reason alone: the caller knows the path."""
    data = _read_bytes(path)
    if data[128:132] == b"DICM" or path.lower().endswith((".dcm", ".dicom")):
        return _read_dicom(data)
    return Mammogram(_checked(_read_picture(data)))


def _read_bytes(path: str) -> bytes:
    try:
        with fsspec.open(path, "rb") as file:
            data: bytes = file.read(LARGEST_FILE + 1)
    except Exception as error:  # object stores raise kinds of their own, for example for missing credentials
        raise DataError(f"cannot be opened: {_one_line(error)}") from None
    if not data:
        raise DataError("the file is empty")
    if len(data) > LARGEST_FILE:
        raise DataError(f"the file has more than {LARGEST_FILE // 2**20} MiB")
    return data


def _read_dicom(data: bytes) -> Mammogram:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that are merely unusual
            header = pydicom.dcmread(io.BytesIO(data))
            _check_header(header)
            pixels = apply_modality_lut(header.pixel_array, header)
    except DataError:
        raise
    except Exception as error:  # decoders raise what they like on damaged data
        raise DataError(f"not a readable DICOM image: {_one_line(error)}") from None
    return Mammogram(
        pixels=_checked(pixels),
        laterality=_letter(header.get("ImageLaterality") or header.get("Laterality")),
        view=_word(header.get("ViewPosition")),
        spacing_mm=_spacing(header),
        inverted=header.get("PhotometricInterpretation") == "MONOCHROME1",
    )


def _check_header(header: pydicom.Dataset) -> None:
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DataError(f"(0028,0008) Number of Frames is {frames}; only single images are read")
    kind = header.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise DataError(f"(0028,0004) Photometric Interpretation is {kind!r}; allowed: MONOCHROME1, MONOCHROME2")
    _check_size(int(header.get("Rows") or 0), int(header.get("Columns") or 0))
    if "PixelData" not in header:
        raise DataError("(7FE0,0010) Pixel Data is missing")


def _spacing(header: pydicom.Dataset) -> float | None:
    """Row spacing in mm. The detector's own comes first: Pixel Spacing may be that of a calibrated projection."""
    for name in ("ImagerPixelSpacing", "PixelSpacing"):
        try:
            value = header.get(name)
            spacing = float(value[0] if isinstance(value, MultiValue) else value)
        except (TypeError, ValueError, IndexError):  # missing, or not a number
            continue
        if 0.01 < spacing < 10:
            return spacing
    return None


def _read_picture(data: bytes) -> NDArray[np.float32]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
                _check_size(picture.height, picture.width)
                return _grey(picture)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not a picture of a kind that is read: DICOM, PGM, PNG, JPEG, TIFF") from None
    except Exception as error:  # as above
        raise DataError(f"not a readable picture (DICOM, PGM, PNG, JPEG, TIFF): {_one_line(error)}") from None


def _grey(picture: Image.Image) -> NDArray[np.float32]:
    if getattr(picture, "n_frames", 1) != 1:
        raise DataError(f"has {getattr(picture, 'n_frames', 1)} pages; only single images are read")
    if picture.mode not in GREY_MODES:
        raise DataError(f"pixels are {picture.mode}; allowed: {', '.join(GREY_MODES)}")
    if picture.mode in ("P", "RGBA", "RGB"):
        channels = np.asarray(picture.convert("RGB"), dtype=np.float32)
        spread = np.percentile(np.ptp(channels, axis=2), 99)
        if spread > COLOUR_TOLERANCE:
            raise DataError(f"is in colour: the channels differ by up to {spread:.0f} of 255")
        return np.asarray(channels.mean(axis=2), dtype=np.float32)
    return np.asarray(picture.convert("L") if picture.mode in ("1", "LA") else picture, dtype=np.float32)


def _checked(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    pixels = np.ascontiguousarray(pixels, dtype=np.float32)
    if pixels.ndim != 2:
        raise DataError(f"pixels have the shape {pixels.shape}; expected rows and columns")
    _check_size(*pixels.shape)
    if not np.isfinite(pixels).all():
        raise DataError("has pixels that are not finite numbers")
    if pixels.min() == pixels.max():
        raise DataError(f"is blank: every pixel is {pixels.min():g}")
    return pixels


def _check_size(rows: int, columns: int) -> None:
    if min(rows, columns) < SMALLEST_SIDE:
        raise DataError(f"is {rows} x {columns} pixels; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed")
    if rows * columns > LARGEST_IMAGE:
        raise DataError(f"is {rows} x {columns} pixels; at most {LARGEST_IMAGE} are read")


def _letter(value: object) -> str | None:
    return value if value in ("L", "R") and isinstance(value, str) else None


def _word(value: object) -> str | None:
    text = str(value or "").strip().upper()
    return text if text.isalnum() and len(text) <= 8 else None


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
