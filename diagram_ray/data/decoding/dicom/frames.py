"""The stored pixels of a DICOM image, whatever its transfer syntax: with limits, and so that none can end this process.

GDCM is the only decoder here of JPEG lossless and JPEG-LS. It aborts or crashes on about one damaged frame in 300, so
it works in a child process (`gdcm_child`), started when first needed and again after it died. The frame around it is
read here and not by pydicom, which loops for ever on some JPEG 2000 headers and lets run-length coding unfold to 64
times the memory of the image.
"""

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.gdcm_process import decode_with_gdcm
from diagram_ray.data.decoding.dicom.library import Dataset, get_frame, uid
from diagram_ray.data.decoding.dicom.packbits import unpack
from diagram_ray.errors import DataError

TAGS = (
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelData",
)
"""The tags of a header that are needed to decode."""
NATIVE = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000)
READ = (*NATIVE, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, *JPEG, *JPEG_LS, *JPEG_2000)
_FRAME_HEADERS = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)
"""Markers of the JPEG (baseline to lossless) and JPEG-LS frame headers."""
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
"""The box that a JP2 file begins with (ISO/IEC 15444-1 I.5.1)."""
MOST_BOXES = 100
"""The most boxes before the codestream of a JP2 file; three are usual."""


@dataclass(frozen=True)
class Frame:
    """What the header says of the pixels."""

    syntax: uid.UID
    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @property
    def pixels(self) -> int:
        """The number of pixels."""
        return self.rows * self.columns


def stored_pixels(header: Dataset) -> NDArray[np.integer]:
    """The pixels (H, W) as stored, before any table or rescaling. Raises DataError if they cannot be decoded."""
    frame = _frame(header)
    if frame.syntax in NATIVE:
        return _values(_native(header["PixelData"].value, header["PixelData"].VR, frame), frame, frame.high)
    if frame.syntax not in READ:
        name = frame.syntax.name if frame.syntax.is_transfer_syntax else "unknown"
        raise DataError(f"its transfer syntax ({name}) is not read; convert it to a lossless one, such as JPEG-LS")
    coded = get_frame(header.PixelData, 0, number_of_frames=1)
    if frame.syntax == uid.RLELossless:
        return _values(_run_lengths(coded, frame), frame, frame.high)
    return _coded(coded, frame)


def _frame(header: Dataset) -> Frame:
    allocated, stored = header.BitsAllocated, header.get("BitsStored") or header.BitsAllocated
    high = header.get("HighBit")
    high = stored - 1 if high is None else high
    if allocated not in (8, 16, 32) or not 1 <= stored <= high + 1 <= allocated:
        raise DataError(
            f"Bits Allocated, Bits Stored and High Bit are {allocated}, {stored}, {high}; read are pixels of 8, 16 or "
            "32 bits that hold what is stored"
        )
    syntax = uid.UID(header.file_meta.TransferSyntaxUID)
    signed = header.get("PixelRepresentation", 0) == 1
    return Frame(syntax, int(header.Rows), int(header.Columns), allocated, stored, int(high), signed)


def _values(raw: NDArray[np.unsignedinteger], frame: Frame, high: int) -> NDArray[np.integer]:
    """The stored bits alone: what stands above or below them may be an overlay or rubbish."""
    width = 8 * raw.dtype.itemsize
    above, below = width - 1 - high, high + 1 - frame.stored
    shifted = raw << raw.dtype.type(above) if above else raw
    values = shifted.view(f"i{raw.dtype.itemsize}") if frame.signed else shifted
    values = values >> values.dtype.type(above + below) if above + below else values
    return values.reshape(frame.rows, frame.columns)


def _native(data: bytes, kind: str, frame: Frame) -> NDArray[np.unsignedinteger]:
    size = frame.allocated // 8
    if len(data) < frame.pixels * size:
        raise DataError(f"is truncated: {len(data)} of {frame.pixels * size} bytes of pixels are there")
    if frame.syntax != uid.ExplicitVRBigEndian:
        return np.frombuffer(data, f"<u{size}", frame.pixels)
    if size == 1 and kind == "OW":
        raise DataError("pixels of 8 bits in big-endian words are not read")
    return np.frombuffer(data, f">u{size}", frame.pixels).astype(f"<u{size}")


def _coded(coded: bytes, frame: Frame) -> NDArray[np.integer]:
    """A JPEG, JPEG-LS or JPEG 2000 frame."""
    if frame.syntax == uid.JPEGExtended12Bit and frame.stored != 8:
        raise DataError("JPEG Extended with 12 bits is not read; convert it to a lossless transfer syntax")
    if frame.syntax in JPEG_2000:
        coded = _codestream(coded)
    stated = coded_size(coded)
    if stated is None or stated[:2] != (frame.rows, frame.columns):
        raise DataError(f"is {frame.rows} x {frame.columns} pixels by its header; its coded frame says otherwise")
    if frame.syntax in JPEG:
        width, bits = frame.allocated, frame.stored
    else:  # these coders have a precision of their own, and GDCM's pixels are as wide as it needs
        bits = stated[2]
        width = 8 if bits <= 8 else 16
    request: dict[str, int | str] = {
        "rows": frame.rows, "columns": frame.columns, "syntax": str(frame.syntax), "stored": bits,
        "allocated": width, "signed": int(frame.signed),
    }  # fmt: skip
    decoded = decode_with_gdcm(request, coded)
    if len(decoded) < frame.pixels * width // 8:
        raise DataError("its coded pixels cannot be decoded: they are damaged")
    raw = np.frombuffer(decoded, f"<u{width // 8}", frame.pixels)
    as_decoded = Frame(frame.syntax, frame.rows, frame.columns, width, bits, bits - 1, frame.signed)
    return _values(raw, as_decoded, bits - 1)


def _codestream(coded: bytes) -> bytes:
    """What DICOM wants of a JPEG 2000 frame (PS3.5 A.4.4), out of the JP2 file that some makers store in its place.

    Such a file is boxes: a length, a name, the content (ISO/IEC 15444-1 I.4). Without the one wanted it stays as it is.
    """
    place = 0 if coded.startswith(_JP2) else len(coded)
    for _ in range(MOST_BOXES):
        if place + 16 > len(coded):
            break
        length, name, long = struct.unpack(">I4sQ", coded[place : place + 16])
        start, end = (place + 16, place + long) if length == 1 else (place + 8, place + length)
        end = end if length else len(coded)  # the last box may leave its length open
        if name == b"jp2c":
            return coded[start:end]
        place = end
    return coded


def coded_size(coded: bytes) -> tuple[int, int, int] | None:
    """The size (rows, columns, bits) in the header of a JPEG, JPEG-LS or JPEG 2000 frame.

    None if there is no such header, it has more than one component, or more than 16 bits.
    """
    size = _jpeg_2000_size(coded) if coded[:4] == b"\xff\x4f\xff\x51" else _jpeg_size(coded)
    return size if size is not None and 1 <= size[2] <= 16 else None


def _jpeg_2000_size(coded: bytes) -> tuple[int, int, int] | None:
    """The size from the SIZ segment (ISO/IEC 15444-1 A.5.1): the image's lower right and upper left corner, then
    precision."""
    if len(coded) < 43 or coded[40:42] != b"\0\1":
        return None
    right, bottom, left, top = struct.unpack(">4I", coded[8:24])
    return bottom - top, right - left, (coded[42] & 0x7F) + 1


def _jpeg_size(coded: bytes) -> tuple[int, int, int] | None:
    place = 2
    while coded[place : place + 1] == b"\xff" and place + 10 <= len(coded):
        marker, length = coded[place + 1], int.from_bytes(coded[place + 2 : place + 4], "big")
        if marker in _FRAME_HEADERS:
            bits, rows, columns, components = struct.unpack(">BHHB", coded[place + 4 : place + 10])
            return (rows, columns, bits) if components == 1 else None
        place += 2 + length
    return None


def _run_lengths(coded: bytes, frame: Frame) -> NDArray[np.unsignedinteger]:
    """Run-length coding (DICOM PS3.5 annex G): a segment for each byte of a pixel, the high one first."""
    size = frame.allocated // 8
    offsets = struct.unpack("<16I", coded[:64].ljust(64, b"\0"))
    if offsets[0] != size:
        raise DataError(f"has {offsets[0]} run-length segments; expected are {size}, one for each byte of a pixel")
    decoded = np.empty((frame.pixels, size), dtype=np.uint8)
    ends = (*offsets[2 : size + 1], len(coded))
    for number, (start, end) in enumerate(zip(offsets[1 : size + 1], ends, strict=True)):
        segment, there = unpack(coded[start:end], frame.pixels)
        if there < frame.pixels:
            raise DataError(f"is truncated: run-length segment {number + 1} has {there} of {frame.pixels} bytes")
        decoded[:, size - 1 - number] = segment
    return decoded.reshape(-1).view(f"<u{size}")
