"""Opening files that are not ours, here and in object stores: nothing waits for one that never answers."""

import errno
import os
import stat
from dataclasses import replace
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, place_at


def open_place(uri: str) -> Place:
    """The place of data at a path or URI, absolute, so that it means the same in every process.

    A store is asked once for each thing, as its own library repeats what fails: a wrong URI is told at once.
    Raises DataError if the packages for such a place are missing, and UsageError for a URI with a password in it.
    """
    place = place_at(uri)
    if isinstance(place, StorePath):
        place.check_packages()
        return replace(place, once=True)
    return place.expanduser().absolute()


def open_file(place: Place) -> BinaryIO:
    """The file at `place`, to be read. Raises OSError; in an object store also what the store raises.

    On this machine only regular files are opened, behind links too: a named pipe would keep its reader waiting for
    ever, and a device may be endless.
    """
    if isinstance(place, StorePath):
        return place.open("rb")
    handle = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise IsADirectoryError if stat.S_ISDIR(mode) else OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(handle, "rb")


def filesystem_of(place: Place) -> tuple[Any, str]:
    """The fsspec file system of a place, and its path there: for libraries that take nothing else."""
    return place.filesystem if isinstance(place, StorePath) else (LocalFileSystem(), str(place))
