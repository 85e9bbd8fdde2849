"""Folders of studies and models: on a disk, or in an object store.

`place_at("runs/x")` is a pathlib.Path, `place_at("s3://bucket/x")` a `StorePath` with the same methods. A folder in a
store is whole when the file that is written last is in it.

Keys and tokens come from where the store's own library looks for them (environment, files, the machine's role), never
from a URI: URIs stand in study.yaml, in logs and on pages.
"""

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from diagram_ray.errors import UsageError
from diagram_ray.storage.object_store import StorePath

Place = Path | StorePath
CONTAINERS = ("abfs", "abfss", "az", "wasb", "wasbs")
"""Kinds of URI (Azure's) in which CONTAINER@ACCOUNT is no user."""


def place_at(text: str | Place) -> Place:
    """The folder or file at a path or URI; nothing is asked of a store. Raises UsageError for one with a key in it."""
    if isinstance(text, StorePath | Path):
        return text
    check_uri(text)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    return StorePath(text.rstrip("/")) if "://" in text else Path(text)


def reached(text: str | Place) -> Place:
    """The place that `place_at` gives, after its store has answered. Raises UsageError."""
    place = place_at(text)
    if isinstance(place, StorePath):
        place.reach()
    return place


def absolute(text: str) -> str:
    """A path or URI that means the same in any folder, to be written down. Raises UsageError for one with a key."""
    check_uri(text)
    return text if "://" in text else str(Path(text).resolve())


def check_uri(text: str) -> None:
    """Raises UsageError for a URI that has a password or parameters in it, and shows neither."""
    if "://" not in text:
        return
    scheme, _, rest = text.partition("://")
    host, slash, path = re.split("[?#]", rest)[0].partition("/")
    user, at, bucket = host.rpartition("@")
    if ":" in user or (at and scheme not in CONTAINERS) or "?" in rest or "#" in rest:
        shown = f"{scheme}://{bucket}{slash}{path}"
        raise UsageError(
            f"{shown}: give the URI without user, password and parameters: it is written down for others to read; "
            "keys come from the environment, from the store's own files or from the machine's role"
        )
    if any(character in rest for character in "*[]"):
        raise UsageError(f"{text}: a place in an object store cannot have *, [ or ] in its name")


def remove(place: Place) -> None:
    """Removes a folder and all that is in it, if it is there. On a disk what cannot be removed is left."""
    if isinstance(place, StorePath):
        place.remove_all()
    else:
        shutil.rmtree(place, ignore_errors=True)


def discard(place: Place) -> None:
    """Removes a file or a folder, if it is there; a link, not what it leads to."""
    if place.is_dir() and not place.is_symlink():
        remove(place)
    else:
        place.unlink(missing_ok=True)


def put_folder(source: Path, target: StorePath, last: str) -> None:
    """Puts a local folder's files in the place of `target`, which is whole when `last` is in it."""
    files = [path for path in source.rglob("*") if path.is_file()]
    _fill(target, last, {path.relative_to(source).as_posix(): partial(_put, path) for path in files})


def copy_folder(source: StorePath, target: StorePath, last: str) -> None:
    """Puts copies of a folder's files in the place of `target`, which is whole when `last` is in it."""
    _fill(target, last, {path.name: path.copy_to for path in source.iterdir()})


def _fill(target: StorePath, last: str, files: dict[str, Callable[[StorePath], None]]) -> None:
    """`last` goes first and comes last."""
    (target / last).unlink(missing_ok=True)
    target.remove_all()
    for name in sorted(files, key=lambda name: (name == last, name)):
        files[name](target / name)


def _put(source: Path, target: StorePath) -> None:
    target.write_bytes(source.read_bytes())


@contextmanager
def on_disk(file: Place) -> Iterator[Path]:
    """A file as one on this machine's disk: itself, or a copy for as long as the block takes."""
    if isinstance(file, Path):
        yield file
        return
    with tempfile.TemporaryDirectory(prefix="diagram-ray-") as folder:
        path = Path(folder) / file.name
        path.write_bytes(file.read_bytes())
        yield path
