"""The folder that holds a raw data set, on this machine or on any file system that fsspec opens."""

import os
from pathlib import Path
from typing import BinaryIO

from diagram_ray.errors import DataError
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.opening import filesystem_of, open_file, open_place


class Source:
    """A folder's files by their paths inside it. Raises DataError if there is no such folder."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._outside: dict[str, bool] = {}
        self._place = open_place(uri)
        self._files, self._root = filesystem_of(self._place)
        try:
            is_folder = self._files.isdir(self._root)
        except Exception as error:  # object stores raise kinds of their own
            raise DataError(f"{uri}: cannot be opened: {' '.join(str(error).split())}") from None
        if not is_folder:
            raise DataError(f"{uri}: no such folder")

    def files(self) -> list[str]:
        """Every file at any depth, hidden ones left out, sorted. Raises DataError if they cannot be listed."""
        start = len(self._root) + 1
        try:
            paths = sorted(str(path)[start:] for path in self._files.find(self._root))
        except RecursionError:
            raise DataError(f"{self.uri}: has folders inside folders hundreds of levels deep") from None
        return [path for path in paths if not any(part.startswith(".") for part in path.split("/"))]

    def open(self, path: str) -> BinaryIO:
        """The file at `path` inside the folder. Raises OSError, or what an object store raises."""
        return open_file(self._place / path)

    def leads_out(self, path: str) -> bool:
        """Whether the file at `path` is a link, or lies behind one, that ends outside the folder."""
        if isinstance(self._place, StorePath):
            return False
        if (folder := path.rpartition("/")[0]) not in self._outside:  # few folders have many files
            self._outside[folder] = self._ends_outside(folder)
        is_link = os.path.islink(f"{self._root}/{path}")  # noqa: PTH114 - Path takes five times as long
        return self._outside[folder] or (is_link and self._ends_outside(path))

    def _ends_outside(self, path: str) -> bool:
        end = Path(os.path.realpath(f"{self._root}/{path}"))  # of links that lead to each other it says no more
        return not end.is_relative_to(Path(self._root).resolve())

    def full(self, path: str) -> str:
        """The path as `read_mammogram` takes it: plain for local files, a URI for others."""
        whole = f"{self._root}/{path}"
        return str(self._files.unstrip_protocol(whole)) if isinstance(self._place, StorePath) else whole

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self._root.rpartition("/")[2] or self.uri
