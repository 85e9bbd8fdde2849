"""Opening a DICOM file: the few tags that are needed, and no more work than an honest header makes.

pydicom alone would inflate a deflated file whatever its size, and follow a million nested elements. What it says of a
damaged file may quote the header, so its log is silent here and its words are not passed on.
"""

import io
import logging
import re
import warnings
import zlib
from collections.abc import Sequence

from diagram_ray.data.decoding.dicom.library import Dataset, dcmread, tag_for_keyword, uid
from diagram_ray.data.decoding.dicom.thinning import thinned
from diagram_ray.data.decoding.limits import LARGEST_FILE
from diagram_ray.errors import DataError

MOST_READS = 20_000
"""Reads of a file while its header is parsed: about two for each element. Most real headers take some hundred. A header
that takes more is parsed once again without the elements that are not wanted."""
NAMES = (".dcm", ".dicom")

_BARE = re.compile(rb"[\x02\x08]\x00[\x00-\xff]\x00(?:[A-Z]{2}|[\x00-\xff]\x00\x00\x00)", re.DOTALL)
"""How a file without the preamble begins: an element of group 0002 or 0008."""
_META_LENGTH = re.compile(rb"\x02\x00\x00\x00UL\x04\x00(....)", re.DOTALL)
_DEFLATED = uid.DeflatedExplicitVRLittleEndian.encode()
_BIG_ENDIAN = uid.ExplicitVRBigEndian.encode() + b"\0"

logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)


def is_dicom(data: bytes, name: str) -> bool:
    """Whether a file of this name that begins with `data` is read as DICOM. Some archives cut the preamble off."""
    return data[128:132] == b"DICM" or name.lower().endswith(NAMES) or bool(_BARE.match(data))


def read_header(data: bytes, tags: Sequence[str], *, pixels: bool = True) -> Dataset:
    """The wanted `tags` (keywords) of a DICOM file; without `pixels`, only what stands before them.

    Raises DataError if the header cannot be parsed, or is far larger than a real one, or unpacks to too much.
    """
    plain = _inflated(data)
    try:
        return _parsed(plain, tags, pixels)
    except _TooLong:
        pass
    try:
        return _parsed(_thinned(plain, tags), tags, pixels)
    except _TooLong:
        raise DataError("what is wanted of its DICOM header has too many elements or levels to be parsed") from None


def _parsed(data: bytes, tags: Sequence[str], pixels: bool) -> Dataset:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom warns of values that are merely unusual
            header = dcmread(_Limited(data), force=True, specific_tags=list(tags), stop_before_pixels=not pixels)
            _name_syntax(header)
    except (DataError, _TooLong):
        raise
    except RecursionError:
        raise _TooLong from None
    except Exception as error:  # damaged data make pydicom raise anything
        raise DataError(f"its DICOM header cannot be parsed ({type(error).__name__})") from None
    return header


def _thinned(data: bytes, tags: Sequence[str]) -> bytes:
    """The file with the wanted elements alone."""
    start = _meta_end(data)
    numbers = {number for tag in tags if (number := tag_for_keyword(tag)) is not None}
    return thinned(data, start, numbers, big_endian=_BIG_ENDIAN in data[:start])


class _TooLong(Exception):  # noqa: N818 - no error yet
    """A header of very many elements or levels."""


class _Limited(io.BytesIO):
    """A file that may be read from so many times: whatever the nesting, each element takes a read or two."""

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes of the file. Raises _TooLong when it has been called too often."""
        self._reads += 1
        if self._reads > MOST_READS:
            raise _TooLong
        return super().read(size)


def _name_syntax(header: Dataset) -> None:
    """Files with no preamble have no transfer syntax; they are not compressed, and pydicom saw how they are written."""
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        if not little:
            raise DataError("a big-endian DICOM file without a transfer syntax is not read")
        header.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian


def _meta_end(data: bytes) -> int:
    """Where pydicom will stop to read file meta information, or beyond; the search of a whole film takes long."""
    place = 132 if data[128:132] == b"DICM" else 0
    while data[place : place + 2] == b"\x02\x00":
        kind = data[place + 4 : place + 6]
        if kind in (b"OB", b"UN"):
            place += 12 + int.from_bytes(data[place + 8 : place + 12], "little")
        elif kind in (b"UI", b"UL", b"SH", b"AE"):
            place += 8 + int.from_bytes(data[place + 6 : place + 8], "little")
        else:
            return len(data)
    return place


def _inflated(data: bytes) -> bytes:
    """The file with its data set unpacked, if that is deflated (DICOM PS3.5 A.5)."""
    place = data.find(_DEFLATED, 0, _meta_end(data))
    if place < 0:
        return data
    length = _META_LENGTH.match(data, 132)
    start = length.end() + int.from_bytes(length[1], "little") if length else 0
    if not 132 <= place < start <= len(data):
        raise DataError("a deflated DICOM file with a damaged beginning")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        inside = unpacker.decompress(data[start:], LARGEST_FILE + 1)
    except zlib.error:
        raise DataError("a deflated DICOM file that does not unpack: it is damaged") from None
    if len(inside) > LARGEST_FILE:
        raise DataError(f"a deflated DICOM file that unpacks to more than {LARGEST_FILE // 2**20} MiB")
    if _DEFLATED in inside:
        raise DataError("a deflated DICOM file with another one inside")
    plain = data[:start].replace(_DEFLATED, uid.ExplicitVRLittleEndian.encode().ljust(len(_DEFLATED), b"\0"))
    return plain + inside
