"""Tables that lead out of their folder, never end, or are no tables."""

import csv
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.data.readers import ReaderOptions
from tests.fuzz.handmade.registry import NO_FILES, add, handmade, no_file, sparse
from tests.fuzz.seeds import breast, pgm
from tests.fuzz.targets import Run, read_source

HEADER = ["path", "patient", "label"]
GOOD = [["scans/0.pgm", "p0", "benign"], ["scans/1.pgm", "p1", "cancer"]]


def _csv(rows: list[list[str]], header: list[str] = HEADER) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    return text.getvalue().encode(errors="surrogateescape")


def _source(folder: Path, table: bytes, name: str = "images.csv") -> None:
    (folder / "scans").mkdir()
    for number in range(2):
        (folder / "scans" / f"{number}.pgm").write_bytes(pgm(breast()))
    (folder / name).write_bytes(table)


def _add(name: str, table: Callable[[], bytes], file: str = "images.csv") -> None:
    add("tables", name, lambda folder: _source(folder, table(), file))


PATHS = (
    "../../etc/passwd", "../outside.pgm", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/environ", "~/.ssh/id_rsa", "file:///etc/passwd",
    "file://localhost/etc/passwd", "s3://bucket/x.png", "gs://bucket/x.png", "http://127.0.0.1:9/x.png", "memory://x.png", "data:,x",
    "zip://x::/etc/passwd", "simplecache::http://127.0.0.1:9/x.png", "filecache::file:///etc/passwd", "reference://", "C:\\x.dcm",
    "\\\\host\\share\\x.dcm", "..\\..\\x.dcm", "scans/../../x.pgm", "scans/./../../source/scans/0.pgm", "./scans//0.pgm", "scans/0.pgm/",
    "scans/0.pgm/..", "scans", ".", "", "/", "..", "scans/0.pgm\0.png", "scans/0.pgm\n", "%2e%2e/%2e%2e/etc/passwd", "\uff0e\uff0e/\uff0e\uff0e/etc/passwd",
    "\u2024\u2024/x", "scans\uff0f0.pgm", "\u202escans/0.pgm", "scans/0\u0301.pgm", "SCANS/0.PGM", "images.csv", "scans/*", "$(cat /etc/passwd)",
    "|cat /etc/passwd", "a" * 5000, "a/" * 5000, "link/x.pgm", "link.pgm", "pipe.pgm", "scans/\udcff.pgm",
)  # fmt: skip


def _with_path(path: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        outside = folder.with_name("outside")
        outside.mkdir()
        for place in (outside / "x.pgm", folder.with_name("outside.pgm")):
            place.write_bytes(pgm(breast()))
        _source(folder, _csv([*GOOD, [path, "p2", "cancer"]]))
        (folder / "link").symlink_to(outside, target_is_directory=True)
        (folder / "link.pgm").symlink_to(outside / "x.pgm")
        os.mkfifo(folder / "pipe.pgm")

    return case


for _number, _path in enumerate(PATHS):
    add("tables", f"path-{_number}", _with_path(_path))

_add("field-of-10-mb", lambda: _csv([*GOOD, ["x" * 10_000_000, "p2", "cancer"]]))
_add("label-of-10-mb", lambda: _csv([*GOOD, ["scans/2.pgm", "p2", "c" * 10_000_000]]))
_add("patient-of-100-kb", lambda: _csv([*GOOD, ["scans/0.pgm", "c" * 100_000, "cancer"]]))
_add("nul", lambda: _csv(GOOD) + bytes(1000))
_add("nuls-inside", lambda: _csv(GOOD).replace(b",", b",\0"))
_add("quote-never-closed", lambda: _csv(GOOD) + b'"scans/0.pgm,p2,cancer\n' * 100_000)
_add("quotes", lambda: _csv(GOOD) + b'"' * 5_000_000)
_add(
    "million-columns",
    lambda: b",".join([b"path", b"patient", b"label", *[b"x"] * 1_000_000]) + b"\n" + b",".join([b"a"] * 1_000_003),
)
_add("million-cells", lambda: _csv(GOOD) + b"," * 10_000_000)
_add("too-many-rows", lambda: _csv(GOOD) + b"scans/9.pgm,p2,cancer\n" * 1_000_000)
_add("many-rows-of-no-file", lambda: _csv(GOOD) + b"scans/9.pgm,p2,cancer\n" * 150_000)
_add("many-good-rows", lambda: _csv(GOOD) + b"scans/1.pgm,p1,cancer\n" * 300_000)
_add("many-patients", lambda: _csv(GOOD) + b"".join(b"scans/1.pgm,p%d,c\n" % number for number in range(300_000)))
_add("many-classes", lambda: _csv(GOOD) + b"".join(b"scans/1.pgm,p1,c%d\n" % number for number in range(200_000)))
_add("empty-lines", lambda: _csv(GOOD) + b"\n" * 20_000_000)
_add("carriage-returns", lambda: b"\r" * 20_000_000 + _csv(GOOD))
_add("one-line", lambda: b"path,patient,label " + b"x" * 50_000_000)
_add("other-encodings", lambda: _csv(GOOD).decode().encode("utf-16"))
_add("surrogates", lambda: _csv([*GOOD, ["scans/0.pgm", "\udced\udca0\udc80", "cancer"]]))
_add("doubled-columns", lambda: _csv(GOOD, ["path", "path", "label"]))
_add("no-header", lambda: _csv(GOOD[1:], GOOD[0]))
_add("own-columns", lambda: _csv([[*row, "x", "y"] for row in GOOD], [*HEADER, "digest", "image_id"]))
_add("formula", lambda: _csv([*GOOD, ["scans/0.pgm", "=cmd|' /C calc'!A0", "@SUM(1)"]]))
_add("empty", lambda: b"")
_add("bom", lambda: b"\xef\xbb\xbf" * 3 + _csv(GOOD))
for _name, _box in (("nan", ["nan"] * 4), ("inf", ["0", "0", "inf", "inf"]), ("negative", ["-5", "-5", "10", "10"]), ("huge", ["0", "0", "1e300", "1e300"]),
                    ("far", ["1e6", "1e6", "2e6", "2e6"]), ("thin", ["5", "5", "5.0000001", "5.0000001"]), ("words", ["a", "b", "c", "d"]),
                    ("long", ["1" * 5000, "2", "3" * 5000, "4"])):  # fmt: skip
    _add(
        f"box-{_name}",
        lambda box=_box: _csv(
            [[*row, *box, "0.07"] for row in GOOD], [*HEADER, "top", "left", "bottom", "right", "spacing_mm"]
        ),
    )


@handmade("tables")
def sparse_table(folder: Path) -> None:
    _source(folder, b"")
    sparse(folder / "images.csv", 2**40, _csv(GOOD))


# Not a FIFO: the user names the table, and may well mean one.
def _table_is(kind: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        _source(folder, _csv(GOOD))
        no_file(folder / "images.csv", kind)

    return case


for _kind in NO_FILES[1:6]:
    add("tables", f"table-is-{_kind.strip('/').replace('/', '-').replace(' ', '-')}", _table_is(_kind))


def _pattern(pattern: str, name: str) -> Callable[[Path], Run]:
    """A regular expression that takes for ever on a name is the user's own; one that is none is refused."""

    def case(folder: Path) -> Run:
        (folder / "a").mkdir()
        (folder / "a" / name).write_bytes(pgm(breast()))
        return lambda folder, _: read_source("folder", folder, "", ReaderOptions(patient_pattern=pattern))

    return case


for _number, _text in enumerate(("(", "a", "(?P<x>", "[", "*", "(a){99999999999}", "\\", "(" * 200 + ")" * 200)):
    add("tables", f"pattern-{_number}", _pattern(_text, "aaaa.pgm"))


def _parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def _words(*last: object) -> dict[str, object]:
    rows = [*GOOD, *last]
    return {name: [row[place] for row in rows] for place, name in enumerate(HEADER)}  # type: ignore[index]


_add("parquet-long-cells", lambda: _parquet(**_words(["scans/0.pgm", "p" * 10_000_000, "x"])), "images.parquet")
_add("parquet-of-one-long-word", lambda: _same_words("x" * 4_000_000, 2000), "images.parquet")
_add("parquet-many-rows", lambda: _same_words("x", 5_000_000), "images.parquet")
_add("parquet-rows", lambda: _same_words("x", 300_000), "images.parquet")
_add(
    "parquet-lists",
    lambda: _parquet(path=[["a"], ["b"]], patient=[{"a": 1}, {"a": 2}], label=[b"a", b"b"]),
    "images.parquet",
)
_add(
    "parquet-bytes",
    lambda: _parquet(path=[b"scans/0.pgm", b"\xff"], patient=[b"a", b"b"], label=[1, 2]),
    "images.parquet",
)
_add(
    "parquet-numbers",
    lambda: _parquet(path=[1.5, float("inf")], patient=[2**62, 1], label=[1e300, 2.0]),
    "images.parquet",
)
_add("parquet-nothing", lambda: _parquet(path=pa.nulls(5), patient=pa.nulls(5), label=pa.nulls(5)), "images.parquet")
_add("parquet-only-a-name", lambda: b"PAR1" * 1000, "images.parquet")
_add("parquet-footer", lambda: b"PAR1" + bytes(100) + struct.pack("<I", 2**31) + b"PAR1", "images.parquet")
_add("parquet-many-columns", lambda: _parquet(**{f"c{number}": [1] for number in range(5000)}), "images.parquet")
_add(
    "parquet-bomb",
    lambda: _parquet(path=pa.array(["\0" * 2**27, "\0" * 2**20]), patient=["a", "b"], label=["a", "b"]),
    "images.parquet",
)


def _same_words(word: str, rows: int) -> bytes:
    """Each cell the same word, which is stored once."""
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array([word]))
    return _parquet(**dict.fromkeys(HEADER, column))
