"""Pictures whose few bytes stand for much, or for nothing; and what is no file."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.handmade.registry import (
    NO_FILES,
    add,
    gzip_of_zeros,
    gzipped_twice,
    handmade,
    no_file,
    of_file,
    one_file,
    png,
    sparse,
    zeros_packed,
)
from tests.fuzz.seeds import breast, pgm

SIDE = 6480
"""Of the largest square picture that is read."""


def _add(name: str, suffix: str, data: Callable[[], bytes]) -> None:
    add("pictures", name, of_file(f"x{suffix}", data))


def _rows(bytes_a_row: int, rows: int = SIDE) -> bytes:
    """Deflated image data of a PNG: black, but for some bytes at the beginning."""
    return zeros_packed(rows * (1 + bytes_a_row) - 200, start=b"\0" + bytes(range(199)))


_add("png-60000", ".png", lambda: png(60_000, 60_000, 0, 16, zeros_packed(1000)))
_add("png-line", ".png", lambda: png(2**31 - 1, 1, 0, 8, zeros_packed(1000)))
_add("png-no-size", ".png", lambda: png(0, 0, 0, 8, zeros_packed(1000)))
_add("png-largest-16", ".png", lambda: png(SIDE, SIDE, 0, 16, _rows(2 * SIDE)))
_add("png-largest-rgb", ".png", lambda: png(SIDE, SIDE, 2, 8, _rows(3 * SIDE)))
_add("png-largest-rgb16", ".png", lambda: png(SIDE, SIDE, 2, 16, _rows(6 * SIDE)))
_add("png-largest-rgba", ".png", lambda: png(SIDE, SIDE, 6, 8, _rows(4 * SIDE)))
_add("png-largest-grey-alpha", ".png", lambda: png(SIDE, SIDE, 4, 16, _rows(4 * SIDE)))
_add("png-largest-bits", ".png", lambda: png(SIDE, SIDE, 0, 1, _rows(SIDE // 8 + 1)))
_add("png-largest-palette", ".png", lambda: png(SIDE, SIDE, 3, 8, _rows(SIDE), (b"PLTE", bytes(range(256)) * 3)))
_add(
    "png-text-bomb", ".png", lambda: png(64, 48, 0, 8, zeros_packed(64 * 49), (b"zTXt", b"a\0\0" + zeros_packed(2**30)))
)
_add(
    "png-profile-bomb",
    ".png",
    lambda: png(64, 48, 0, 8, zeros_packed(64 * 49), (b"iCCP", b"a\0\0" + zeros_packed(2**30))),
)
_add("png-many-chunks", ".png", lambda: png(64, 48, 0, 8, zeros_packed(64 * 49), *[(b"tEXt", b"a\0b")] * 100_000))
_add("png-endless-data", ".png", lambda: png(64, 48, 0, 8, zeros_packed(2**30)))
_add(
    "png-animated",
    ".png",
    lambda: png(64, 48, 0, 8, zeros_packed(64 * 49), (b"acTL", struct.pack(">II", 2**31 - 1, 0))),
)


def _tiff(*entries: tuple[int, int, int, int], following: int = 0, body: bytes = b"") -> bytes:
    """A TIFF with these entries: tag, kind, count, value or place. The body begins at byte 8."""
    place = 8 + len(body) + len(body) % 2
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *one) for one in entries)
    return b"II*\0" + struct.pack("<I", place) + body.ljust(place - 8, b"\0") + ifd + struct.pack("<I", following)


def _grey(
    columns: int, rows: int, bits: int = 8, coding: int = 1, size: int = 0, strip: int = 0
) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, bits), (259, 3, 1, coding), (262, 3, 1, 1),
            (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, strip or rows), (279, 4, 1, size)]  # fmt: skip


def _packed_tiff(columns: int, rows: int, bits: int) -> bytes:
    body = zeros_packed(columns * rows * bits // 8 - 200, start=bytes(range(200)))
    return _tiff(*_grey(columns, rows, bits, 8, len(body)), body=body)


def _pages(count: int) -> bytes:
    """As many directories, each the same but for its successor."""
    entries = b"".join(struct.pack("<HHII", *one) for one in _grey(64, 48, size=64 * 48))
    size = 2 + len(entries) + 4
    pages = [
        struct.pack("<H", 9) + entries + struct.pack("<I", 8 + 64 * 48 + (number + 1) * size)
        for number in range(count - 1)
    ]
    last = struct.pack("<H", 9) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + 64 * 48) + bytes(64 * 48) + b"".join(pages) + last


_add("tiff-60000", ".tif", lambda: _tiff(*_grey(60_000, 60_000, 16, size=1000), body=bytes(1000)))
_add("tiff-4-billion", ".tif", lambda: _tiff(*_grey(2**32 - 1, 2**32 - 1), body=bytes(1000)))
_add("tiff-largest-16", ".tif", lambda: _packed_tiff(SIDE, SIDE, 16))
_add("tiff-largest-8", ".tif", lambda: _packed_tiff(SIDE, SIDE, 8))
_add("tiff-largest-32", ".tif", lambda: _packed_tiff(SIDE, SIDE, 32))
_add(
    "tiff-loop", ".tif", lambda: _tiff(*_grey(64, 48, size=64 * 48), following=8 + 64 * 48, body=bytes(range(64)) * 48)
)
_add("tiff-pages", ".tif", lambda: _pages(20_000))
_add(
    "tiff-huge-count",
    ".tif",
    lambda: _tiff(*_grey(64, 48), (320, 3, 2**31, 8), (700, 1, 2**32 - 1, 8), body=bytes(3072)),
)
_add(
    "tiff-huge-strips",
    ".tif",
    lambda: _tiff(*_grey(64, 48)[:5], (273, 4, 2**28, 8), (278, 4, 1, 1), (279, 4, 2**28, 8)),
)
_add(
    "tiff-small-tiles",
    ".tif",
    lambda: _tiff(*_grey(SIDE, SIDE)[:5], (322, 4, 1, 1), (323, 4, 1, 1), (324, 4, 1, 8), (325, 4, 1, 1)),
)
_add("tiff-one-row-strips", ".tif", lambda: _packed_strips())
_add(
    "tiff-subifd",
    ".tif",
    lambda: _tiff(*_grey(64, 48, size=3072), (330, 4, 1, 8), (34665, 4, 1, 8), body=bytes(range(64)) * 48),
)
_add(
    "tiff-samples",
    ".tif",
    lambda: _tiff(*_grey(64, 48)[:6], (277, 3, 1, 65535), (278, 4, 1, 48), (279, 4, 1, 9), body=bytes(9)),
)
_add("tiff-big", ".tif", lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**63) + bytes(100))


def _packed_strips() -> bytes:
    """Every row a strip; all strips are the same bytes, which are too many for one."""
    body = zlib.compress(bytes(2**24))
    place = 8 + len(body) + len(body) % 2
    places, sizes = struct.pack("<I", 8) * SIDE, struct.pack("<I", len(body)) * SIDE
    entries = [*_grey(SIDE, SIDE, 8, 8)[:5], (273, 4, SIDE, place), (278, 4, 1, 1), (279, 4, SIDE, place + len(places))]
    return _tiff(*entries, body=body.ljust(place - 8, b"\0") + places + sizes)


def _jpeg(columns: int, rows: int, body: bytes, frame: int = 0xC0) -> bytes:
    quantised = b"\xff\xdb\0\x43\0" + bytes([1] * 64)
    size = b"\xff" + bytes([frame]) + struct.pack(">HBHHBBBB", 11, 8, rows, columns, 1, 1, 0x11, 0)
    return b"\xff\xd8" + quantised + size + body + b"\xff\xd9"


def _scans(side: int, count: int) -> bytes:
    """A progressive JPEG of little more than scans that say 'nothing new' of all blocks."""
    blocks = (-(-side // 8)) ** 2
    table = (
        b"\xff\xc4\0\x14" + bytes([0x00, 1, *[0] * 15, 0x00]) + b"\xff\xc4\0\x14" + bytes([0x10, 1, *[0] * 15, 0xE0])
    )
    first = b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(-(-blocks // 8))
    runs = -(-blocks // 2**15)
    bits = ("0" + "1" * 14) * runs
    coded = (
        int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8), "big").replace(b"\xff", b"\xff\0")
    )
    more = b"\xff\xda\0\x08\1\1\0\1\x3f\0" + coded
    return _jpeg(side, side, table + first + more * count, 0xC2)


_add("jpeg-65500", ".jpg", lambda: _jpeg(65_500, 65_500, b""))
_add("jpeg-no-end", ".jpg", lambda: _jpeg(6000, 6000, b"\xff\xda\0\x08\1\1\0\0\x3f\0")[:-2])
_add("jpeg-scans", ".jpg", lambda: _scans(SIDE, 6000))
_add("jpeg-largest", ".jpg", lambda: _largest_jpeg())
_add("jpeg-many-markers", ".jpg", lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * 1_000_000)
_add("jpeg-fill", ".jpg", lambda: b"\xff\xd8" + b"\xff" * 10_000_000)
_add("film-huge", ".jpg", lambda: b"\xff\xd8\xff\xc3\0\x0b\x10\xff\xff\xff\xff\1\1\x11\0")
_add("film-fill", ".jpg", lambda: b"\xff\xd8\xff\xc3" + b"\xff" * 10_000_000)


def _largest_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray((np.indices((SIDE, SIDE)).sum(axis=0) % 251).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


for _name, _header in (
    ("negative", b"P5\n-64 -48\n255\n"), ("huge", b"P5\n999999999 999999999\n255\n"), ("long", b"P5\n48000000 1\n255\n"),
    ("digits", b"P5\n" + b"6" * 100_000 + b" 48\n255\n"), ("maximum", b"P5\n64 48\n99999\n"), ("zero", b"P5\n64 48\n0\n"),
    ("comments", b"P5\n" + b"#\n" * 1_000_000 + b"64 48 255\n"), ("comment-end", b"P5 # " + b"x" * 10_000_000), ("cut", b"P5\n64 48"),
    ("colour", b"P6\n64 48\n255\n"), ("words", b"P2\n64 48\n255\n" + b"one " * 3072), ("float", b"P2\n64 48\n255\n" + b"1e5 " * 3072),
):  # fmt: skip
    _add(f"pgm-{_name}", ".pgm", lambda header=_header: header + bytes(64 * 48))
_add("pgm-largest-text", ".pgm", lambda: b"P2\n%d %d\n9\n" % (SIDE, SIDE) + b"1 2 3 4 5 " * (SIDE * SIDE // 5))
_add("pgm-small-with-much-text", ".pgm", lambda: b"P2\n64 48\n9\n" + b"1 2 3 4 5 " * (10 * 2**20))
_add("pgm-much-space", ".pgm", lambda: b"P2\n64 48\n9\n" + b" " * (100 * 2**20))

_add("gzip-bomb", ".png.gz", lambda: gzip_of_zeros(2**30))
_add("gzip-of-the-largest", ".png.gz", lambda: gzip_of_zeros(255 * 2**20))
_add("gzip-of-the-largest-text", ".pgm.gz", lambda: gzip_of_zeros(200 * 2**20, b"P2\n64 48\n9\n"))
_add("gzip-of-the-largest-dicom", ".dcm.gz", lambda: gzip_of_zeros(255 * 2**20, bytes(128) + b"DICM"))
_add("gzip-twice", ".pgm.gz", lambda: gzipped_twice(pgm(breast())))
_add("gzip-many-members", ".pgm.gz", lambda: gzip.compress(b"") * 500_000)
_add("gzip-long-name", ".pgm.gz", lambda: b"\x1f\x8b\x08\x08\0\0\0\0\0\3" + b"n" * 20_000_000)
_add("gzip-cut", ".pgm.gz", lambda: gzip.compress(pgm(breast()))[:-9])

for _name, _data in (
    ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(/tmp/x) (w) file\n"), ("zip", b"PK\3\4" + bytes(100)),
    ("svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"), ("elf", b"\x7fELF" + bytes(100)),
    ("gif", b"GIF89a\xff\xff\xff\xff\0\0\0"), ("bmp", b"BM" + b"\xff" * 60), ("pickle", b"\x80\4cos\nsystem\n(S'true'\ntR."),
    ("empty", b""), ("one-byte", b"\xff"), ("spaces", b" " * 4096), ("xz", b"\xfd7zXZ\0" + bytes(50)), ("webp", b"RIFF\xff\xff\xff\xffWEBPVP8 "),
    ("jpeg2000", b"\0\0\0\x0cjP  \r\n\x87\n" + b"\xff" * 60), ("hdf", b"\x89HDF\r\n\x1a\n" + bytes(99)), ("ico", b"\0\0\1\0\xff\xff" + b"\xff" * 99),
):  # fmt: skip
    for _suffix in (".png", ".dcm"):
        _add(f"no-{_name}{_suffix}", _suffix, lambda data=_data: data)


def _with_no_file(kind: str, suffix: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        one_file(folder, f"x{suffix}", b"")
        no_file(folder / "cancer" / f"1_x{suffix}", kind)

    return case


for _kind in NO_FILES:
    for _suffix in (".png", ".dcm", ""):
        add(
            "pictures",
            f"{_kind.strip('/').replace('/', '-').replace(' ', '-')}{_suffix}",
            _with_no_file(_kind, _suffix),
        )


@handmade("pictures")
def sparse_file(folder: Path) -> None:
    one_file(folder, "x.png", b"")
    sparse(folder / "cancer" / "1_x.png", 2**40, b"\x89PNG\r\n\x1a\n")


@handmade("pictures")
def folder_links_to_its_parent(folder: Path) -> None:
    """Two such links have 2 to the 40 paths through them."""
    one_file(folder, "x.pgm", pgm(breast()))
    for name in ("a", "b"):
        (folder / "cancer" / name).symlink_to("..", target_is_directory=True)


@handmade("pictures")
def folder_link_to_the_root(folder: Path) -> None:
    one_file(folder, "x.pgm", pgm(breast()))
    (folder / "cancer" / "system").symlink_to("/", target_is_directory=True)


@handmade("pictures")
def deep_folders(folder: Path) -> None:
    one_file(folder, "x.pgm", pgm(breast()))
    deepest = folder / "cancer"
    for _ in range(600):
        deepest = deepest / "d"
        deepest.mkdir()


@handmade("pictures")
def many_files(folder: Path) -> None:
    one_file(folder, "x.pgm", pgm(breast()))
    for number in range(5000):
        (folder / "cancer" / f"{number}_x.txt").touch()


@handmade("pictures")
def many_classes(folder: Path) -> None:
    one_file(folder, "x.pgm", pgm(breast()))
    for number in range(500):
        (folder / f"class {number}").mkdir()
        (folder / f"class {number}" / f"{number}_x.png").touch()


ODD = (
    "x::y.pgm", "file:y.pgm", "http::x.pgm", "*.pgm", "[x].pgm", "?.pgm", "~.pgm", "%2e%2e%2fx.pgm", "x\ny.pgm", "x\x1b[2Jy.pgm",
    "\udcff\udcfe.pgm", "\u202emgp.dcm", "x" * 240 + ".pgm", " .pgm", "-rf.pgm", "a|b.pgm", "$(true).pgm", "a\\..\\b.pgm", "\u2024\u2024.pgm",
    "CON.pgm", "x.pgm.gz.gz", "'; drop.pgm", "{0}.pgm", "%s%n.pgm",
)  # fmt: skip
for _number, _odd in enumerate(ODD):
    add("pictures", f"odd-name-{_number}", of_file(_odd, lambda: pgm(breast())))


@handmade("pictures")
def odd_class_names(folder: Path) -> None:
    one_file(folder, "x.pgm", pgm(breast()))
    for name in ("a::b", "\udcff", "c\nd", "~", "*"):
        (folder / name).mkdir()
        (folder / name / "3_x.pgm").write_bytes(pgm(breast()))
