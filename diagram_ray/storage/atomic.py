"""Files that are there whole or not at all."""

import os
import threading

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
