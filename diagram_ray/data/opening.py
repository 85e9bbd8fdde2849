"""Opening files that are not ours: nothing waits for one that never answers."""

import errno
import os
import stat
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem


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
