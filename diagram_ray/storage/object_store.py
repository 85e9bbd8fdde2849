"""An object store behind the part of pathlib's interface that studies and models need.

There are no folders in it, only objects whose names have one beginning; an object appears at once and whole, nothing
can be renamed, and what one has written the next one reads and lists at once (S3, Google Cloud Storage and Azure do).
"""

import fnmatch
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import fsspec

from diagram_ray.errors import DataError, DiagramError, StoreError, UsageError, one_line

log = logging.getLogger("diagram_ray")
T = TypeVar("T")
GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""A file is not there, or is none: asking again will not help."""


@dataclass(frozen=True)
class Retry:
    """How often a disk or an object store is asked again, and how long after: first, first * factor, …"""

    attempts: int = 5
    first: float = 1.0
    """Seconds before the second attempt."""
    factor: float = 4.0
    wait: Callable[[float], None] = time.sleep
    final: tuple[type[Exception], ...] = GONE
    """The errors that are raised at once."""

    def __call__(self, what: str, call: Callable[[], T]) -> T:
        """The value that `call` returns. Raises the last of its failures, if all attempts fail."""
        for attempt in range(1, self.attempts):
            try:
                return call()
            except self.final:
                raise
            except Exception as error:  # object stores raise kinds of their own
                pause = self.first * self.factor ** (attempt - 1)
                log.warning("%s: %s; trying again in %g s", what, message_of(error), pause)
                self.wait(pause)
        return call()


RETRY = Retry(final=(*GONE, PermissionError, NotImplementedError, DiagramError))
"""The retries of all calls of an object store here."""
UPLOAD_BYTES = 8 * 2**20
"""A file that is written piece by piece is sent in parts of this size."""
EXTRAS = {"gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Kinds of places that need packages which not every installation has -> the extra that brings them."""


def message_of(error: BaseException) -> str:
    """An error's words on one line."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, order=True)
class StorePath:
    """A file or folder in an object store. Its methods are those of pathlib.Path.

    A call of the store that fails is repeated with growing pauses, unless `once`. Raises StoreError, which names the
    URI, when it keeps failing, and FileNotFoundError as a disk does.
    """

    uri: str
    once: bool = field(default=False, compare=False, repr=False)
    """Whether each call is made once and raises what the store's library raises: for callers that ask again themselves,
    or must tell at once."""

    def __str__(self) -> str:
        return self.uri

    def __truediv__(self, name: str) -> "StorePath":
        return replace(self, uri=f"{self.uri}/{name}")

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.uri.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The last part of the path without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> "StorePath":
        """The folder that the path is in."""
        return replace(self, uri=self.uri.rpartition("/")[0])

    def with_name(self, name: str) -> "StorePath":
        """The path of another name in the same folder."""
        return self.parent / name

    def absolute(self) -> "StorePath":
        """The path itself, as every URI is absolute."""
        return self

    def is_absolute(self) -> bool:
        """True, as every URI is absolute."""
        return True

    def is_symlink(self) -> bool:
        """False, as object stores have no links."""
        return False

    def is_file(self) -> bool:
        """Whether there is an object of this name."""
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there is anything in a folder of this name."""
        return self._kind() == "directory"

    def exists(self) -> bool:
        """Whether there is a file or a folder of this name."""
        return self._kind() is not None

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: folders come with what is put into them."""

    def rmdir(self) -> None:
        """Does nothing: folders go with the last of what is in them."""

    def iterdir(self) -> "Iterator[StorePath]":
        """The paths in the folder, by name. Raises FileNotFoundError if there are none."""
        paths = [str(entry).rstrip("/") for entry in self._ask(lambda files, path: files.ls(path, detail=False))]
        return iter([self / name for name in sorted({path.rpartition("/")[2] for path in paths if path != self._path})])

    def glob(self, pattern: str) -> "Iterator[StorePath]":
        """The paths in the folder that fit a pattern of one name; after `**/` also files in folders inside it."""
        inside = pattern.startswith("**/")
        places = self.files() if inside else list(self.iterdir()) if self.is_dir() else []
        return (place for place in places if fnmatch.fnmatchcase(place.name, pattern.removeprefix("**/")))

    def files(self) -> "list[StorePath]":
        """The files in the folder and in folders inside it, by name."""
        return [self / name for name in sorted(self._inside())]

    def size(self) -> int:
        """The file's size in bytes. Raises FileNotFoundError."""
        return int(self._ask(lambda files, path: files.info(path))["size"])

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file, to be read or written piece by piece; one that is written is there when it is closed."""
        file: BinaryIO = self._ask(lambda files, path: files.open(path, mode, block_size=UPLOAD_BYTES))
        return file

    def read_bytes(self) -> bytes:
        """The whole file's bytes. Raises FileNotFoundError."""
        return bytes(self._ask(lambda files, path: files.cat_file(path)))

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole file's text. Raises FileNotFoundError, UnicodeDecodeError."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> int:
        """Writes the file: a reader sees the old content or the new one. Raises UsageError if there is no such
        bucket."""
        try:
            self._ask(lambda files, path: files.pipe_file(path, data))
        except FileNotFoundError:
            raise UsageError(f"{self}: cannot be written: there is no such bucket") from None
        return len(data)

    def create(self, data: bytes) -> bool:
        """Writes the file unless it is there (`If-None-Match: *`); False if it is, perhaps from an attempt of our own.

        The store decides: of several writers at the same moment one gets True.
        """

        def attempt(files: Any, path: str) -> bool:
            try:
                files.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            except Exception:
                if self.exists():  # the answer was lost, or the store has another word for it
                    return False
                raise
            return True

        return bool(self._ask(attempt))

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the file. Raises FileNotFoundError unless `missing_ok`, where the store reports it."""
        try:
            self._ask(lambda files, path: files.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove_all(self) -> None:
        """Removes all that is in the folder."""
        with suppress(FileNotFoundError):
            self._ask(lambda files, path: files.rm(path, recursive=True))

    def copy_to(self, target: "StorePath") -> None:
        """Copies an object inside the store."""
        self._ask(lambda files, path: files.cp_file(path, target._path))

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """The contents of files in this folder, fetched many at a time. Raises FileNotFoundError."""
        contents = self._ask(lambda files, path: files.cat([f"{path}/{name}" for name in names]) if names else {})
        return [bytes(contents[f"{self._path}/{name}"]) for name in names]

    def reach(self) -> None:
        """Calls the store once. Raises UsageError if it cannot be reached, or refuses."""
        try:
            self._files.info(self._path)
        except FileNotFoundError:
            return
        except Exception as error:  # object stores raise kinds of their own
            raise UsageError(f"{self}: cannot be opened: {one_line(error)}") from None

    def check_packages(self) -> None:
        """Raises DataError if the packages for this kind of store are missing, or it is unknown."""
        self._opened()

    def _opened(self) -> tuple[Any, str]:
        try:
            return _open(self.uri)
        except ImportError as error:
            raise DataError(f"{self}: cannot be opened: {missing(self.uri, error)}") from None
        except Exception as error:  # object stores raise kinds of their own
            raise DataError(f"{self}: cannot be opened: {one_line(error)}") from None

    @property
    def filesystem(self) -> tuple[Any, str]:
        """The fsspec file system, and the path on it."""
        return _open(self.uri)

    @property
    def _files(self) -> Any:
        return _open(self.uri)[0]

    @property
    def _path(self) -> str:
        return _open(self.uri)[1]

    def _kind(self) -> str | None:
        """fsspec's own isfile() would take a store that does not answer for a file that is not there."""
        try:
            return str(self._ask(lambda files, path: files.info(path))["type"])
        except FileNotFoundError:
            return None

    def _inside(self) -> list[str]:
        names = self._ask(lambda files, path: files.find(path))
        return [str(name).removeprefix(f"{self._path}/") for name in names]

    def _ask(self, call: Callable[[Any, str], T]) -> T:
        if self.once:
            return call(*_open(self.uri))
        files, path = self._opened()
        try:
            return RETRY(self.uri, lambda: call(files, path))
        except (*GONE, DiagramError):
            raise
        except Exception as error:  # object stores raise kinds of their own
            raise StoreError(f"{self}: the object store does not do what it was asked: {one_line(error)}") from error


def _open(uri: str) -> tuple[Any, str]:
    """The file system and the path, without fsspec's memory of what a folder held: others write there as well."""
    files, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    return files, str(path).rstrip("/")


def missing(uri: str, error: ImportError) -> str:
    """A sentence that the packages for a kind of place are missing, and how to get them."""
    extra = EXTRAS.get(uri.partition("://")[0].lower())
    return f"its packages are missing: pip install 'diagram_ray[{extra}]'" if extra else one_line(error)
