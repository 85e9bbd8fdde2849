"""Lossless JPEG as the coder of DDSM's films wrote it: Huffman-coded, one component, process SOF3.

That coder, Stanford's PVRG-JPEG, departs from ITU-T T.81, H.1.2.1. In the first row the standard predicts each sample
from its left neighbour; PVRG uses the scan's own predictor there too, with a row above the image that is all
2^(P - Pt - 1). For predictors 2, 3, 6 and 7 (DDSM has 7) a decoder that follows the standard gives wrong pixels in the
whole image. Its restart markers come at the ends of rows, and unlike the standard's they reset nothing.
"""

import re
import struct
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.limits import LARGEST_IMAGE
from diagram_ray.data.decoding.native_codecs import READ_ONLY_BYTES, native
from diagram_ray.errors import DataError

LONGEST_HEADER = 2**17
"""Bytes before the scan's data. DDSM's own headers have about 70."""

_SOF3, _DHT, _SOI, _EOI, _SOS, _DRI = 0xC3, 0xC4, 0xD8, 0xD9, 0xDA, 0xDD
_OTHER_FRAMES = frozenset(range(0xC0, 0xD0)) - {_SOF3, _DHT, 0xC8, 0xCC}
_WITHOUT_BODY = frozenset((0x01, *range(0xD0, 0xDA)))
_LONGEST_CODE = 16
_QUICK = 11
"""Bits that usually are enough to tell a code. A table of 2^11 entries stays in the fastest cache, one of 2^16 not."""


@dataclass
class _Header:
    """What the segments before the scan's data say."""

    precision: int = 0
    rows: int = 0
    columns: int = 0
    component: int = 0
    tables: dict[int, tuple[bytes, bytes, int]] = field(default_factory=dict)
    """Of each Huffman table, how many codes have 1 to 16 bits, the categories that they stand for, and its place."""
    interval: int = 0
    """Samples between restart markers; 0: there are none."""
    table: int = 0
    predictor: int = 0
    point_transform: int = 0
    end: int = 0
    """Where the scan's data starts."""


def decode(data: bytes, shape: tuple[int, int] | None = None) -> NDArray[np.uint16]:
    """The pixels (rows, columns) of a lossless JPEG stream, high values as stored.

    `shape` is (rows, columns) where they are known better than from the stream's header, which in some DDSM files has
    them exchanged: the samples are in the same order all the same. None: the header's. Raises DataError, which names
    the byte, for a stream that is damaged, incomplete, too large or of another kind, or if neither order is `shape`.
    """
    header = _read_header(data)
    size = _checked_shape(header, shape)
    if 8 * (len(data) - header.end) < header.rows * header.columns:  # a sample takes a bit at least
        raise _bad(header.end, f"{len(data) - header.end} bytes are too few for {header.rows} rows of {header.columns}")
    samples = np.empty((header.rows, header.columns), dtype=np.uint16)
    _read_scan(data, header, samples.reshape(-1))
    _restore(samples, header.predictor, 1 << (header.precision - header.point_transform - 1))
    if header.point_transform:
        samples <<= header.point_transform
    return samples.reshape(size)


def _checked_shape(header: _Header, shape: tuple[int, int] | None) -> tuple[int, int]:
    size = header.rows, header.columns
    if shape is not None and shape not in (size, size[::-1]):
        raise DataError(
            f"lossless JPEG: the header says {size[0]} rows of {size[1]}, or exchanged {size[1]} rows of {size[0]}; "
            f"expected {shape[0]} rows of {shape[1]}"
        )
    return shape or size


def _read_header(data: bytes) -> _Header:
    if data[:2] != bytes((0xFF, _SOI)):
        raise DataError(f"not a JPEG stream: starts with {data[:2].hex(' ') or 'nothing'}, not ff d8")
    header, start = _Header(), 2
    while start < LONGEST_HEADER:
        code, position = _marker(data, start)
        if code in _WITHOUT_BODY:
            raise _bad(start, f"marker {code:02x} stands before any scan")
        body = _body(data, position, code)
        _read_segment(header, code, body, start)
        position += 2 + len(body)
        if code == _SOS:
            header.end = position
            return header
        start = position
    raise _bad(start, "no scan has started")


def _marker(data: bytes, start: int) -> tuple[int, int]:
    """A marker's code and where it ends. Any number of bytes ff may stand before it."""
    match = re.compile(rb"\xff++(.)", re.DOTALL).match(data, start)
    if not match or match[1] == b"\0":
        raise _bad(start, f"expected a marker, found {data[start : start + 2].hex(' ') or 'the end'}")
    return match[1][0], match.end()


def _body(data: bytes, position: int, code: int) -> bytes:
    length = int.from_bytes(data[position : position + 2])
    body = data[position + 2 : position + length]
    if length < 2 or len(body) < length - 2:
        raise _bad(position, f"marker {code:02x} says {length} bytes, the file has {len(data) - position}")
    return body


def _read_segment(header: _Header, code: int, body: bytes, start: int) -> None:
    if code == _SOF3:
        _read_frame(header, body, start)
    elif code in _OTHER_FRAMES:
        raise _bad(start, f"JPEG process {code:02x}; only c3, lossless with Huffman codes, is read")
    elif code == _DHT:
        header.tables.update(_read_tables(body, start))
    elif code == _DRI:
        header.interval = _unpack(">H", body, "the restart interval", start)[0]
    elif code == _SOS:
        _read_scan_header(header, body, start)


def _read_frame(header: _Header, body: bytes, start: int) -> None:
    if header.precision:
        raise _bad(start, "a second frame")
    precision, rows, columns, components = _unpack(">BHHB", body[:6], "the frame", start)
    if components != 1:
        raise _bad(start, f"{components} components; only 1 is read")
    if not 2 <= precision <= 16:
        raise _bad(start, f"{precision} bits a sample; allowed are 2 to 16")
    if not 0 < rows * columns <= LARGEST_IMAGE:
        raise _bad(start, f"{rows} rows of {columns}; at least 1 pixel and at most {LARGEST_IMAGE} are read")
    header.component = _unpack(">BBB", body[6:], "the component", start)[0]
    header.precision, header.rows, header.columns = precision, rows, columns


def _read_scan_header(header: _Header, body: bytes, start: int) -> None:
    components, component, table, predictor, _, transform = _unpack(">BBBBBB", body, "a scan of 1 component", start)
    if not header.precision:
        raise _bad(start, "a scan without a frame before it")
    if (components, component) != (1, header.component):
        raise _bad(start, f"the scan has {components} components, first {component}; expected 1: {header.component}")
    if table >> 4 not in header.tables:
        raise _bad(start, f"Huffman table {table >> 4} is not defined")
    if not 1 <= predictor <= 7:
        raise _bad(start, f"predictor {predictor}; allowed are 1 to 7")
    if transform >= header.precision:
        raise _bad(start, f"point transform {transform} of {header.precision} bits")
    if header.interval % header.columns:
        raise _bad(start, f"a restart interval of {header.interval}: not a number of whole rows of {header.columns}")
    header.table, header.predictor, header.point_transform = table >> 4, predictor, transform


def _unpack(form: str, body: bytes, what: str, start: int) -> tuple[int, ...]:
    if len(body) != struct.calcsize(form):
        raise _bad(start, f"{what} takes {struct.calcsize(form)} bytes, found {len(body)}")
    return struct.unpack(form, body)


def _read_tables(body: bytes, start: int) -> dict[int, tuple[bytes, bytes, int]]:
    """The segment's tables by number. Those for AC coefficients have no use here."""
    tables, position = {}, 0
    while position < len(body):
        kind, number = divmod(body[position], 16)
        counts = body[position + 1 : position + 1 + _LONGEST_CODE]
        position += 1 + _LONGEST_CODE + sum(counts)
        if kind > 1 or number > 3 or position > len(body):
            raise _bad(start, f"Huffman table {kind:x}{number:x} of {len(counts)} lengths and {sum(counts)} codes")
        if kind == 0:
            tables[number] = counts, body[position - sum(counts) : position], start
    return tables


def _lookup(counts: bytes, categories: bytes, start: int) -> NDArray[np.uint32]:
    """For every 16 bits that may come next, what the code at their front means; 0 where none begins so.

    An entry has, from its lowest bit: 8 bits, the length of the code and of what follows it; 8 bits, the length of what
    follows; 16 bits, what to add to that if its first bit is 0. Category 16 is the difference 32768: nothing follows.
    """
    if any(category > _LONGEST_CODE for category in categories):
        raise _bad(start, f"a Huffman code for category {max(categories)}; the largest is {_LONGEST_CODE}")
    lengths = np.repeat(np.arange(1, _LONGEST_CODE + 1), list(counts))
    shares = 1 << (_LONGEST_CODE - lengths)
    if shares.sum() > 1 << _LONGEST_CODE:
        raise _bad(start, f"more Huffman codes than can be told apart: {counts.hex(' ')}")
    category = np.frombuffer(categories, dtype=np.uint8).astype(np.int64)
    follows = np.where(category < _LONGEST_CODE, category, 0)
    added = np.where(category < _LONGEST_CODE, 1 - (1 << category), 1 << 15) & 0xFFFF
    table = np.zeros(1 << _LONGEST_CODE, dtype=np.uint32)
    table[: shares.sum()] = np.repeat(lengths + follows | follows << 8 | added << 16, shares)
    return table


def _read_scan(data: bytes, header: _Header, differences: NDArray[np.uint16]) -> None:
    """Fills `differences`, one row after the other."""
    stream, table = np.frombuffer(data, dtype=np.uint8), _lookup(*header.tables[header.table])
    quick = np.where((table & 0xFF) - (table >> 8 & 0xFF) <= _QUICK, table, 0)[:: 1 << (_LONGEST_CODE - _QUICK)].copy()
    position, step = header.end, header.interval or len(differences)
    for number, first in enumerate(range(0, len(differences), step)):
        if number:
            position = _pass_marker(data, position, 0xD0 + (number - 1) % 8)
        part = differences[first : first + step]
        done, position, bits = _read_differences(stream, position, quick, table, part)
        if done < len(part):
            what = "no Huffman code" if bits >= 0 else "the data ends"
            raise _bad(position, f"{what} in row {(first + done) // header.columns + 1} of {header.rows}")
        if bits >= 8:
            raise _bad(position, f"data goes on after row {-(-(first + done) // header.columns)} of {header.rows}")
    if position < len(data):
        _pass_marker(data, position, _EOI)


def _pass_marker(data: bytes, position: int, expected: int) -> int:
    code, end = _marker(data, position)
    if code != expected:
        raise _bad(position, f"marker {code:02x}; expected {expected:02x}")
    return end


def _bad(position: int, what: str) -> DataError:
    return DataError(f"lossless JPEG, byte {position}: {what}")


@native(
    f"Tuple((int64, int64, int64))({READ_ONLY_BYTES}, int64, Array(uint32, 1, 'C'), Array(uint32, 1, 'C'),"
    " Array(uint16, 1, 'C'))"
)
def _read_differences(
    data: NDArray[np.uint8],
    position: int,
    quick: NDArray[np.uint32],
    table: NDArray[np.uint32],
    differences: NDArray[np.uint16],
) -> tuple[int, int, int]:
    """Fills `differences` (N,), modulo 2^16, and tells how many it could, where it stopped reading, how many bits of
    those read are left; a negative number of them tells that more were needed."""
    buffer, bits, end = np.uint64(0), 0, len(data)  # the buffer's highest `bits` bits come next, the others are 0
    for index in range(len(differences)):
        if bits < 32:
            for _ in range(4):
                if position >= end:
                    break
                byte = data[position]
                if byte == 0xFF:
                    if position + 1 >= end or data[position + 1] != 0:
                        break  # a marker
                    position += 1
                position += 1
                buffer |= np.uint64(byte) << np.uint64(56 - bits)
                bits += 8
        entry = quick[buffer >> np.uint64(64 - _QUICK)]
        if entry == 0:
            entry = table[buffer >> np.uint64(48)]
            if entry == 0:
                return index, position, -1 if bits < _LONGEST_CODE else bits
        taken = entry & np.uint32(0xFF)
        mask = (np.uint32(1) << (entry >> np.uint32(8) & np.uint32(0xFF))) - np.uint32(1)
        value = np.uint32(buffer >> np.uint64(64 - taken)) & mask
        buffer <<= np.uint64(taken)
        bits -= taken
        if bits < 0:
            return index, position, bits
        differences[index] = value + (entry >> np.uint32(16) if value <= mask >> np.uint32(1) else np.uint32(0))
    return len(differences), position, bits


@native("void(Array(uint16, 2, 'C'), int64, int64)")
def _restore(samples: NDArray[np.uint16], predictor: int, middle: int) -> None:
    """Turns differences (rows, columns) into samples, in place. `middle` is what stands above and left of the image."""
    rows, columns = samples.shape
    for row in range(rows):
        above = samples[row - 1, 0] if row else middle
        left = samples[row, 0] = (above + samples[row, 0]) & 0xFFFF
        for column in range(1, columns):
            corner, above = above, samples[row - 1, column] if row else middle
            if predictor == 1:
                guess = left
            elif predictor == 2:
                guess = above
            elif predictor == 3:
                guess = corner
            elif predictor == 4:
                guess = left + above - corner
            elif predictor == 5:
                guess = left + ((above - corner) >> 1)
            elif predictor == 6:
                guess = above + ((left - corner) >> 1)
            else:
                guess = (left + above) >> 1
            left = samples[row, column] = (guess + samples[row, column]) & 0xFFFF
