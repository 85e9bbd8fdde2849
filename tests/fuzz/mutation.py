"""Damaging a file in ways that readers' authors forget: deterministic, and with the words of the file's own format."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

EXTREMES = (
    *(0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 60_000, 48_000_001),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
NUMBERS = (
    *(b"0", b"-1", b"1", b"65536", b"99999", b"2147483648", b"-9223372036854775809", b"9" * 40, b"9" * 5000),
    *(b"1e309", b"-0.0", b"nan", b"inf", b"0x10", b"1_0", b"", b"1.5", b"\xd9\xa3"),
)
"""What may stand where a text has a number; the last is an Arabic-Indic digit."""
HEAD = 300
"""Bytes in which most formats have their lengths."""


@dataclass(frozen=True)
class Format:
    """How files of one kind are damaged."""

    tokens: tuple[bytes, ...] = ()
    is_text: bool = False
    opened: Callable[[bytes], bytes] = bytes
    """What is damaged: the file, or what is packed in it."""
    closed: Callable[[bytes], bytes] = bytes
    """The file again, with checksums that fit: they would be all that is tested otherwise."""


def mutated(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    """The file with one to four damages. `other` is a file of the same kind."""
    inside, donor = how.opened(data), how.opened(other)
    operations = TEXT if how.is_text else BINARY
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        inside = random.choice(operations)(inside, how, random, donor)
    return how.closed(inside)


def _place(data: bytes, random: Random) -> int:
    """Somewhere; half of the time in the head."""
    return random.randrange(min(len(data), HEAD) + 1) if random.random() < 0.5 else random.randrange(len(data) + 1)


def _length(random: Random) -> int:
    return int(2 ** random.uniform(0, 10))


def _truncate(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    return data[: _place(data, random)]


def _cut_front(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    return data[_place(data, random) :]


def _flip_bits(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    flipped = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        if flipped:
            flipped[_place(data, random) % len(flipped)] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _noise(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place, noise = _place(data, random), random.randbytes(_length(random))
    return data[:place] + noise + data[place + len(noise) :]


def _extreme(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    """A length, size, count or offset becomes huge, zero or negative."""
    place, value = _place(data, random), random.choice(EXTREMES)
    kind = random.choice(("B", "<H", ">H", "<I", ">I", "<Q", ">Q"))
    size = struct.calcsize(kind)
    return data[:place] + struct.pack(kind, value & (256**size - 1)) + data[place + size :]


def _delete(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place = _place(data, random)
    return data[:place] + data[place + _length(random) :]


def _double(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place = _place(data, random)
    chunk = data[place : place + _length(random)]
    return data[:place] + chunk * random.choice((2, 2, 3, 100)) + data[place + len(chunk) :]


def _exchange(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    first, second = sorted((_place(data, random), _place(data, random)))
    size = _length(random)
    return data[:first] + data[second : second + size] + data[first:second] + data[second + size :]


def _blank(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place, size = _place(data, random), _length(random)
    return data[:place] + random.choice((b"\0", b"\xff", b" ")) * size + data[place + size :]


def _insert_token(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place = _place(data, random)
    return data[:place] + random.choice(how.tokens or (b"\0",)) + data[place:]


def _overwrite_token(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    place, token = _place(data, random), random.choice(how.tokens or (b"\xff",))
    return data[:place] + token + data[place + len(token) :]


def _exchange_token(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    """A word of the format becomes another one."""
    there = [token for token in how.tokens if token in data]
    if not there:
        return _insert_token(data, how, random, other)
    return data.replace(random.choice(there), random.choice(how.tokens), random.choice((1, 1, -1)))


def _splice(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    return data[: _place(data, random)] + other[_place(other, random) :]


def _other_number(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    numbers = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    if not numbers:
        return _insert_token(data, how, random, other)
    chosen = random.choice(numbers)
    return data[: chosen.start()] + random.choice(NUMBERS) + data[chosen.end() :]


def _lines(data: bytes, how: Format, random: Random, other: bytes) -> bytes:
    """Lines exchanged, doubled, left out, or taken from another file."""
    lines = data.splitlines(keepends=True) or [b""]
    first, second = random.randrange(len(lines)), random.randrange(len(lines))
    change = random.randrange(4)
    if change == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif change == 1:
        lines.insert(first, lines[second] * random.choice((1, 2, 50)))
    elif change == 2:
        del lines[min(first, second) : max(first, second) + 1]
    else:
        lines[first] = random.choice(other.splitlines(keepends=True) or [b""])
    return b"".join(lines)


COMMON = (_truncate, _flip_bits, _noise, _delete, _double, _exchange, _insert_token, _exchange_token, _splice)
BINARY = (*COMMON, _cut_front, _extreme, _extreme, _extreme, _blank, _overwrite_token)
TEXT = (*COMMON, _other_number, _other_number, _other_number, _lines, _lines, _insert_token)
