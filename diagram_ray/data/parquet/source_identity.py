"""What each image is made from, as one short text: where the text is the same, so is the prepared image.

It lets a run that was cut off, and `prepare --update`, leave alone what is there already. The text covers what the
source's tables say of the image, the size and time (or the object store's tag) of each of its files, the options, and
the program's own code. It is hashed with the key, because a patient's id is in it.
"""

import dataclasses
import hashlib
import hmac
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from diagram_ray import data
from diagram_ray.data.preprocessing.prepare_image import Options, image_id_of
from diagram_ray.data.records import ImageRecord
from diagram_ray.errors import DataError
from diagram_ray.storage.opening import filesystem_of, open_place

TAGS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime")
"""What file systems call the value that changes with a file's content, the surest first."""
NOTHING = ""
"""The stamp of a file that is not there."""


@dataclass(frozen=True)
class SourceImage:
    """An image that the dataset is to have."""

    record: ImageRecord
    image_id: str
    """The image's id as the dataset shows it."""
    identity: str
    """The identity of all that the image is made from: 32 hexadecimal digits."""


def identify_images(records: Sequence[ImageRecord], options: Options) -> list[SourceImage]:
    """The images by their id, each with its identity. Raises DataError if a file system cannot be listed."""
    stamps = _stamps({path for record in records for path in files_of(record)})
    shared = dataclasses.asdict(options) | {"key": None, "program": program_digest()}
    images = []
    for record in records:
        file_stamps = [stamps[path] for path in files_of(record)]
        identity = _keyed(options.key, [dataclasses.asdict(record), file_stamps, shared])
        images.append(SourceImage(record, image_id_of(record, options.key), identity))
    return sorted(images, key=lambda image: image.image_id)


def files_of(record: ImageRecord) -> list[str]:
    """All files that an image is prepared from."""
    return [record.path, *(path for mask in record.masks for path in mask.paths)]


@lru_cache(maxsize=1)
def program_digest() -> str:
    """The digest of the modules of `data`, which decide what becomes of an image."""
    digest = hashlib.sha256()
    for path in sorted(Path(data.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _keyed(key: bytes, content: Any) -> str:
    return hmac.new(key, json.dumps(content, sort_keys=True, default=str).encode(), hashlib.sha256).hexdigest()[:32]


def _stamps(paths: Iterable[str]) -> dict[str, str]:
    stamps: dict[str, str] = {}
    elsewhere: dict[tuple[Any, str], dict[str, str]] = defaultdict(dict)
    for path in paths:
        if "://" in path:
            files, name = filesystem_of(open_place(path))
            elsewhere[files, name.split("/")[0]][path] = name
        else:
            stamps[path] = _local(path)
    for (files, _), names in elsewhere.items():
        stamps |= _listed(files, names)
    return stamps


def _local(path: str) -> str:
    try:
        status = Path(path).stat()
    except OSError:  # decoding will say why
        return NOTHING
    return f"{status.st_size} {status.st_mtime_ns}"


def _listed(files: Any, names: dict[str, str]) -> dict[str, str]:
    """The stamps of one bucket's files: their common folder is listed once, a thousand names a request."""
    folder = os.path.commonpath([name.rpartition("/")[0] for name in names.values()])
    try:
        files.invalidate_cache()
        entries = files.find(folder, detail=True)
    except Exception as error:  # as above
        raise DataError(f"{folder}: cannot be listed: {' '.join(str(error).split())}") from None
    return {path: _stamp(entries[name]) if name in entries else NOTHING for path, name in names.items()}


def _stamp(info: dict[str, Any]) -> str:
    tag = next((str(info[name]) for name in TAGS if info.get(name)), "")
    return f"{info.get('size')} {tag}"
