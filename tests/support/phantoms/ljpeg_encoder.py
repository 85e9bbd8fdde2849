"""Writes lossless JPEG streams, byte for byte as the coder of DDSM's films did."""

import struct

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.native_codecs import native

_CATEGORIES = 17
_LONGEST_CODE = 16


def encode(pixels: NDArray[np.uint16], predictor: int = 7, precision: int = 16, swapped: bool = False) -> bytes:
    """A stream with the `pixels` (H, W), whose values are below 2^precision. See `diagram_ray.data.ljpeg.decode`.

    `predictor` is 1 to 7. `swapped` writes a header that says W rows of H, without reordering any sample.
    """
    image = np.ascontiguousarray(pixels, dtype=np.uint16)
    if swapped:
        image = image.reshape(image.shape[::-1])
    differences = _differences(image, predictor, 1 << (precision - 1))
    category = _category_of_difference()
    frequency = np.bincount(category[differences], minlength=_CATEGORIES)
    counts, values = _huffman_code(frequency.tolist())
    lengths, codes = _codes(counts, values)
    bits = int(frequency @ (lengths + np.arange(_CATEGORIES) % _LONGEST_CODE))
    scan = np.empty(2 * (bits // 8 + 1), dtype=np.uint8)  # each byte may have a zero behind it
    size = _write_scan(differences, category, lengths, codes, scan)
    return b"".join(
        (
            b"\xff\xd8",
            b"\xff\xc3" + struct.pack(">HBHHBBBB", 11, precision, *image.shape, 1, 1, 0x11, 0),
            b"\xff\xc4" + struct.pack(">HB", 19 + len(values), 0) + bytes(counts) + bytes(values),
            b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, predictor, 0, 0),
            scan[:size].tobytes(),
            b"\xff\xd9",
        )
    )


def _differences(image: NDArray[np.uint16], predictor: int, middle: int) -> NDArray[np.uint16]:
    """What the predictor leaves, modulo 2^16, one row after the other. `middle` stands above and left of the image."""
    framed = np.full((image.shape[0] + 1, image.shape[1] + 1), middle, dtype=np.int32)
    framed[1:, 1:] = image
    left, above, corner = framed[1:, :-1], framed[:-1, 1:], framed[:-1, :-1]
    guess: NDArray[np.int32] = {
        1: left,
        2: above,
        3: corner,
        4: left + above - corner,
        5: left + ((above - corner) >> 1),
        6: above + ((left - corner) >> 1),
        7: (left + above) >> 1,
    }[predictor].copy()
    guess[:, 0] = above[:, 0]
    return (image - guess).astype(np.uint16).ravel()


def _category_of_difference() -> NDArray[np.uint8]:
    """The number of bits of |d| for each difference d modulo 2^16."""
    size = np.minimum(np.arange(1 << 16), np.arange(1 << 16, 0, -1))
    return np.searchsorted(1 << np.arange(16), size, side="right").astype(np.uint8)


def _huffman_code(frequency: list[int]) -> tuple[list[int], list[int]]:
    """How many codes each length 1 to 16 has, and what they stand for, the shortest first (T.81, K.2).

    One more value, the rarest, takes the code of ones alone, which then is left out.
    """
    length = [0] * (_CATEGORIES + 1)
    trees = [(count, -value, [value]) for value, count in enumerate([*frequency, 1]) if count]
    while len(trees) > 1:
        first, second, *trees = sorted(trees)  # of equally rare ones the one with the largest value
        members = first[2] + second[2]
        for value in members:
            length[value] += 1
        trees.append((first[0] + second[0], first[1], members))
    values = sorted((value for value in range(_CATEGORIES) if length[value]), key=lambda value: length[value])
    return _shortened([length.count(bits) for bits in range(_CATEGORIES + 2)]), values


def _shortened(counts: list[int]) -> list[int]:
    """The same number of codes but one, none longer than 16 bits: two of the longest become one that is a bit shorter
    and one beside a code that gives up its place (T.81, K.3)."""
    for bits in range(len(counts) - 1, _LONGEST_CODE, -1):
        while counts[bits]:
            shorter = max(other for other in range(1, bits - 1) if counts[other])
            counts[bits] -= 2
            counts[bits - 1] += 1
            counts[shorter] -= 1
            counts[shorter + 1] += 2
    counts[max(bits for bits, count in enumerate(counts) if count and bits)] -= 1
    return counts[1 : _LONGEST_CODE + 1]


def _codes(counts: list[int], values: list[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Length and code of each category."""
    lengths, codes = np.zeros(_CATEGORIES, dtype=np.int64), np.zeros(_CATEGORIES, dtype=np.int64)
    lengths[values] = np.repeat(np.arange(1, _LONGEST_CODE + 1), counts)
    shares = 1 << (_LONGEST_CODE - lengths[values])
    codes[values] = (np.cumsum(shares) - shares) // shares
    return lengths, codes


@native(
    "int64(Array(uint16, 1, 'C'), Array(uint8, 1, 'C'), Array(int64, 1, 'C'), Array(int64, 1, 'C'),"
    " Array(uint8, 1, 'C'))"
)
def _write_scan(
    differences: NDArray[np.uint16],
    category: NDArray[np.uint8],
    lengths: NDArray[np.int64],
    codes: NDArray[np.int64],
    scan: NDArray[np.uint8],
) -> int:
    """Fills `scan`, which is long enough, and tells how many bytes there are."""
    buffer, bits, size = 0, 0, 0  # `bits` of the buffer are still to be written
    for index in range(len(differences) + 1):
        if index == len(differences):
            value, taken = 0x7F, 7  # ones to the end of the last byte
        else:
            difference = differences[index]
            kind = category[difference]
            follows = kind if kind < 16 else 0
            low = difference if difference < 0x8000 else difference - 1
            value, taken = codes[kind] << follows | low & ((1 << follows) - 1), lengths[kind] + follows
        buffer = (buffer << taken | value) & 0xFFFFFFFFFF
        bits += taken
        while bits >= 8:
            bits -= 8
            scan[size] = buffer >> bits & 0xFF
            size += 1
            if scan[size - 1] == 0xFF:
                scan[size] = 0
                size += 1
    return size
