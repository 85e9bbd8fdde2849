"""Cases of DDSM whose text and films are not what they say, and trees that are no archive."""

import gzip
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.fuzz.handmade.registry import NO_FILES, add, gzip_of_zeros, handmade, no_file
from tests.fuzz.seeds import breast
from tests.support.phantoms.ljpeg_encoder import encode

SIDE = 6480
LINE = "{view} LINES {rows} PIXELS_PER_LINE {columns} BITS_PER_PIXEL 12 RESOLUTION 50 {overlay}\n"


def _ics(rows: int = 64, columns: int = 49, overlay: str = "OVERLAY") -> str:
    views = "".join(
        LINE.format(view=view, rows=rows, columns=columns, overlay=overlay) for view in ("LEFT_CC", "RIGHT_CC")
    )
    return f"filename B-0001-1\nDENSITY 2\nDIGITIZER LUMISYS LASER\n{views}"


def _overlay(
    chain: str = "5 20 " + "2 " * 20 + "4 " * 20 + "6 " * 20 + "0 " * 20 + "#", count: int = 1, cores: int = 0
) -> str:
    head = "ABNORMALITY {} \nLESION_TYPE MASS SHAPE OVAL\nASSESSMENT 4\nSUBTLETY 3\nPATHOLOGY MALIGNANT\n"
    body = f"TOTAL_OUTLINES {1 + cores}\nBOUNDARY\n{chain}\n" + f"\tCORE\n{chain}\n" * cores
    return f"TOTAL_ABNORMALITIES {count}\n" + "".join(head.format(number + 1) + body for number in range(count))


def _case(folder: Path, ics: bytes, overlay: bytes, film: bytes, packed: str = "") -> Path:
    place = folder / "cancers" / "cancer_01" / "case0001"
    place.mkdir(parents=True)
    for name, data in (("B-0001-1.ics", ics), ("B_0001_1.LEFT_CC.OVERLAY", overlay), ("B_0001_1.LEFT_CC.LJPEG", film)):
        (place / (name + packed * name.endswith(packed.partition(".")[0] or "-"))).write_bytes(data)
    return place


def _add(
    name: str,
    ics: Callable[[], str] = _ics,
    overlay: Callable[[], str] = _overlay,
    film: Callable[[], bytes] | None = None,
) -> None:
    add(
        "ddsm",
        name,
        lambda folder: void(_case(folder, ics().encode("latin-1"), overlay().encode("latin-1"), (film or _film)())),
    )


def void(_: object) -> None:
    """For what returns a path, and is wanted for what it writes."""


def _film(predictor: int = 7) -> bytes:
    return encode(breast(), predictor=predictor)


_add("good")
_add("ics-huge-size", lambda: _ics(65_536, 65_536))
_add("ics-size-of-many-digits", lambda: _ics(int("9" * 30), 1))
_add("ics-negative", lambda: _ics(-64, -49))
_add("ics-one-pixel", lambda: _ics(1, 1))
_add("ics-other-size", lambda: _ics(49, 65))
_add("ics-long", lambda: _ics() + "FILM\n" * 100_000)
_add("ics-one-long-line", lambda: _ics() + "FILM " + "x " * 30_000)
_add("ics-many-words", lambda: _ics().replace("LINES", "LINES " * 8000))
_add("ics-doubled", lambda: _ics() + _ics())
_add("ics-escape", lambda: _ics().replace("LUMISYS", "\x1b[2J\x07"))
_add("ics-separators", lambda: _ics().replace("\n", "\x1d\x0b\x85"))
_add("ics-binary", lambda: "".join(map(chr, range(256))) * 200)
_add("overlay-of-50", overlay=lambda: _overlay(count=50, cores=199))
_add(
    "overlay-of-4-billion",
    overlay=lambda: _overlay().replace("TOTAL_ABNORMALITIES 1", "TOTAL_ABNORMALITIES 4294967295"),
)
_add("overlay-outlines", overlay=lambda: _overlay().replace("TOTAL_OUTLINES 1", "TOTAL_OUTLINES 999999"))
_add("overlay-long-chain", overlay=lambda: _overlay("5 20 " + "2 6 " * 1_000_000 + "#"))
_add("overlay-too-long", overlay=lambda: _overlay("5 20 " + "2 6 " * 3_000_000 + "#"))
_add("overlay-far", overlay=lambda: _overlay("999999 -99999 0 1 #"))
_add("overlay-start-of-many-digits", overlay=lambda: _overlay("9" * 6000 + " 1 0 #"))
_add("overlay-arabic-digits", overlay=lambda: _overlay("\xb2 \xb3 0 #"))
_add(
    "overlay-many-lesions",
    overlay=lambda: _overlay().replace("LESION_TYPE", "LESION_TYPE MASS\n" * 100_000 + "LESION_TYPE"),
)
_add("overlay-empty", overlay=lambda: "")
_add("overlay-blank-lines", overlay=lambda: "\n" * 4_000_000)
_add("overlay-separators", overlay=lambda: _overlay().replace("\n", "\x1c"))
_add("film-empty", film=lambda: b"")
_add("film-cut", film=lambda: _film()[:100])
_add("film-of-text", film=lambda: b"P5 64 49 255 " * 99)
_add("film-60000", film=lambda: _sized(60_000, 60_000))
_add("film-largest", lambda: _ics(SIDE, SIDE), film=lambda: _largest())
_add("film-largest-of-zeros", lambda: _ics(SIDE, SIDE), film=lambda: _largest_of_zeros())
_add("film-fills", film=lambda: b"\xff\xd8\xff\xc3" + b"\xff" * 20_000_000)
_add("film-many-tables", film=lambda: b"\xff\xd8" + b"\xff\xc4\0\x13\0" + bytes(16) + b"\xff\xc4\0\x13\0" * 6000)
_add("film-stuffed", film=lambda: _film()[:80] + b"\xff\0" * 10_000_000)
_add("film-marker-in-data", film=lambda: _film()[:200] + b"\xff\xd9" + _film()[200:])
_add("film-restarts", film=lambda: _film().replace(b"\xff\xda", b"\xff\xdd\0\4\0\1\xff\xda"))
_add("film-full-tree", film=lambda: _table([0] * 15 + [255]))
_add("film-too-many-codes", film=lambda: _table([255] * 16))
_add(
    "film-category-17",
    film=lambda: _film().replace(b"\xff\xc4", b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\x11\xff\xc4", 1),
)


def _sized(rows: int, columns: int) -> bytes:
    film = bytearray(_film())
    place = film.index(b"\xff\xc3") + 5
    film[place : place + 4] = struct.pack(">HH", rows, columns)
    return bytes(film)


def _table(counts: list[int]) -> bytes:
    film = _film()
    place = film.index(b"\xff\xc4")
    length = int.from_bytes(film[place + 2 : place + 4], "big")
    codes = bytes(number % 17 for number in range(sum(counts)))
    return (
        film[:place]
        + b"\xff\xc4"
        + struct.pack(">H", 19 + len(codes))
        + b"\0"
        + bytes(counts)
        + codes
        + film[place + 2 + length :]
    )


def _largest() -> bytes:
    """A breast in the largest film."""
    ramp = (np.indices((SIDE // 2, SIDE)).sum(axis=0) * (np.arange(SIDE) < SIDE // 2) % 4000).astype(np.uint16)
    return encode(np.concatenate([ramp, np.zeros((SIDE - len(ramp), SIDE), np.uint16)]))


def _largest_of_zeros() -> bytes:
    """The shortest codes: a bit a pixel."""
    head = b"\xff\xd8\xff\xc3" + struct.pack(">HBHHBBBB", 11, 16, SIDE, SIDE, 1, 1, 0x11, 0)
    table = b"\xff\xc4\0\x14\0\1" + bytes(15) + b"\0"
    return head + table + b"\xff\xda\0\x08\1\1\0\7\0\0" + bytes(SIDE * SIDE // 8 + 1) + b"\xff\xd9"


def _packed(which: str, data: Callable[[], bytes]) -> Callable[[Path], None]:
    """One of the three files is a gzip file."""

    def case(folder: Path) -> None:
        place = _case(folder, _ics().encode(), _overlay().encode(), _film())
        path = next(path for path in place.iterdir() if path.name.endswith(which))
        path.unlink()
        path.with_name(path.name + ".gz").write_bytes(data())

    return case


for _which, _good in (("ics", lambda: _ics().encode()), ("OVERLAY", lambda: _overlay().encode()), ("LJPEG", _film)):
    add("ddsm", f"{_which}-gzip-bomb", _packed(_which, lambda: gzip_of_zeros(2**30)))
    add("ddsm", f"{_which}-gzip-twice", _packed(_which, lambda good=_good: gzip.compress(gzip.compress(good()))))
    add("ddsm", f"{_which}-gzip-cut", _packed(_which, lambda good=_good: gzip.compress(good())[:-12]))
    add("ddsm", f"{_which}-gzip-good", _packed(_which, lambda good=_good: gzip.compress(good())))


def _no_file(kind: str, name: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        no_file(_case(folder, _ics().encode(), _overlay().encode(), _film()) / name, kind)

    return case


for _kind in NO_FILES:
    for _name in ("B-0001-1.ics", "B_0001_1.LEFT_CC.OVERLAY", "B_0001_1.LEFT_CC.LJPEG"):
        add("ddsm", f"{_kind.strip('/').replace('/', '-').replace(' ', '-')}-{_name}", _no_file(_kind, _name))


@handmade("ddsm")
def many_cases(folder: Path) -> None:
    for number in range(1000):
        place = folder / "cancer_01" / f"case{number:04d}"
        place.mkdir(parents=True)
        (place / f"B-{number:04d}-1.ics").write_text(_ics().replace("B-0001-1", f"B-{number:04d}-1"))
        (place / f"B_{number:04d}_1.LEFT_CC.LJPEG").touch()


@handmade("ddsm")
def same_case_often(folder: Path) -> None:
    for number in range(500):
        _case(folder / str(number), _ics().encode(), _overlay().encode(), b"x")


@handmade("ddsm")
def strays(folder: Path) -> None:
    place = _case(folder, _ics().encode(), _overlay().encode(), _film())
    for name in (
        b"\xff\xfe",
        b"B_0001_1.LEFT_CC.OVERLAY\n",
        b"..ics",
        b"B_0001_1.LEFT_CC.LJPEG ",
        b"A" * 255,
        "B_٠٠٠١_1.LEFT_CC.LJPEG".encode(),
    ):
        (place / os.fsdecode(name)).write_bytes(b"x")
