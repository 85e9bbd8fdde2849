"""A small Excel 97 workbook, by the rules of [MS-XLS] and [MS-CFB]: one sheet of text and numbers."""

import struct

SECTOR = 512
SMALLEST = 4096
"""Bytes from which a stream lies in ordinary sectors."""
FREE, END, OF_FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def workbook(rows: list[list[str | float]], sheet: str = "Sheet1") -> bytes:
    """The file: a container with the stream."""
    return container(stream(rows, sheet))


def stream(rows: list[list[str | float]], sheet: str = "Sheet1") -> bytes:
    """The records alone, which some programs write bare."""
    name = struct.pack("<BB", len(sheet), 0) + sheet.encode("latin-1")
    globals_ = _begin(0x0005) + _record(0x0042, struct.pack("<H", 1200))
    place = len(globals_) + 4 + 6 + len(name) + 4
    globals_ += _record(0x0085, struct.pack("<IBB", place, 0, 0) + name) + _record(0x000A, b"")
    width = max(map(len, rows), default=0)
    cells = _record(0x0200, struct.pack("<IIHHH", 0, len(rows), 0, width, 0))
    for number, row in enumerate(rows):
        for column, value in enumerate(row):
            cells += _cell(number, column, value)
    return globals_ + _begin(0x0010) + cells + _record(0x000A, b"")


def container(data: bytes) -> bytes:
    """A compound file whose only stream is the workbook."""
    padded = data.ljust(max(SMALLEST, -(-len(data) // SECTOR) * SECTOR), b"\0")
    count = len(padded) // SECTOR
    chain = [OF_FAT, END, *range(3, count + 2), END]
    fat = struct.pack(f"<{len(chain)}I", *chain).ljust(SECTOR, b"\xff")
    assert len(fat) == SECTOR
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, SMALLEST, END, 0, END, 0) + struct.pack("<I", 0)
    folder = _entry("Root Entry", 5, 1, END, 0) + _entry("Workbook", 2, FREE, 2, len(padded)) + bytes(2 * 128)
    return header.ljust(SECTOR, b"\xff") + fat + folder + padded


def _record(kind: int, body: bytes) -> bytes:
    return struct.pack("<HH", kind, len(body)) + body


def _begin(kind: int) -> bytes:
    return _record(0x0809, struct.pack("<HHHHII", 0x0600, kind, 0, 1997, 0, 6))


def _cell(row: int, column: int, value: str | float) -> bytes:
    place = struct.pack("<HHH", row, column, 0)
    if isinstance(value, str):
        return _record(0x0204, place + struct.pack("<HB", len(value), 0) + value.encode("latin-1"))
    return _record(0x0203, place + struct.pack("<d", value))


def _entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    head = text.ljust(64, b"\0") + struct.pack("<HBB", len(text), kind, 1)
    return head + struct.pack("<III", FREE, FREE, child) + bytes(36) + struct.pack("<IQ", start, size)
