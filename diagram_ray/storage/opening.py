"""Opening files that are not ours, here and in object stores: nothing waits for one that never answers."""

import errno
import os
import stat
from typing import Any, BinaryIO

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from diagram_ray.errors import DataError, one_line
from diagram_ray.storage.paths import check_uri

EXTRAS = {"gs": "gcs", "gcs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Kinds of places that need packages which not every installation has -> the extra that brings them."""


def open_file(files: Any, path: str) -> BinaryIO:
    """The file at `path` of an fsspec file system `files`. Raises OSError, or what an object store raises.

    On this machine only regular files are opened, behind links too: a named pipe would keep its reader waiting for
    ever, and a device may be endless.
    """
    if type(files) is not LocalFileSystem:  # one made from it opens files in a way of its own
        file: BinaryIO = files.open(path, "rb")
        return file
    handle = os.open(files._strip_protocol(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise IsADirectoryError if stat.S_ISDIR(mode) else OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(handle, "rb")


def open_place(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a path or URI, and the path on it without a slash at its end.

    Raises DataError, and UsageError for a URI with a password in it.
    """
    check_uri(uri)
    try:
        files, path = url_to_fs(uri)
    except ImportError as error:
        raise DataError(f"{uri}: cannot be opened: {missing(uri, error)}") from None
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}: cannot be opened: {one_line(error)}") from None
    return files, str(path).rstrip("/")


def missing(uri: str, error: ImportError) -> str:
    """A sentence that the packages for a kind of place are missing, and how to get them."""
    extra = EXTRAS.get(uri.partition("://")[0].lower())
    return f"its packages are missing: pip install 'diagram_ray[{extra}]'" if extra else one_line(error)


def is_local(files: Any) -> bool:
    """Whether an fsspec file system is this machine's own."""
    return "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)
