"""Sources that were written by hand, each for one way to hurt a reader: TARGET/NAME -> who writes it.

A case writes its files to an empty folder. It may return a way to read them of its own; else its target's is taken.
"""

import gzip
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.seeds import breast, pgm
from tests.fuzz.targets import Run

Case = Callable[[Path], Run | None]
HANDMADE: dict[str, Case] = {}


def handmade(target: str) -> Callable[[Case], Case]:
    """Registers the decorated function as a case of a target."""

    def register(case: Case) -> Case:
        HANDMADE[f"{target}/{case.__name__.replace('_', '-')}"] = case
        return case

    return register


def add(target: str, name: str, case: Case) -> None:
    """Registers one of many that differ in little."""
    assert f"{target}/{name}" not in HANDMADE
    HANDMADE[f"{target}/{name}"] = case


def one_file(folder: Path, name: str, data: bytes) -> None:
    """Two classes; in one of them is the file, in the other a good picture."""
    for place in ("cancer", "benign"):
        (folder / place).mkdir(exist_ok=True)
    (folder / "cancer" / f"1_{name}").write_bytes(data)
    (folder / "benign" / "2_a.pgm").write_bytes(pgm(breast()))


def of_file(name: str, data: Callable[[], bytes]) -> Case:
    """A case of one file in a class folder."""
    return lambda folder: one_file(folder, name, data())


def zeros_packed(size: int, wbits: int = zlib.MAX_WBITS, start: bytes = b"") -> bytes:
    """`start` and so many zeros, deflated, without having them in memory."""
    packer = zlib.compressobj(1, zlib.DEFLATED, wbits)
    parts = [packer.compress(start)]
    step = bytes(2**20)
    parts += [packer.compress(step[: min(2**20, size - done)]) for done in range(0, size, 2**20)]
    return b"".join([*parts, packer.flush()])


def gzip_of_zeros(size: int, start: bytes = b"") -> bytes:
    """The same as a gzip file."""
    return zeros_packed(size, zlib.MAX_WBITS | 16, start)


def gzipped_twice(data: bytes) -> bytes:
    """A gzip file in a gzip file."""
    return gzip.compress(gzip.compress(data))


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    """A file of zeros behind `start` that takes no disk."""
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)


def no_file(path: Path, kind: str) -> None:
    """Something at `path` that is not a plain file."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        import socket

        here = os.open(path.parent, os.O_RDONLY)  # a socket's path may have 108 characters only
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)
    elif kind == "locked":
        path.write_bytes(b"x")
        path.chmod(0)
    else:
        path.symlink_to({"loop": path.name, "broken": "nowhere", "fifo link": "pipe"}.get(kind, kind))
        if kind == "fifo link":
            os.mkfifo(path.with_name("pipe"))


NO_FILES = (
    "fifo",
    "folder",
    "socket",
    "locked",
    "loop",
    "broken",
    "fifo link",
    "/dev/zero",
    "/dev/tty",
    "/etc/passwd",
    "/proc/self/mem",
)


def png(columns: int, rows: int, kind: int, bits: int, body: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with a header, other chunks, and image data that are deflated already."""
    header = struct.pack(">IIBBBBB", columns, rows, bits, kind, 0, 0, 0)
    written = io.BytesIO()
    written.write(b"\x89PNG\r\n\x1a\n")
    for name, data in ((b"IHDR", header), *chunks, (b"IDAT", body), (b"IEND", b"")):
        written.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
    return written.getvalue()
