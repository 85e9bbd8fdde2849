"""The checkpoints of a run, in a folder or an object store: written in the background, and the newest good one read.

PLACE/000045/   one checkpoint (`checkpoints.manifest`), named by its position; without checkpoint.json it is none

A driver looks after the checkpoints of others: PyTorch is imported where a state is read or written.
"""

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from diagram_ray.errors import CheckpointError, DataError, MismatchError
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.object_store import GONE, Retry, StorePath, message_of
from diagram_ray.storage.opening import open_place
from diagram_ray.storage.paths import Place, remove
from diagram_ray.training.checkpoints.manifest import (
    MANIFEST,
    REST,
    WEIGHTS,
    Manifest,
    describe,
    read_manifest,
)
from diagram_ray.training.checkpoints.run_identity import Identity, check_identity

if TYPE_CHECKING:
    from diagram_ray.training.checkpoints.serialisation import State

log = logging.getLogger("diagram_ray")


class CheckpointStore:
    """The checkpoints of one run: `identity` says which one.

    `keep_last` of the newest are kept. One is written at a time, by a thread of its own; what went wrong there is
    raised by the next `save`, `wait` or `close`.
    """

    def __init__(
        self,
        place: str | Place,
        identity: Identity,
        keep_last: int = 1,
        every: float = 600.0,
        retry: Retry | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = open_place(str(place))
        self.every = every
        """Seconds after which `due` says that a checkpoint should be made."""
        self._identity = identity
        self._keep_last = keep_last
        self._retry = retry or Retry()
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._good: int | None = None  # position of the newest that is known to be whole
        self._began = clock()

    @property
    def due(self) -> bool:
        """Whether `every` seconds have gone by since the last save, or since the start."""
        return self._clock() - self._began > self.every

    def save(self, position: int, state: "State") -> None:
        """Takes a copy of `state` and begins to write it; waits first for the one before.

        Nothing is done if the checkpoint at this position is there. Raises CheckpointError if the one *before* could
        not be written after all attempts.
        """
        self.wait()
        self._began = self._clock()
        if position != self._good:
            from diagram_ray.training.checkpoints.serialisation import copied

            self._writing = self._thread.submit(self._write, position, copied(state))

    def wait(self) -> None:
        """Waits until what was saved is written. Raises CheckpointError if it could not be."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits, and ends the thread. Raises CheckpointError."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def load(self) -> tuple[int, Any] | None:
        """Position and state of the newest checkpoint that is whole; None if there is none.

        A damaged one is passed over with a warning. Raises MismatchError for one of another run, and CheckpointError
        if the place cannot be read.
        """
        for position in reversed(self._positions()):
            try:
                state = self._read(position)
            except MismatchError:
                raise
            except (DataError, *GONE) as error:
                log.warning("%s; an earlier checkpoint is looked for", message_of(error))
                continue
            self._good = position
            return position, state
        return None

    def clear(self) -> None:
        """Removes all checkpoints: what they were for is done."""
        self.wait()
        for position in self._positions():
            self._remove(position)
        self._good = None
        with suppress(OSError):  # it is not there, or holds something else
            self.place.rmdir()

    def _read(self, position: int) -> Any:
        folder = self._folder(position)
        manifest = read_manifest(self._fetch(folder / MANIFEST), f"{folder / MANIFEST}")
        check_identity(manifest.identity, self._identity, f"{folder}")
        files = {}
        for name in (WEIGHTS, REST):
            path, expected = folder / name, manifest.files.get(name)
            if expected is None or _size(path) != expected[0]:
                raise DataError(f"{path}: damaged: it is cut off or not what was written")
            files[name] = self._fetch(path)
        if describe(files) != manifest.files:
            raise DataError(f"{folder}: damaged: a file is not what was written")
        from diagram_ray.training.checkpoints.serialisation import decode

        return decode(files, f"{folder}")

    def _fetch(self, path: Place) -> bytes:
        try:
            return self._retry(f"{path}", path.read_bytes)
        except GONE:
            raise
        except Exception as error:  # object stores raise kinds of their own
            raise CheckpointError(f"{path}: cannot be fetched: {message_of(error)}") from error

    def _write(self, position: int, state: "State") -> None:
        """In the thread: the files, then the manifest that makes them a checkpoint; then others are removed."""
        from diagram_ray.training.checkpoints.serialisation import encode

        folder = self._folder(position)
        try:
            files = encode(state)
            manifest = Manifest(position, dict(self._identity), describe(files)).to_json()
            self._retry(f"{folder}", lambda: _put(folder, files, manifest))
        except Exception as error:
            self._remove(position)
            good = "there is no earlier one" if self._good is None else f"the last good one is {self._good:06d}"
            raise CheckpointError(
                f"{folder}: the checkpoint could not be written: {message_of(error)}; {good}"
            ) from error
        self._good = position
        self._tidy(position)

    def _tidy(self, newest: int) -> None:
        """Removes what is not kept; also what is ahead of `newest`, which a run left that did not go on from it."""
        try:
            positions = self._positions()
            kept = [position for position in positions if position <= newest][-self._keep_last :]
            for position in set(positions) - set(kept):
                self._remove(position)
        except Exception as error:  # a checkpoint too many does no harm
            log.warning("%s: old checkpoints could not be removed: %s", self.place, message_of(error))

    def _positions(self) -> list[int]:
        """Of all checkpoints, whole or not, in order."""
        try:
            paths: list[Place] = self._retry(f"{self.place}", lambda: list(self.place.iterdir()))
        except GONE:
            return []
        except Exception as error:
            raise CheckpointError(f"{self.place}: cannot be listed: {message_of(error)}") from error
        return sorted(int(path.name) for path in paths if path.name.isascii() and path.name.isdigit())

    def _remove(self, position: int) -> None:
        try:
            remove(self._folder(position))
        except Exception as error:
            log.debug("%s: could not be removed: %s", self._folder(position), message_of(error))

    def _folder(self, position: int) -> Place:
        return self.place / f"{position:06d}"


def _put(folder: Place, files: Mapping[str, bytes], manifest: bytes) -> None:
    (folder / MANIFEST).unlink(missing_ok=True)  # of a checkpoint that was damaged
    for name, content in {**files, MANIFEST: manifest}.items():
        write_atomic(folder / name, content)


def _size(path: Place) -> int:
    return path.size() if isinstance(path, StorePath) else path.stat().st_size
