"""A folder for what Ray Tune and Ray Train insist on writing. In the study's place, because all nodes must reach it."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, remove
from diagram_ray.study.study_folder import SCRATCH


@contextmanager
def scratch(folder: Place) -> Iterator[Place]:
    """Makes a new folder in a study's, which is removed at the end."""
    if isinstance(folder, StorePath):
        path: Place = folder / f"{SCRATCH}{secrets.token_hex(4)}"
    else:
        path = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))
    try:
        yield path
    finally:
        if isinstance(path, StorePath):
            files, name = path.filesystem
            with suppress(Exception):  # asked once: the next driver removes what is left
                files.rm(name, recursive=True)
        else:
            remove(path)


def storage(place: Place) -> dict[str, Any]:
    """The arguments by which Ray gets the place of its files."""
    if isinstance(place, Path):
        return {"storage_path": str(place)}
    files, path = place.filesystem
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(files))}
