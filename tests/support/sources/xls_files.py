"""A small writer of Excel 97 spreadsheets, for the tests: numbers and texts, in Excel's container or bare."""

import struct

Cell = str | float | None
SECTOR = 512
FREE, END, FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD


def workbook(sheets: dict[str, list[list[Cell]]], contained: bool = True) -> bytes:
    """The file of the named sheets, each a list of rows."""
    bodies = [_sheet(rows) for rows in sheets.values()]
    names = list(sheets)
    head = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0005, 0, 1997, 0, 6))
    place = len(head) + sum(len(_bound(name, 0)) for name in names) + len(_record(0x000A, b""))
    bounds = b""
    for name, body in zip(names, bodies, strict=True):
        bounds += _bound(name, place)
        place += len(body)
    stream = head + bounds + _record(0x000A, b"") + b"".join(bodies)
    return _container(stream) if contained else stream


def _record(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def _bound(name: str, place: int) -> bytes:
    """BOUNDSHEET: where a sheet begins."""
    return _record(0x0085, struct.pack("<IBBBB", place, 0, 0, len(name), 0) + name.encode("latin-1"))


def _sheet(rows: list[list[Cell]]) -> bytes:
    cells = b""
    for row, values in enumerate(rows):
        for column, value in enumerate(values):
            at = struct.pack("<HHH", row, column, 0)
            if isinstance(value, str):
                cells += _record(0x0204, at + struct.pack("<HB", len(value), 1) + value.encode("utf-16-le"))
            elif value is not None:
                cells += _record(0x0203, at + struct.pack("<d", value))
    head = _record(0x0809, struct.pack("<HHHHII", 0x0600, 0x0010, 0, 1997, 0, 6))
    size = _record(0x0200, struct.pack("<IIHHH", 0, len(rows), 0, max(map(len, rows), default=0), 0))
    return head + size + cells + _record(0x000A, b"")


def _container(stream: bytes) -> bytes:
    """The compound file with one stream, 'Workbook': a header, the stream, a directory, the allocation table."""
    stream = stream.ljust(4096, b"\0")  # what is shorter would have to go into a stream of small pieces
    stream += bytes(-len(stream) % SECTOR)
    count = len(stream) // SECTOR
    tables = 1 + (count + 2) // (SECTOR // 4)
    chain = [*range(1, count), END, END, *[FAT] * tables]
    chain += [FREE] * (-len(chain) % (SECTOR // 4))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, tables, count, 0, 4096, END, 0, END, 0)
    header += struct.pack("<109I", *range(count + 1, count + 1 + tables), *[FREE] * (109 - tables))
    directory = _entry("Root Entry", 5, 1, END, 0) + _entry("Workbook", 2, FREE, 0, len(stream))
    directory += (_entry("", 0, FREE, 0, 0)) * 2
    return header + stream + directory + struct.pack(f"<{len(chain)}I", *chain)


def _entry(name: str, kind: int, child: int, start: int, size: int) -> bytes:
    text = name.encode("utf-16-le")
    return (
        text.ljust(64, b"\0")
        + struct.pack("<HBBIII", len(text) + 2 * bool(name), kind, 1, FREE, FREE, child)
        + bytes(36)
        + struct.pack("<III", start, size, 0)
    )
