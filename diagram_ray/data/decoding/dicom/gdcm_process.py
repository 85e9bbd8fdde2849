"""The process that holds GDCM, as seen from the one that needs it."""

import atexit
import json
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from diagram_ray.data.decoding.dicom import gdcm_child
from diagram_ray.errors import DataError

LARGE = 24_000_000
"""Pixels of a frame after which the process ends, as it would keep 90 MB and more while the picture is worked on. Films
alone have so many, and to start another process takes a tenth of a second."""

_DAMAGED = "its coded pixels cannot be decoded: they are damaged"


def decode_with_gdcm(request: Mapping[str, int | str], coded: bytes) -> bytes:
    """A decoded frame. `request`: rows, columns, syntax, stored, allocated (bits), signed (0 or 1).

    Raises DataError if the frame cannot be decoded, takes longer than `gdcm_child` allows, or makes GDCM crash.
    """
    decoded = _child.ask(request, coded)
    if decoded is None:
        raise DataError(_DAMAGED)
    return decoded


class _Child:
    """Started when first needed. It ends with this process, because its standard input does."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = threading.Lock()

    def ask(self, request: Mapping[str, int | str], coded: bytes) -> bytes | None:
        """The decoded frame; None if GDCM says that it cannot. Raises DataError if it died."""
        with self._lock:
            process = self._alive()
            try:
                decoded = _answer(process, json.dumps({**request, "bytes": len(coded)}).encode() + b"\n", coded)
            except (OSError, EOFError):
                self._end()
                raise DataError(f"{_DAMAGED}, so much that the decoder crashed or took too long") from None
            if int(request["rows"]) * int(request["columns"]) > LARGE:
                self._end()
            return decoded

    def _alive(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            self._owner = os.getpid()
            self._process = subprocess.Popen(  # noqa: S603 - our own script
                [sys.executable, "-I", str(Path(gdcm_child.__file__))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        return self._process

    def _end(self) -> None:
        """Ends the process, unless it belongs to the one that this one was forked from."""
        process, self._process = self._process, None
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.communicate()

    def end(self) -> None:
        """Ends the process."""
        with self._lock:
            self._end()


def _answer(process: subprocess.Popen[bytes], request: bytes, coded: bytes) -> bytes | None:
    """Raises OSError or EOFError if the process died."""
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    process.stdin.write(request)
    process.stdin.write(coded)
    process.stdin.flush()
    head = process.stdout.read(8)
    if len(head) < 8:
        raise EOFError
    (count,) = struct.unpack(">Q", head)
    if count == gdcm_child.FAILED:
        return None
    decoded = process.stdout.read(count)
    if len(decoded) < count:
        raise EOFError
    return decoded


_child = _Child()
atexit.register(_child.end)
