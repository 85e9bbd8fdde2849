"""Gzip, unpacked with a limit: a few kilobytes can unfold to more than a machine's memory."""

import gzip
import io
import zlib

from diagram_ray.errors import DataError

MAGIC = b"\x1f\x8b"
MOST_MEMBERS = 10_000
"""Pieces that are packed one by one; bgzip makes one of each 64 KiB."""


def unpacked(data: bytes, limit: int) -> bytes:
    """What is in gzip `data`; other data as they are.

    Raises DataError if it is damaged, has over `limit` bytes, or is made of very many pieces.
    """
    if not data.startswith(MAGIC):
        return data
    if data.count(MAGIC + b"\x08") > MOST_MEMBERS:  # what is packed looks like that once in 16 million bytes
        raise DataError(f"is gzip of more than {MOST_MEMBERS} members")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            inside = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"not readable as gzip: {error}") from None
    if len(inside) > limit:
        raise DataError(f"unpacks to more than {limit} bytes")
    return inside
