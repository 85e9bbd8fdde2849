"""PNG, JPEG, TIFF and PGM pictures as grey levels. Their headers are hostile, and nothing written in them is quoted."""

import io
import re
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from diagram_ray.data.decoding.limits import LARGEST_IMAGE, check_size
from diagram_ray.data.decoding.native_codecs import READ_ONLY_BYTES, native
from diagram_ray.errors import DataError

PICTURES = ("PPM", "PNG", "JPEG", "TIFF")
"""Pillow's names of what is opened. Its other decoders are not needed here, and some start programs (EPS)."""
GREY_MODES = ("1", "L", "LA", "P", "I", "I;16", "I;16B", "I;16L", "F", "RGB", "RGBA")
COLOUR_TOLERANCE = 32
"""Grey levels of 255 by which the channels of a grey picture may differ (JPEG, tinted letters)."""

MOST_SCANS = 100
"""The most scans of a progressive JPEG; encoders make about ten, and each of them is a pass over the whole picture."""
MOST_SEGMENTS = 1000
"""The most segments before a JPEG's first scan. A profile of colours has at most 255."""
MOST_FILL = 1000
"""Bytes of 0xFF before a marker, where any number is allowed (ITU-T T.81, B.1.1.2) and one is usual."""

_PGM = re.compile(rb"P([25])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
_FILL = re.compile(rb"\xff+")
_ALONE = (b"\x00", b"\x01", *(bytes([code]) for code in range(0xD0, 0xDA)))
"""Second bytes of JPEG markers that no segment follows; 0 is no marker."""
_BLOCK = 256
"""Rows of a picture whose channels are compared at a time."""
_ASCII_HEADER = 4096
"""Bytes that the header of a PGM may have; comments stand there."""


def is_picture(head: bytes) -> bool:
    """Whether a file that begins so is a PNG, JPEG, TIFF or PGM."""
    return head.startswith((b"\x89PNG\r\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")) or bool(re.match(rb"P[25]\s", head))


def read_picture(data: bytes) -> NDArray[np.generic]:
    """The grey levels (H, W) of a picture file. Raises DataError, whose message is the reason alone."""
    if data[:2] in (b"P2", b"P5"):
        return _read_pgm(data)
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # sizes are checked here, and odd tags do not matter
            with Image.open(io.BytesIO(data), formats=PICTURES) as picture:
                check_size(picture.height, picture.width)
                return _grey(picture)
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError("not a picture of a kind that is read: DICOM, PGM, PNG, JPEG, TIFF") from None
    except Image.DecompressionBombError:
        raise DataError(f"is too large; at most {LARGEST_IMAGE} pixels are read") from None
    except Exception as error:  # decoders raise what they like on damaged data; their words may quote it
        state = "is truncated" if "truncated" in str(error) else "is damaged"
        raise DataError(f"the picture {state} ({type(error).__name__})") from None


def _check_jpeg(data: bytes) -> None:
    """Raises DataError for a JPEG with more to read before its picture, or more scans, than any real one has.

    Pillow reads what stands before the first scan marker by marker, in Python. What is damaged it will say itself.
    """
    if data.count(b"\xff\xda") > MOST_SCANS:
        raise DataError(f"is a JPEG of more than {MOST_SCANS} scans")
    place = 2
    for _ in range(MOST_SEGMENTS):
        fill = _FILL.match(data, place)
        if fill is None:
            return
        place = fill.end() + 1
        if len(fill[0]) > MOST_FILL:
            raise DataError(f"is a JPEG with {len(fill[0])} fill bytes before a marker; at most {MOST_FILL} are read")
        kind = data[fill.end() : place]
        if kind in (b"", b"\xda"):
            return
        if kind not in _ALONE:
            place += int.from_bytes(data[place : place + 2], "big")
    raise DataError(f"is a JPEG of more than {MOST_SEGMENTS} segments before its picture")


def _grey(picture: Image.Image) -> NDArray[np.generic]:
    if _has_pages(picture):
        raise DataError("has several pages; only single images are read")
    if picture.mode not in GREY_MODES:
        raise DataError(f"pixels are {picture.mode}; allowed: {', '.join(GREY_MODES)}")
    if picture.mode in ("P", "RGBA", "RGB"):
        return _of_colours(picture)
    return np.asarray(picture.convert("L") if picture.mode in ("1", "LA") else picture)


def _has_pages(picture: Image.Image) -> bool:
    """Whether another one follows. How many there are takes Pillow a walk through all of them."""
    try:
        picture.seek(1)
    except EOFError:
        return False
    return True


def _of_colours(picture: Image.Image) -> NDArray[np.generic]:
    """The mean of the channels, which must be about the same: grey stored as colour."""
    greys = np.empty((picture.height, picture.width), dtype=np.float32)
    differing = np.zeros(256, dtype=np.int64)
    for start in range(0, picture.height, _BLOCK):  # a copy of the whole has 170 MB
        strip = picture.crop((0, start, picture.width, min(start + _BLOCK, picture.height)))
        red, green, blue = np.moveaxis(np.asarray(strip.convert("RGB")), 2, 0)
        brightest, darkest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
        differing += np.bincount((brightest - darkest).ravel(), minlength=256)
        np.divide(red.astype(np.uint16) + green + blue, np.float32(3), out=greys[start : start + _BLOCK])
    spread = int(np.searchsorted(differing.cumsum(), 0.99 * greys.size))
    if spread > COLOUR_TOLERANCE:
        raise DataError(f"is in colour: the channels differ by up to {spread} of 255")
    return greys


def _read_pgm(data: bytes) -> NDArray[np.generic]:
    """Netpbm's PGM: grey levels as stored, whatever their maximum. Pillow would stretch them to 8 or 16 bits."""
    header = _PGM.match(data[:_ASCII_HEADER])
    if header is None:
        raise DataError("its PGM header is not P2 or P5, width, height, maximum")
    kind, columns, rows, largest = (int(number) for number in header.groups())
    check_size(rows, columns)
    if not 0 < largest < 2**16:
        raise DataError(f"its PGM header has the maximum {largest}; allowed are 1 to 65535")
    body = np.frombuffer(data, np.uint8)[header.end() :]
    flat = _written(body, rows * columns) if kind == 2 else _packed(body, rows * columns, largest)
    if flat.max() > largest:
        raise DataError(f"has a pixel above {largest}, the maximum in its PGM header")
    return flat.reshape(rows, columns)


def _packed(body: NDArray[np.uint8], count: int, largest: int) -> NDArray[np.generic]:
    """One byte a pixel, or two with the high one first where the maximum needs them."""
    kind = np.dtype(">u2" if largest > 255 else "u1")
    if len(body) < count * kind.itemsize:
        raise DataError(f"is truncated: {len(body)} of {count * kind.itemsize} bytes of pixels are there")
    return body[: count * kind.itemsize].view(kind)


def _written(body: NDArray[np.uint8], count: int) -> NDArray[np.generic]:
    """Pixels as decimal numbers."""
    numbers = np.empty(count, dtype=np.uint32)
    filled = _read_numbers(body, numbers)
    if filled < 0:
        raise DataError("has something other than numbers among its pixels")
    if filled < count:
        raise DataError(f"is truncated: {filled} of {count} pixels are there")
    return numbers


@native(f"int64({READ_ONLY_BYTES}, Array(uint32, 1, 'C'))")
def _read_numbers(text: NDArray[np.uint8], numbers: NDArray[np.uint32]) -> int:
    """Fills `numbers` with the first of the text, and says how many there were; -1 if there is anything but numbers and
    space in it. What is too large for a pixel is 2^16."""
    filled, value = 0, -1
    for byte in text:
        if 48 <= byte <= 57:
            value = min(10 * max(value, 0) + byte - 48, 2**16)
        elif byte == 32 or 9 <= byte <= 13:
            if value >= 0 and filled < len(numbers):
                numbers[filled] = value
                filled += 1
            value = -1
        else:
            return -1
    if value >= 0 and filled < len(numbers):
        numbers[filled] = value
        filled += 1
    return filled
