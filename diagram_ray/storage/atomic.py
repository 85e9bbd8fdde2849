"""Files and folders that are there whole or not at all."""

import os
import shutil
import threading
from pathlib import Path

from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place


def write_atomic(path: Place, content: bytes | str) -> None:
    """Writes a file so that a reader sees the old one or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, StorePath):
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def exchange_folder(draft: Path, place: Path, aside: Path, instead: bool) -> None:
    """Gives the folder `draft` the name `place`; with `instead` that of a folder, which is at `aside` for a moment.

    A reader finds the old folder, the new one or, between two renames, none. Raises OSError if another is in the place,
    and the old one is back.
    """
    shutil.rmtree(aside, ignore_errors=True)
    if instead:
        place.rename(aside)
    try:
        draft.rename(place)  # over an empty folder too, but over no other
    except OSError:
        if instead:
            aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)
