"""DICOM files that say more than they hold, hold more than they say, or never end."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.fuzz.handmade.registry import add, gzip_of_zeros, of_file, zeros_packed
from tests.fuzz.seeds import breast
from tests.support.sources.dicom_files import as_bytes, coded, dicom, with_frame

SIDE = 6480
"""Of the largest square picture that is read."""
END = b"\xfe\xff\xdd\xe0\0\0\0\0"


def _add(name: str, data: Callable[[], bytes], suffix: str = ".dcm") -> None:
    add("dicom", name, of_file(f"x{suffix}", data))


def _header(syntax: str = uid.ExplicitVRLittleEndian, **changes: object) -> Dataset:
    header = dicom(breast())
    for name, value in changes.items():
        setattr(header, name, value)
    header.file_meta.TransferSyntaxUID = syntax
    return header


def _before_pixels(header: Dataset) -> bytes:
    """The file up to its pixels' element."""
    return as_bytes(header)[: as_bytes(header).rindex(b"\xe0\x7f\x10\0")]


def _framed(syntax: str, frame: bytes, **changes: object) -> bytes:
    header = with_frame(_header(**changes), frame)
    header.file_meta.TransferSyntaxUID = syntax
    return as_bytes(header)


def _deflated(header: Dataset, size: int, start: bytes = b"") -> bytes:
    """The header, and `start` and zeros as pixels, deflated."""
    header.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    whole = as_bytes(header)
    place = 144 + int.from_bytes(whole[140:144], "little")
    inside = zlib.decompress(whole[place:], -zlib.MAX_WBITS)
    inside = inside[: inside.rindex(b"\xe0\x7f\x10\0")] + b"\xe0\x7f\x10\0OW\0\0" + struct.pack("<I", size)
    return whole[:place] + zeros_packed(size - len(start), -zlib.MAX_WBITS, inside + start)


def _largest(allocated: int, **changes: object) -> bytes:
    """The largest picture, with a breast in it, in few bytes: it needs all of the preparation."""
    shape = {
        "Rows": SIDE,
        "Columns": SIDE,
        "BitsAllocated": allocated,
        "BitsStored": allocated,
        "HighBit": allocated - 1,
    }
    ramp = (np.indices((SIDE // 2, SIDE)).sum(axis=0) * (np.arange(SIDE) < SIDE // 2) % 4000).astype(
        f"<u{allocated // 8}"
    )
    return _deflated(_header(**shape, **changes), SIDE * SIDE * allocated // 8, ramp.tobytes())


def _item(count: int = 4096, bits: int = 16, kind: str = "OW") -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, "US", [count % 2**16, 0, bits])
    item.add_new(0x00283006, kind, np.arange(count or 2**16, dtype="<u2").tobytes())
    return item


_tables = {"VOILUTSequence": Sequence([_item()]), "ModalityLUTSequence": Sequence([_item(0)])}
_add("largest-8", lambda: _largest(8))
_add("largest-16", lambda: _largest(16))
_add("largest-32", lambda: _largest(32))
_add("largest-signed", lambda: _largest(16, PixelRepresentation=1, PhotometricInterpretation="MONOCHROME1"))
_add("largest-tables", lambda: _largest(16, **_tables))
_add("largest-sigmoid", lambda: _largest(16, VOILUTFunction="SIGMOID", WindowCenter="9", WindowWidth="9"))
_add("largest-padded", lambda: _largest(16, PixelPaddingValue=0, PixelPaddingRangeLimit=9, RescaleSlope="2"))
_add("largest-everything", lambda: _largest(32, **_tables, PixelPaddingValue=0, PixelRepresentation=1))
_add("deflate-bomb", lambda: _deflated(_header(), 2**30))
_add("deflate-of-the-largest", lambda: _deflated(_header(), 255 * 2**20))
_add("deflate-of-zeros", lambda: _start(uid.DeflatedExplicitVRLittleEndian) + zeros_packed(250 * 2**20, -15))
_add("deflate-in-gzip", lambda: gzip_of_zeros(200 * 2**20, _deflated(_header(), 200 * 2**20)), ".dcm.gz")


def _start(syntax: str) -> bytes:
    """The preamble and the file's meta information alone."""
    whole = as_bytes(_header(syntax))
    return whole[: 144 + int.from_bytes(whole[140:144], "little")]


for _name, _changes in (
    ("60000", {"Rows": 60_000, "Columns": 60_000}), ("no-rows", {"Rows": 0}), ("one-row", {"Rows": 1, "Columns": 65_535}),
    ("frames", {"NumberOfFrames": "100000"}), ("no-frames", {"NumberOfFrames": "-1"}), ("3-samples", {"SamplesPerPixel": 3}),
    ("64-bits", {"BitsAllocated": 64}), ("no-bits", {"BitsAllocated": 0}), ("odd-bits", {"BitsStored": 17}), ("high-bit", {"HighBit": 65_535}),
    ("slope-0", {"RescaleSlope": "0"}), ("slope-huge", {"RescaleSlope": "1e308"}), ("slope-nan", {"RescaleSlope": "nan"}),
    ("intercept-huge", {"RescaleIntercept": "1e38"}), ("slope-small", {"RescaleSlope": "1e-300"}), ("spacing", {"PixelSpacing": ["nan", "0"]}),
    ("window", {"VOILUTFunction": "SIGMOID", "WindowCenter": "1e308", "WindowWidth": "1e-308"}), ("padding", {"PixelPaddingValue": 65_535}),
    ("table-of-one", {"VOILUTSequence": Sequence([_item(1)])}), ("table-bits", {"VOILUTSequence": Sequence([_item(bits=0)])}),
    ("empty-table", {"VOILUTSequence": Sequence([Dataset()])}), ("view", {"ViewPosition": "'); --"}),
):  # fmt: skip
    _add(f"says-{_name}", lambda changes=_changes: _written(changes))


def _written(changes: dict[str, object]) -> bytes:
    from pydicom import config

    with config.disable_value_validation():
        return as_bytes(_header(**changes))


def _pixels(length: int, kind: bytes = b"OW", data: bytes = b"") -> bytes:
    return _before_pixels(_header()) + b"\xe0\x7f\x10\0" + kind + b"\0\0" + struct.pack("<I", length) + data


_add("pixels-4-billion", lambda: _pixels(2**32 - 2))
_add("pixels-without-end", lambda: _pixels(2**32 - 1, b"OB"))
_add("pixels-empty", lambda: _pixels(0))
_add("pixels-cut", lambda: _pixels(64 * 49 * 2, data=bytes(100)))
_add(
    "items-without-end",
    lambda: _framed(uid.RLELossless, bytes(4)).replace(END, b"\xfe\xff\0\xe0\xff\xff\xff\xff" * 1000 + END),
)
_add("many-fragments", lambda: _many_fragments())
_add(
    "nested",
    lambda: (
        _start(uid.ExplicitVRLittleEndian)
        + b"\x08\0\x11\x11SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 500_000
    ),
)
_add(
    "nested-unknown",
    lambda: (
        _start(uid.ExplicitVRLittleEndian)
        + b"\x09\0\x10\x10UN\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 500_000
    ),
)
_add(
    "nested-implicit",
    lambda: (
        _start(uid.ImplicitVRLittleEndian) + b"\x08\0\x11\x11\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff" * 500_000
    ),
)
_add(
    "nested-charset",
    lambda: (
        _start(uid.ExplicitVRLittleEndian)
        + b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
        + b"\x28\0\x10\x30SQ\0\0\xff\xff\xff\xff" * 9
    ),
)
_add("elements", lambda: _start(uid.ExplicitVRLittleEndian) + b"\x09\0\x10\x10LO\2\0ab" * 2_000_000)
_add("wide", lambda: _wide(b"\xfe\xff\0\xe0\0\0\0\0"))
_add("wide-and-open", lambda: _wide(b"\xfe\xff\0\xe0\xff\xff\xff\xff" + b"\xfe\xff\x0d\xe0\0\0\0\0"))
_add("wide-unknown", lambda: _wide(b"\xfe\xff\0\xe0\0\0\0\0", b"UN"))
_add("long-value", lambda: _start(uid.ExplicitVRLittleEndian) + b"\x10\0\x10\0PN\xff\xff" + b"A^" * 40_000)
_add(
    "many-values",
    lambda: _before_pixels(_header()) + b"\x28\0\x52\x10UN\0\0" + struct.pack("<I", 40_000_000) + b"1\\" * 20_000_000,
)
_add("many-numbers", lambda: _many_numbers())
_add("meta-length", lambda: b"\0" * 128 + b"DICM\2\0\0\0UL\4\0\xff\xff\xff\xff" + as_bytes(_header())[144:])
_add("meta-loop", lambda: b"\0" * 128 + b"DICM" + b"\2\0\x10\0UI\0\0" * 500_000)
_add("only-the-preamble", lambda: bytes(128) + b"DICM")
_add("no-preamble", lambda: b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100" + bytes(5000))
_add("unknown-syntax", lambda: as_bytes(_header()).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.9.9.9\0"))
_add("video", lambda: _framed("1.2.840.10008.1.2.4.100", bytes(1000)))
_add("htj2k", lambda: _framed("1.2.840.10008.1.2.4.201", bytes(1000)))
_add(
    "dicomdir",
    lambda: as_bytes(_header()).replace(
        uid.DigitalMammographyXRayImageStorageForPresentation.encode(), b"1.2.840.10008.1.3.10\0\0\0\0\0\0\0"
    ),
)
_add("charset", lambda: as_bytes(_header(SpecificCharacterSet=["ISO 2022 IR 87", "\\nonsense"])))


def _wide(item: bytes, kind: bytes = b"SQ") -> bytes:
    """A sequence of two million items before the picture."""
    whole = as_bytes(_header())
    start = len(_start(uid.ExplicitVRLittleEndian))
    return whole[:start] + b"\x09\0\x11\x11" + kind + b"\0\0\xff\xff\xff\xff" + item * 2_000_000 + END + whole[start:]


def _many_fragments() -> bytes:
    fragments = b"\xfe\xff\0\xe0\2\0\0\0ab" * 1_000_000
    return _framed(uid.JPEG2000Lossless, b"\xff\x4f\xff\x51").replace(END, fragments + END)


def _many_numbers() -> bytes:
    """A window of ten million centres."""
    numbers = b"1\\" * 10_000_000
    return (
        _before_pixels(_header(VOILUTFunction="SIGMOID"))
        + b"\x28\0\x50\x10UN\0\0"
        + struct.pack("<I", len(numbers))
        + numbers
    )


def _run_lengths(body: bytes) -> bytes:
    """One segment for each byte of a pixel; they share it."""
    return struct.pack("<16I", 2, 64, 64 + len(body), *[0] * 13) + body * 2


_add("rle-unfolds", lambda: _framed(uid.RLELossless, _run_lengths(b"\x81\xff" * 2_000_000)))
_add(
    "rle-largest",
    lambda: _framed(
        uid.RLELossless, _run_lengths(b"\x81\x01\x81\x09" * (SIDE * SIDE // 256 + 9)), Rows=SIDE, Columns=SIDE
    ),
)
_add(
    "rle-single-bytes",
    lambda: _framed(uid.RLELossless, _run_lengths(b"\0\1\0\2" * (SIDE * SIDE // 2)), Rows=SIDE, Columns=SIDE),
)
_add("rle-nothing", lambda: _framed(uid.RLELossless, _run_lengths(b"\x80" * 60_000_000), Rows=SIDE, Columns=SIDE))
_add("rle-segments", lambda: _framed(uid.RLELossless, struct.pack("<16I", 2**32 - 1, *[2**32 - 1] * 15)))
_add("rle-backwards", lambda: _framed(uid.RLELossless, struct.pack("<16I", 2, 5000, 64, *[0] * 13) + bytes(5000)))


@lru_cache
def _frame(kind: str, side: int = 0) -> bytes:
    """GDCM's coding of the breast, or of a large ramp."""
    from pydicom.encaps import get_frame

    pixels: NDArray[np.uint16] = (
        breast() if not side else (np.indices((side, side)).sum(axis=0) % 4000).astype(np.uint16)
    )
    with TemporaryDirectory() as folder:
        return bytes(get_frame(coded(dicom(pixels), kind, Path(folder)).PixelData, 0, number_of_frames=1))


CODERS = {
    "JPEGLosslessProcess14_1": uid.JPEGLosslessSV1, "JPEGLSLossless": uid.JPEGLSLossless, "JPEG2000Lossless": uid.JPEG2000Lossless,
}  # fmt: skip
for _kind, _syntax in CODERS.items():
    _add(f"{_kind}-60000", lambda kind=_kind, syntax=_syntax: _sized(syntax, _frame(kind), 60_000))
    _add(f"{_kind}-largest", lambda kind=_kind, syntax=_syntax: _sized(syntax, _frame(kind), SIDE))
    _add(f"{_kind}-cut", lambda kind=_kind, syntax=_syntax: _framed(syntax, _frame(kind)[: len(_frame(kind)) // 2]))
    _add(f"{_kind}-of-another", lambda kind=_kind, syntax=_syntax: _framed(uid.JPEGBaseline8Bit, _frame(kind)))
    _add(
        f"{_kind}-4000", lambda kind=_kind, syntax=_syntax: _framed(syntax, _frame(kind, 4000), Rows=4000, Columns=4000)
    )


def _sized(syntax: str, frame: bytes, side: int) -> bytes:
    """A file that calls its frame a large one, there and in the header."""
    sizes = bytearray(frame)
    if frame[:4] == b"\xff\x4f\xff\x51":
        sizes[8:16] = sizes[24:32] = struct.pack(">II", side, side)
    else:
        place = next(place for place in range(len(frame)) if frame[place] == 0xFF and frame[place + 1] in (0xC3, 0xF7))
        sizes[place + 5 : place + 9] = struct.pack(">HH", side, side)
    return _framed(syntax, bytes(sizes), Rows=side, Columns=side)


def _jpeg_2000(tile: int, levels: int = 5, layers: int = 1, side: int = SIDE) -> bytes:
    """A JPEG 2000 of little more than its main header."""
    size = struct.pack(">HHIIIIIIIIHBBB", 41, 0, side, side, 0, 0, tile, tile, 0, 0, 1, 11, 1, 1)
    style = struct.pack(">HBBHBBBBBB", 12, 0, 0, layers, 0, levels, 4, 4, 0, 1)
    steps = struct.pack(">HB", 3 + 3 * levels + 1, 0x20) + bytes([0x48] * (3 * levels + 1))
    part = b"\xff\x90" + struct.pack(">HHIBB", 10, 0, 0, 0, 1) + b"\xff\x93" + bytes(64)
    body = b"\xff\x4f\xff\x51" + size + b"\xff\x52" + style + b"\xff\x5c" + steps + part + b"\xff\xd9"
    return _framed(uid.JPEG2000Lossless, body, Rows=side, Columns=side)


_add("j2k-4898", lambda: _sized(uid.JPEG2000Lossless, _frame("JPEG2000Lossless"), 4898))
_add("j2k-one-tile", lambda: _jpeg_2000(SIDE))
_add("j2k-small-tiles", lambda: _jpeg_2000(1))
_add("j2k-tiles-of-8", lambda: _jpeg_2000(8))
_add("j2k-levels", lambda: _jpeg_2000(SIDE, levels=32))
_add("j2k-layers", lambda: _jpeg_2000(SIDE, layers=65_535))
_add("j2k-60000", lambda: _jpeg_2000(60_000, side=60_000))
_add("j2k-no-tile", lambda: _jpeg_2000(0))
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"
for _name, _boxes in (
    ("many", b"\0\0\0\x08free" * 5_000_000), ("of-no-length", bytes(5000)), ("short", b"\0\0\0\1free" * 5000),
    ("endless", b"\0\0\0\1jp2c" + b"\xff" * 8 + bytes(5000)), ("cut", b"\0\0\0\1jp2c"), ("itself", _JP2 * 5000),
):  # fmt: skip
    _add(f"jp2-{_name}", lambda boxes=_boxes: _framed(uid.JPEG2000Lossless, _JP2 + boxes))
_add("jp2-of-the-largest", lambda: _wrapped(_jpeg_2000(SIDE)))


def _wrapped(file: bytes) -> bytes:
    """The file with its codestream in a box."""
    start = file.index(b"\xff\x4f\xff\x51")
    frame = file[start : file.rindex(b"\xff\xd9") + 2]
    return _framed(uid.JPEG2000Lossless, _JP2 + b"\0\0\0\0jp2c" + frame, Rows=SIDE, Columns=SIDE)


def _random(seed: int) -> bytes:
    buffer = io.BytesIO()
    buffer.write(_start(uid.ExplicitVRLittleEndian))
    buffer.write(np.random.default_rng(seed).bytes(100_000))
    return buffer.getvalue()


for _number in range(5):
    _add(f"noise-{_number}", lambda number=_number: _random(number))
