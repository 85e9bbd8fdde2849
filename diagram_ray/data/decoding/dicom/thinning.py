"""A DICOM file reduced to the elements that are wanted, for headers with very many others.

pydicom makes objects of all that is in a sequence of undefined length, wanted or not: some microseconds and hundreds of
bytes for each eight of the file. Here the others are stepped over where they lie (PS3.5, 7.1 and 7.5), and a frame in
many fragments (PS3.5, A.4) becomes a frame in one.
"""

import struct
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.native_codecs import READ_ONLY_BYTES, native

LONG = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
"""Value representations whose length has four bytes, behind two that are reserved (PS3.5, 7.1.2)."""
ITEM_END, SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
"""The undefined length of an element: items or a delimiter say where it ends."""

_FRAGMENT, _SEQUENCE_END = 0xE000FFFE, 0xE0DDFFFE
"""Tags (FFFE,E000) and (FFFE,E0DD) as little-endian numbers."""
_LITTLE = np.array([[16, 24, 0, 8], [0, 8, 16, 24]])
_BIG = np.array([[24, 16, 8, 0], [24, 16, 8, 0]])
"""By how many bits the bytes of a tag, and those of a length, are shifted to make a number."""
_INTS = "Array(int64, 1, 'C')"


def thinned(data: bytes, start: int, tags: Collection[int], big_endian: bool) -> bytes:
    """The file `data`, whose data set begins at byte `start`, with the elements `tags` of its first level alone.

    Nothing is checked: a damaged file may lose elements.
    """
    kind = data[start + 4 : start + 6]
    explicit = kind.isalpha() and kind.isupper()
    long = np.array([int.from_bytes(name.encode(), "big" if big_endian else "little") for name in LONG])
    spans = np.zeros((len(tags), 3), np.int64)
    shifts = _BIG if big_endian else _LITTLE
    count = _find(np.frombuffer(data, np.uint8), start, explicit, shifts, np.array(sorted(tags)), long, spans)
    parts = [data[:start]]
    for begin, value, end in spans[:count].tolist():
        encapsulated = data[begin : begin + 4] == b"\xe0\x7f\x10\0" and data[value - 4 : value] == b"\xff" * 4
        content = _in_one_fragment(data[value:end]) if encapsulated else data[value:end]
        parts.append(data[begin:value] + content)
    return b"".join(parts)


def _in_one_fragment(items: bytes) -> bytes:
    """The value of an encapsulated Pixel Data without its table of offsets, all fragments in one."""
    joined = np.empty(len(items), np.uint8)
    count = _join(np.frombuffer(items, np.uint8), joined)
    head = struct.pack("<IIII", _FRAGMENT, 0, _FRAGMENT, count)
    return head + joined[:count].tobytes() + struct.pack("<II", _SEQUENCE_END, 0)


@native(f"int64({READ_ONLY_BYTES}, int64, boolean, Array(int64, 2, 'C'), {_INTS}, {_INTS}, Array(int64, 2, 'C'))")
def _find(
    data: NDArray[np.uint8],
    place: int,
    explicit: bool,
    shifts: NDArray[np.int64],
    tags: NDArray[np.int64],
    long: NDArray[np.int64],
    spans: NDArray[np.int64],
) -> int:
    """Fills `spans` with the places of the wanted elements' tag, value and end; how many there are.

    Items and sequences of undefined length go one level down, and their delimiters up again. What is inside a value of
    undefined length and unknown representation (UN, the tenth of LONG) is implicit (PS3.5, 6.2.2).
    """
    count, level, wanted, implicit_from = 0, 0, False, 2**40 if explicit else 0
    while place + 8 <= len(data) and count < len(spans):
        tag, length, kind = 0, 0, 0
        for index in range(4):
            tag |= int(np.int64(data[place + index])) << shifts[0, index]
            length |= int(np.int64(data[place + 4 + index])) << shifts[1, index]
        if level == 0:
            wanted = bool(tag == tags[min(int(np.searchsorted(tags, tag)), len(tags) - 1)])
            spans[count, 0] = place
        place += 8
        if tag >> 16 != 0xFFFE and level < implicit_from:  # a representation, and a length of two bytes
            high, low = length >> 16, length & 0xFFFF
            kind, length = (high, low) if shifts[1, 0] else (low, high)
            if np.any(long == kind) and place + 4 <= len(data):
                length = 0
                for index in range(4):
                    length |= int(np.int64(data[place + index])) << shifts[1, index]
                place += 4
        spans[count, 1] = place if level == 0 else spans[count, 1]
        if tag in (ITEM_END, SEQUENCE_END):
            level = max(level - 1, 0)
            implicit_from = 2**40 if 0 < level + 1 == implicit_from else implicit_from
        elif length == UNDEFINED:
            level += 1
            implicit_from = min(level if kind == long[9] else 2**40, implicit_from)
        else:
            place = min(place + length, len(data))
        if wanted and level == 0:
            spans[count, 2] = place
            count, wanted = count + 1, False
    return count


@native(f"int64({READ_ONLY_BYTES}, Array(uint8, 1, 'C'))")
def _join(items: NDArray[np.uint8], joined: NDArray[np.uint8]) -> int:
    """Puts the contents of all items but the first into `joined`; how many bytes they are."""
    place, count, first = 0, 0, True
    while place + 8 <= len(items) and items[place + 2] == 0x00 and items[place + 3] == 0xE0:
        length = 0
        for index in range(4):
            length |= int(np.int64(items[place + 4 + index])) << (8 * index)
        place += 8
        length = min(length, len(items) - place)
        if not first:
            joined[count : count + length] = items[place : place + length]
            count += length
        place, first = place + length, False
    return count
