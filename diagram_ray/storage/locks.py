"""One run at a time on one destination, also where a run may die without a word.

On a disk the operating system holds the lock and lets go of it when the process ends. In an object store it is a file
that its holder writes again every few seconds: a run that finds one watches it, is refused if it changes, and takes it
over if it stays the same for long enough. No two machines' clocks are compared.
"""

import fcntl
import json
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from diagram_ray.errors import DiagramError, UsageError, one_line
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place

log = logging.getLogger("diagram_ray")

BEAT, SILENCE = 4.0, 20.0
"""Seconds: between two beats of a lock in an object store, and after which a lock without any is its dead holder's."""


@contextmanager
def sole_use(path: Place, what: str) -> Iterator[Callable[[], None]]:
    """Holds the lock `path` of `what`, whose folder is made if need be.

    Yields a function that raises DiagramError if the lock has been lost. Raises UsageError if another run holds it, and
    OSError if the place cannot be written.
    """
    if isinstance(path, Path):
        descriptor = _lock(path, what)
        try:
            yield lambda: None
        finally:
            os.close(descriptor)
        return
    lease = _Lease(path, what)
    with lease.held():
        yield lease.check


def _lock(path: Path, what: str) -> int:
    """A locked file's descriptor. The last holder may remove file and folder meanwhile: then there are others."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue
        except FileExistsError:  # the folder was removed just after it had been seen, or it is no folder
            if _is_no_folder(path.parent):
                raise
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise _taken(what) from None
        except OSError:  # removed between the two looks at it
            pass
        os.close(descriptor)


def _is_no_folder(path: Path) -> bool:
    try:
        return not stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _taken(what: str) -> UsageError:
    return UsageError(f"{what}: another run is preparing it at this moment; wait for it, or give another --out")


class _Lease:
    """A lock in an object store."""

    def __init__(self, path: StorePath, what: str) -> None:
        (self._files, self._path), self._what = path.filesystem, what
        self._owner = secrets.token_hex(8)
        self._beats = 0
        self._lost = False
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Iterator[None]:
        self._claim()
        heart = threading.Thread(target=self._beat_on, daemon=True)
        heart.start()
        try:
            yield
        finally:
            self._ended.set()
            heart.join()
            try:
                if self._is_mine(self._read()):
                    self._files.rm_file(self._path)
            except Exception as error:  # the next run will find a lock that is silent
                log.debug("%s: the lock could not be removed: %s", self._what, one_line(error))

    def check(self) -> None:
        """Raises DiagramError if another run has taken the lock."""
        if self._lost:
            raise DiagramError(f"{self._what}: another run has taken it over: this one did not answer for a while")

    def _claim(self) -> None:
        seen = self._read()
        if seen is None:
            with suppress(FileExistsError):  # by another run, or by an attempt of our own whose answer was lost
                self._write("create")
        else:
            self._watch(seen)
            self._write("overwrite")
        if not self._is_mine(self._read()):
            raise _taken(self._what)

    def _watch(self, seen: bytes) -> None:
        """Returns when the holder of a lock has been silent for long enough; raises UsageError if it has not."""
        log.info("%s: its lock is there; watched for %g s, whether anyone holds it", self._what, SILENCE)
        end = time.monotonic() + SILENCE
        while time.monotonic() < end:
            time.sleep(min(1.0, SILENCE / 4))
            now = self._read()
            if now is None:
                return
            if now != seen:
                raise _taken(self._what)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT):
            try:
                if not self._is_mine(self._read()):
                    self._lost = True
                    return
                self._write("overwrite")
            except Exception:  # noqa: S112  the store may answer again; until then nobody else can take the lock either
                continue

    def _write(self, mode: str) -> None:
        self._beats += 1
        beat = json.dumps({"owner": self._owner, "beat": self._beats}).encode()
        self._files.pipe_file(self._path, beat, mode=mode)

    def _read(self) -> bytes | None:
        try:
            return bytes(self._files.cat_file(self._path))
        except FileNotFoundError:
            return None

    def _is_mine(self, beat: bytes | None) -> bool:
        return beat is not None and json.loads(beat).get("owner") == self._owner
