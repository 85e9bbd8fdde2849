"""The folder that holds a raw data set, on this machine or on any file system that fsspec opens."""

from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from diagram_ray.errors import DataError


class Source:
    """A folder's files by their paths inside it. Raises DataError if there is no such folder."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        try:
            self._files, root = fsspec.core.url_to_fs(uri)
            self._root = str(root).rstrip("/")
            found = self._files.isdir(self._root)
        except Exception as error:  # object stores raise kinds of their own
            raise DataError(f"{uri}: cannot be opened: {' '.join(str(error).split())}") from None
        if not found:
            raise DataError(f"{uri}: no such folder")

    def files(self) -> list[str]:
        """Every file at any depth, hidden ones left out, sorted."""
        start = len(self._root) + 1
        paths = sorted(str(path)[start:] for path in self._files.find(self._root))
        return [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]

    def open(self, path: str) -> BinaryIO:
        """The file at `path` inside the folder. Raises OSError."""
        file: BinaryIO = self._files.open(f"{self._root}/{path}", "rb")
        return file

    def leads_out(self, path: str) -> bool:
        """Whether the file at `path` is a link, or lies behind one, that ends outside the folder."""
        if "file" not in _protocols(self._files):
            return False
        return not Path(self._root, path).resolve().is_relative_to(Path(self._root).resolve())

    def full(self, path: str) -> str:
        """The path as `read_mammogram` takes it: plain for local files, a URI for others."""
        whole = f"{self._root}/{path}"
        return whole if "file" in _protocols(self._files) else str(self._files.unstrip_protocol(whole))

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self._root.rpartition("/")[2] or self.uri


def _protocols(files: Any) -> tuple[str, ...]:
    return (files.protocol,) if isinstance(files.protocol, str) else tuple(files.protocol)
