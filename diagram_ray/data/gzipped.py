"""Gzip, unpacked with a limit: a few kilobytes can unfold to more than a machine's memory."""

import gzip
import io
import zlib

from diagram_ray.errors import DataError

MAGIC = b"\x1f\x8b"


def unpacked(data: bytes, limit: int) -> bytes:
    """What is in gzip `data`; other data as they are. Raises DataError if it is damaged or has over `limit` bytes."""
    if not data.startswith(MAGIC):
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            inside = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not readable as gzip: {error}") from None
    if len(inside) > limit:
        raise DataError(f"unpacks to more than {limit} bytes")
    return inside
