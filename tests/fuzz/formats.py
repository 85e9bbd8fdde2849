"""The words of each format, and how its packing is opened and closed."""

import gzip
import struct
import zlib
from random import Random

from tests.fuzz.mutation import Format

_SYNTAXES = ("1.2", "1.2.1", "1.2.2", "1.2.1.99", "1.2.5", "1.2.4.50", "1.2.4.57", "1.2.4.70", "1.2.4.80", "1.2.4.90")
_HOSTILE_PATHS = (
    *(b"../../etc/passwd", b"/etc/passwd", b"/dev/zero", b"file:///etc/passwd", b"s3://bucket/a.png", b"C:\\a.dcm"),
    *(b"..\\..\\a.png", b"a/./b/../a.pgm", b"//", b"~", b"memory://x", b"zip://a::b", b"%2e%2e%2f", b"a\0.png"),
)
_TEXT = (
    b"\0",
    b"\r",
    b"\n",
    b"\t",
    b"\x1b[2J",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
    b"\x85",
)
_JPEG = tuple(bytes((0xFF, code)) for code in (*range(0xC0, 0xD0), 0xD0, 0xD7, *range(0xD8, 0xDF), 0xE0, 0xEE, 0x00))
_CODED = (
    *_JPEG,
    b"\xff\xf7",
    b"\xff\xf8",
    b"\xff\x4f",
    b"\xff\x51",
    b"\xff\x52",
    b"\xff\x5c",
    b"\xff\x90",
    b"\xff\x93",
)


def _element(group: int, number: int, kind: str, value: bytes) -> bytes:
    return struct.pack("<HH2sH", group, number, kind.encode(), len(value)) + value


DICOM = (
    *(_element(0x0028, number, "US", struct.pack("<H", value)) for number in (0x02, 0x10, 0x11, 0x100, 0x101, 0x102, 0x103)
      for value in (0, 1, 16, 60_000)),
    *(_element(0x0002, 0x0010, "UI", f"1.2.840.10008.{end}\0".encode()) for end in _SYNTAXES),
    *(b"1.2.840.10008.%s\0" % end.encode() for end in _SYNTAXES),
    *(_element(0x0028, 0x0008, "IS", value) for value in (b"2 ", b"-1", b"x ", b"99999999")),
    _element(0x0028, 0x0004, "CS", b"MONOCHROME1 "), _element(0x0028, 0x0004, "CS", b"RGB "),
    _element(0x0028, 0x0120, "US", b"\0\0"), _element(0x0028, 0x1053, "DS", b"1e308 "),
    _element(0x0028, 0x1052, "DS", b"nan "), _element(0x0028, 0x1056, "CS", b"SIGMOID "),
    b"\x28\x00\x10\x30SQ\0\0\xff\xff\xff\xff", b"\x28\x00\x00\x30SQ\0\0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\x00\x00\x00\x00", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00",
    b"\xfe\xff\xdd\xe0\x00\x00\x00\x00", b"\xe0\x7f\x10\x00OW\0\0", b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
    b"OB", b"OW", b"US", b"SS", b"SQ", b"UN", b"DS", b"IS", b"CS", b"PN", b"DICM", b"MONOCHROME2 ",
    *_CODED,
)  # fmt: skip
PNG = (
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"PLTE",
    b"tRNS",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"iCCP",
    b"acTL",
    b"fcTL",
    b"eXIf",
    b"pHYs",
)
TIFF = (
    *(struct.pack("<HHII", tag, kind, count, value) for tag, kind, count, value in (
        (256, 4, 1, 60_000), (257, 4, 1, 60_000), (258, 3, 1, 64), (259, 3, 1, 5), (259, 3, 1, 7), (259, 3, 1, 8),
        (259, 3, 1, 34712), (262, 3, 1, 3), (262, 3, 1, 6), (273, 4, 1, 2**32 - 1), (277, 3, 1, 65535), (278, 4, 1, 0),
        (279, 4, 1, 2**31), (284, 3, 1, 2), (322, 4, 1, 2**31), (323, 4, 1, 1), (324, 4, 2**30, 8), (330, 4, 1, 8),
        (339, 3, 1, 3), (320, 3, 2**31, 8), (34665, 4, 1, 8), (700, 1, 2**32 - 1, 8),
    )), b"II*\0", b"MM\0*", b"II+\0", b"\x08\0\0\0",
)  # fmt: skip
CSV = (
    *_HOSTILE_PATHS,
    *_TEXT,
    b'"',
    b'""',
    b",",
    b";",
    b"'",
    b"=1+1",
    b"," * 3000,
    b"\r\n" * 50,
    b"nan",
    b"A" * 200_000,
)
XML = (
    b"<dict>", b"</dict>", b"<array>", b"</array>", b"<string>", b"<integer>", b"<real>nan</real>", b"<data>AAAA</data>",
    b"<date>9999-99-99T99:99:99Z</date>", b"<key>", b"</key>", b"<true/>", b"<array>" * 3000, b"<dict><key>k</key>" * 3000,
    b"<integer>" + b"9" * 6000 + b"</integer>", b"<integer>0x" + b"f" * 6000 + b"</integer>", b"<![CDATA[", b"]]>", b"<!--",
    b'<!DOCTYPE p [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>', b"&b;", b"&amp;", b"&#0;", b"&#xD800;",
    b'<!DOCTYPE p [<!ENTITY a SYSTEM "file:///etc/passwd">]>', b'<?xml version="1.0" encoding="utf-7"?>',
    b"<string>(1e308, 1e308)</string>", b"<string>(nan, 1)</string>", b"<integer>19</integer>", b"<integer>15</integer>", *_TEXT,
)  # fmt: skip
ICS = (
    b"filename ", b"DENSITY ", b"DIGITIZER ", b"LEFT_CC ", b"RIGHT_MLO ", b"LINES ", b"PIXELS_PER_LINE ", b"BITS_PER_PIXEL ",
    b"RESOLUTION ", b"OVERLAY", b"NON_OVERLAY", b"DBA", b"HOWTEK", b"LUMISYS", b"A-0001-1", b"../x", *_TEXT,
)  # fmt: skip
OVERLAY = (
    b"TOTAL_ABNORMALITIES ", b"ABNORMALITY ", b"LESION_TYPE ", b"MASS", b"ASSESSMENT ", b"SUBTLETY ", b"PATHOLOGY ",
    b"MALIGNANT", b"UNPROVEN", b"TOTAL_OUTLINES ", b"BOUNDARY\n", b"\tCORE\n", b"#", b" 4" * 5000, b" 8", b" -1", *_TEXT,
)  # fmt: skip
MIAS = (b"mdb001", b"mdb999", b" G ", b"CALC", b"NORM", b" B ", b" M ", b"*NOTE 3*", b"../mdb001", *_TEXT)
JSON = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\\ud800",
        b"\\u0000",
    ),
    *(b"[" * 5000, b'{"a":' * 5000, b"9" * 5000, b'"../../x"', b'"part-00000"', b"-1", b"1.5", b'""', *_TEXT),
)
YAML = (
    *JSON, b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system ['true']", b"!!binary AAAA", b"---", b"...", b"%YAML",
    b"? ", b"- ", b"  ", b"!!set", b"!!timestamp 9999-99-99", b"0o7", b"1:60:60", b"&a [*a]", b"- " * 2000, b"? " * 2000,
)  # fmt: skip
PARQUET = (b"PAR1", b"PARE", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01", b"\x15\x00", b"\x15\x02", b"\x19\xfc", b"\x19\x0c", b"pixels",
           b"image_id", b"patient_id", b"ARROW:schema", b"\xff\xff\xff\x7f")  # fmt: skip
XLS = (
    *(struct.pack("<HH", kind, size) for kind in (0x0809, 0x0085, 0x00FC, 0x0203, 0x0204, 0x00FD, 0x027E, 0x00BD, 0x003C,
      0x000A, 0x002F, 0x0200, 0x0006, 0x0018) for size in (0, 8, 0xFFFF)),
    b"\xff\xff\xff\xff", b"\xfe\xff\xff\xff", b"\xfd\xff\xff\xff", b"W\0o\0r\0k\0b\0o\0o\0k\0",
)  # fmt: skip
WEIGHTS = (
    b"{",
    b"}",
    b'"F32"',
    b'"F64"',
    b'"BOOL"',
    b'"dtype"',
    b'"shape"',
    b"data_offsets",
    b"[0,0]",
    b"99999999999",
    b"__metadata__",
)


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks' lengths and checksums fit as far as they can be followed."""
    place, fixed = 8, data[:8]
    while place + 12 <= len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        body = data[place + 4 : place + 8 + length]
        fixed += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return fixed + data[place:]


def _inside_deflated(data: bytes) -> bytes:
    """A deflated DICOM file's header and, behind it, its data set unpacked."""
    start = 144 + int.from_bytes(data[140:144], "little")
    return data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)


def _deflated(data: bytes) -> bytes:
    start = 144 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return data[:start] + packer.compress(data[start:]) + packer.flush()


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, 1, mtime=0)


def gzipped(inner: Format) -> Format:
    """Files of a format that are packed: what is inside is damaged."""
    return Format(inner.tokens, inner.is_text, gzip.decompress, _gzip)


FORMATS = {
    "dicom": Format(DICOM),
    "deflated": Format(DICOM, opened=_inside_deflated, closed=_deflated),
    "png": Format(PNG, closed=_with_checksums),
    "jpeg": Format(_JPEG),
    "tiff": Format(TIFF),
    "pgm": Format((b"P5", b"P2", b"P6", b"#", b" ", b"\n", b"65535 ", b"-1 ", b"999999999 999999999 255 ")),
    "csv": Format(CSV, is_text=True),
    "xml": Format(XML, is_text=True),
    "ics": Format(ICS, is_text=True),
    "overlay": Format(OVERLAY, is_text=True),
    "mias": Format(MIAS, is_text=True),
    "json": Format(JSON, is_text=True),
    "yaml": Format(YAML, is_text=True),
    "parquet": Format(PARQUET),
    "xls": Format(XLS),
    "weights": Format(WEIGHTS),
    "raw": Format(),
}
FORMATS |= {f"{name}.gz": gzipped(FORMATS[name]) for name in ("ics", "overlay", "jpeg", "png", "dicom")}


def random_of(case: str) -> Random:
    """The stream of random numbers of one case."""
    return Random(case)
