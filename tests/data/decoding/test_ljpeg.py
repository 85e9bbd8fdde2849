"""Lossless JPEG by the rule of DDSM's coder, against a slow transcription of that rule that shares no code with it."""

import time
import tracemalloc
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pydicom.uid import JPEGLossless
from scipy import ndimage

from diagram_ray.data.decoding.dicom.gdcm_process import decode_with_gdcm
from diagram_ray.data.decoding.ljpeg import decode
from diagram_ray.errors import DataError
from tests.support.phantoms.ljpeg_encoder import encode

Image = list[list[int]]
Code = dict[int, str]
"""Bits, as '0' and '1', for each category."""
EVEN = [5] * 17  # every category has a code of 5 bits


# The rule, as slowly and plainly as can be


def predicted(image: Image, i: int, j: int, predictor: int, middle: int, standard: bool) -> int:
    if i == 0 and j == 0:
        return middle
    if j == 0:
        return image[i - 1][0]
    left = image[i][j - 1]
    if i == 0 and standard:
        return left
    above, corner = (image[i - 1][j], image[i - 1][j - 1]) if i else (middle, middle)
    return [
        left,
        above,
        corner,
        left + above - corner,
        left + (above - corner) // 2,
        above + (left - corner) // 2,
        (left + above) // 2,
    ][predictor - 1]


def code_of(lengths: list[int]) -> tuple[Code, bytes]:
    """Codes in order of length, then category, and their table as it stands in a file."""
    order = sorted((length, category) for category, length in enumerate(lengths) if length)
    code, value, before = {}, 0, 0
    for length, category in order:
        value <<= length - before
        code[category] = format(value, f"0{length}b")
        value, before = value + 1, length
    counts = [sum(length == bits for length, _ in order) for bits in range(1, 17)]
    return code, bytes(counts) + bytes(category for _, category in order)


def spelled(difference: int, code: Code) -> str:
    difference %= 65536
    if difference == 32768:
        return code[16]
    if difference > 32768:
        difference -= 65536
    category = abs(difference).bit_length()
    if category == 0:
        return code[0]
    low = difference if difference > 0 else difference + 2**category - 1
    return code[category] + format(low, f"0{category}b")


def packed(bits: str) -> bytes:
    bits += "1" * (-len(bits) % 8)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)).replace(b"\xff", b"\xff\x00")


def segment(code: int, body: bytes, length: int | None = None) -> bytes:
    return bytes([0xFF, code]) + (len(body) + 2 if length is None else length).to_bytes(2, "big") + body


class Plan(NamedTuple):
    """How to write an image."""

    predictor: int = 7
    precision: int = 16
    transform: int = 0
    lengths: list[int] = EVEN
    restart: int = 0  # rows
    standard: bool = False


def parts(image: Image, plan: Plan) -> dict[str, bytes]:
    """The segments of a stream, in order."""
    rows, columns = len(image), len(image[0])
    low = [[value >> plan.transform for value in row] for row in image]
    middle = 2 ** (plan.precision - plan.transform - 1)
    code, table = code_of(plan.lengths)
    lines = [
        "".join(
            spelled(low[i][j] - predicted(low, i, j, plan.predictor, middle, plan.standard), code)
            for j in range(columns)
        )
        for i in range(rows)
    ]
    step = plan.restart or rows
    scans = [packed("".join(lines[at : at + step])) for at in range(0, rows, step)]
    size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return {
        "SOI": b"\xff\xd8",
        "SOF": segment(0xC3, bytes([plan.precision]) + size + b"\1\1\x11\0"),
        "DHT": segment(0xC4, b"\0" + table),
        "DRI": segment(0xDD, (step * columns).to_bytes(2, "big")) if plan.restart else b"",
        "SOS": segment(0xDA, bytes([1, 1, 0, plan.predictor, 0, plan.transform])),
        "data": scans[0] + b"".join(bytes([0xFF, 0xD0 + n % 8]) + scan for n, scan in enumerate(scans[1:])),
        "EOI": b"\xff\xd9",
    }


def written(image: Image, plan: Plan) -> bytes:
    return b"".join(parts(image, plan).values())


def bits_of(data: bytes) -> Iterator[str]:
    for byte in data.replace(b"\xff\x00", b"\xff"):
        yield from format(byte, "08b")


def read(data: bytes, standard: bool = False) -> Image:
    """Reads what a coder like DDSM's wrote: SOI, SOF3, one DHT, SOS, data, EOI."""
    assert data[:4] == b"\xff\xd8\xff\xc3"
    precision, rows, columns = data[6], int.from_bytes(data[7:9], "big"), int.from_bytes(data[9:11], "big")
    table = data[20 : 15 + 2 + int.from_bytes(data[17:19], "big")]
    lengths = [length for length, number in enumerate(table[:16], start=1) for _ in range(number)]
    words, value, before = {}, 0, 0
    for length, category in zip(lengths, table[16:], strict=True):
        value <<= length - before
        words[format(value, f"0{length}b")] = category
        value, before = value + 1, length
    scan = data[20 + len(table) :]
    assert scan[:2] == b"\xff\xda"
    assert data[-2:] == b"\xff\xd9"
    predictor, bits = scan[7], bits_of(scan[10:-2])
    image: Image = [[0] * columns for _ in range(rows)]
    for i in range(rows):
        for j in range(columns):
            word = ""
            while word not in words:
                word += next(bits)
            category = words[word]
            low = int("0" + "".join(next(bits) for _ in range(category % 16)), 2)
            if category == 16:
                low = 32768
            elif low < 2**category // 2:
                low -= 2**category - 1
            guess = predicted(image, i, j, predictor, 2 ** (precision - 1), standard)
            image[i][j] = (guess + low) % 65536
    assert len(list(bits)) < 8
    return image


# Images and codes of any kind


@st.composite
def images(draw: st.DrawFn, precision: int, transform: int = 0, side: int = 9) -> NDArray[np.uint16]:
    extremes = [0, 2**precision - 1, 2 ** (precision - 1), 2 ** (precision - 1) - 1]
    values = st.sampled_from(extremes) | st.integers(0, 2**precision - 1)
    shape = draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    return draw(arrays.arrays(np.uint16, shape, elements=values)) >> transform << transform


@st.composite
def code_lengths(draw: st.DrawFn) -> list[int]:
    """A code for all 17 categories, of 1 to 16 bits: the leaves of a tree that grows by one split after the other."""
    leaves = [0]
    for _ in range(16):
        leaf = draw(st.sampled_from([at for at, depth in enumerate(leaves) if depth < 16]))
        leaves[leaf] += 1
        leaves.append(leaves[leaf])
    return draw(st.permutations(leaves))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    precision = draw(st.integers(2, 16))
    transform = draw(st.just(0) | st.integers(0, precision - 1))
    restart = draw(st.just(0) | st.integers(1, 4))
    return Plan(draw(st.integers(1, 7)), precision, transform, draw(code_lengths()), restart)


def smooth(height: int, width: int, bits: int) -> NDArray[np.uint16]:
    noise = np.random.default_rng(0).normal(size=(height, width))
    picture = 6 * ndimage.gaussian_filter(noise, 20) + 0.01 * noise
    return np.asarray(np.clip(0.5 + picture, 0, 1) * (2**bits - 1), dtype=np.uint16)


NOISY = smooth(24, 17, 12)
STREAM = written(NOISY.tolist(), Plan())


# Right streams


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_slowly_written_streams_are_read(data: st.DataObject) -> None:
    plan = data.draw(plans())
    image = data.draw(images(plan.precision, plan.transform))
    decoded = decode(written(image.tolist(), plan))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, image)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.integers(1, 7), st.integers(2, 16), st.booleans())
def test_written_streams_are_read_slowly(data: st.DataObject, predictor: int, precision: int, swapped: bool) -> None:
    image = data.draw(images(precision))
    stream = encode(image, predictor, precision, swapped)
    expected = image.reshape(image.shape[::-1]) if swapped else image
    assert read(stream) == expected.tolist()
    np.testing.assert_array_equal(decode(stream, image.shape), image)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_the_difference_32768_has_a_category_of_its_own(predictor: int) -> None:
    image = np.zeros((6, 8), dtype=np.uint16)
    image[::2, 1::3] = image[1::2, ::2] = 32768
    differences = {
        (int(image[i, j]) - predicted(image.tolist(), i, j, predictor, 32768, False)) % 65536
        for i in range(6)
        for j in range(8)
    }
    assert 32768 in differences
    np.testing.assert_array_equal(decode(written(image.tolist(), Plan(predictor))), image)
    np.testing.assert_array_equal(decode(encode(image, predictor)), image)


def test_samples_that_take_31_bits() -> None:
    """A code of 16 and then a difference of 15, many times over and at every place within a byte."""
    lengths = [*range(1, 17), 16]
    image = np.random.default_rng(0).choice([0, 20000, 40001], (30, 20)).astype(np.uint16)
    stream = written(image.tolist(), Plan(predictor=1, lengths=lengths))
    assert 8 * len(stream) / image.size > 19
    np.testing.assert_array_equal(decode(stream), image)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("precision", [12, 16])
def test_larger_images(precision: int, swapped: bool) -> None:
    for image in (smooth(701, 463, precision), np.random.default_rng(0).integers(0, 2**precision, (463, 701))):
        stream = encode(image.astype(np.uint16), 7, precision, swapped)
        np.testing.assert_array_equal(decode(stream, image.shape), image)


def test_rare_categories_get_codes_of_16_bits_at_most() -> None:
    """With counts like Fibonacci's numbers a plain Huffman code would need 17."""
    sizes = [1, 2]
    while len(sizes) < 17:
        sizes.append(sizes[-1] + sizes[-2])
    wanted = np.repeat([0, *(1 << np.arange(16))], sizes[::-1])
    image = (32768 + np.cumsum(wanted)).astype(np.uint16)[None]
    stream = encode(image, predictor=1)
    counts = stream[20:36]
    assert sum(counts) == 17
    assert counts[15] > 0
    np.testing.assert_array_equal(decode(stream), image)


def test_samples_keep_their_order_when_the_header_exchanges_rows_and_columns() -> None:
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    stream = encode(image, swapped=True)
    np.testing.assert_array_equal(decode(stream, (3, 4)), image)
    np.testing.assert_array_equal(decode(stream), image.reshape(4, 3))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_what_may_stand_between_segments(data: st.DataObject) -> None:
    """Fill bytes, comments, other tables, a table that is replaced later on."""
    pieces = parts(NOISY.tolist(), Plan(restart=5))
    unused = code_of([0, 0, 3, 1])[1]
    pieces["SOF"] += segment(0xC4, b"\0" + unused)
    others = [
        segment(0xFE, b"a comment"),
        segment(0xE0, b"JFIF\0\xff\xd9"),
        segment(0xC4, b"\1" + unused + b"\x10" + unused),
        segment(0xDB, bytes(65)),
        b"",
    ]
    stream = b""
    for name, piece in pieces.items():
        if name not in ("SOI", "data"):
            more = data.draw(st.lists(st.sampled_from(others), max_size=2)) if name not in ("SOS", "EOI") else []
            stream += b"".join(more) + b"\xff" * data.draw(st.integers(0, 3))
        stream += piece
    np.testing.assert_array_equal(decode(stream), NOISY)


def test_a_stream_may_end_with_its_last_row_or_go_on_after_its_end() -> None:
    np.testing.assert_array_equal(decode(STREAM[:-2]), NOISY)
    np.testing.assert_array_equal(decode(STREAM + b"anything"), NOISY)


# The departure from the standard


def by_gdcm(stream: bytes, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Decoded by a library that follows T.81, in the process of its own in which the readers use it, too."""
    rows, columns = shape
    bits = {"stored": 16, "allocated": 16, "signed": 0}
    decoded = decode_with_gdcm({"rows": rows, "columns": columns, "syntax": str(JPEGLossless), **bits}, stream)
    return np.frombuffer(decoded, dtype=np.uint16).reshape(shape)


@pytest.mark.parametrize("predictor", range(1, 8))
def test_the_first_row_is_not_the_standards(predictor: int) -> None:
    """Whoever makes this decoder follow T.81 breaks the reading of DDSM; predictors 1, 4 and 5 do not show it."""
    image = smooth(40, 30, 12)
    standard = written(image.tolist(), Plan(predictor, standard=True))
    np.testing.assert_array_equal(by_gdcm(standard, image.shape), image)
    both = predictor in (1, 4, 5)
    assert np.array_equal(decode(standard), image) == both
    assert np.array_equal(by_gdcm(encode(image, predictor), image.shape), image) == both


REAL = ["crop12_P12_SSS7", "crop12_P16_SSS1", "crop12_P16_SSS4", "crop12_P16_SSS7", "crop12_P16_SSS7_swapped"]


@pytest.mark.real
@pytest.mark.parametrize("name", [*REAL, "crop16_P16_SSS7"])
def test_streams_of_ddsms_own_coder(real_data: Path, name: str) -> None:
    """They decode to the pixels that went in, and these pixels are encoded to the same bytes."""
    stream = (real_data / "ddsm-ljpeg" / f"{name}.LJPEG").read_bytes()
    raw = (real_data / "ddsm-ljpeg" / f"{name}.expected.raw").read_bytes()
    expected = np.frombuffer(raw, dtype=">u2").reshape(256, 320).astype(np.uint16)
    np.testing.assert_array_equal(decode(stream, (256, 320)), expected)
    _, precision, predictor, *swapped = name.split("_")
    assert encode(expected, int(predictor[3:]), int(precision[1:]), bool(swapped)) == stream
    if name == "crop12_P16_SSS7":
        assert read(stream) == expected.tolist()
        assert read(stream, standard=True) != expected.tolist()


# Wrong streams


def refusal(stream: bytes, shape: tuple[int, int] | None = None) -> str:
    with pytest.raises(DataError) as caught:
        decode(stream, shape)
    return str(caught.value)


def changed(**pieces: bytes) -> bytes:
    """A small good stream but for these segments."""
    return b"".join((parts(NOISY.tolist(), Plan()) | pieces).values())


def frame(
    precision: int = 16, rows: int = 24, columns: int = 17, rest: bytes = b"\1\1\x11\0", code: int = 0xC3
) -> bytes:
    size = rows.to_bytes(2, "big") + columns.to_bytes(2, "big")
    return segment(code, bytes([precision]) + size + rest)


def scan(*values: int) -> bytes:
    return segment(0xDA, bytes(values))


GOOD = parts(NOISY.tolist(), Plan())
RESTARTS = parts(NOISY.tolist(), Plan(restart=6))
WRONG = {
    "nothing": (b"", "starts with nothing"),
    "a picture of another kind": (b"P5 24 17", "starts with 50 35"),
    "only the start": (b"\xff\xd8", "byte 2: expected a marker, found the end"),
    "no marker": (changed(SOF=b"\0" + GOOD["SOF"]), "byte 2: expected a marker, found 00 ff"),
    "a second start": (changed(SOF=b"\xff\xd8"), "byte 2: marker d8 stands before any scan"),
    "a segment that is cut": (STREAM[:9], "byte 4: marker c3 says 11 bytes, the file has 5"),
    "a length that lies": (changed(SOF=segment(0xC3, b"", 1)), "marker c3 says 1 bytes"),
    "ordinary JPEG": (changed(SOF=frame(code=0xC0)), "process c0; only c3"),
    "arithmetic codes": (changed(SOF=frame(code=0xCB)), "process cb; only c3"),
    "two frames": (changed(DHT=GOOD["SOF"] + GOOD["DHT"]), "byte 15: a second frame"),
    "colour": (changed(SOF=frame(rest=b"\3" + 3 * b"\1\x11\0")), "3 components"),
    "a short frame": (changed(SOF=frame(rest=b"")), "the frame takes 6 bytes, found 5"),
    "a frame without component": (changed(SOF=frame(rest=b"\1")), "the component takes 3 bytes, found 0"),
    "1 bit": (changed(SOF=frame(1)), "1 bits a sample"),
    "17 bits": (changed(SOF=frame(17)), "17 bits a sample"),
    "no rows": (changed(SOF=frame(rows=0)), "0 rows of 17"),
    "no columns": (changed(SOF=frame(columns=0)), "24 rows of 0"),
    "too large": (changed(SOF=frame(rows=65535, columns=65535)), "65535 rows of 65535; at least 1 pixel and at most"),
    "no frame": (changed(SOF=b""), "a scan without a frame"),
    "no table": (changed(DHT=b""), "Huffman table 0 is not defined"),
    "a cut table": (changed(DHT=segment(0xC4, b"\0\1\1")), "Huffman table 00 of 2 lengths and 2 codes"),
    "a table of no kind": (changed(DHT=segment(0xC4, b"\x20" + bytes(16))), "Huffman table 20"),
    "table 4": (changed(DHT=segment(0xC4, b"\4" + bytes(16))), "Huffman table 04"),
    "category 17": (changed(DHT=segment(0xC4, b"\0\2" + bytes(15) + b"\0\x11")), "byte 15: a Huffman code for cat"),
    "too many codes": (changed(DHT=segment(0xC4, b"\0\2\1" + bytes(14) + b"\0\1\2")), "byte 15: more Huffman codes"),
    "an empty table": (changed(DHT=segment(0xC4, b"\0" + bytes(16))), "no Huffman code in row 1 of 24"),
    "a short scan header": (changed(SOS=scan(1, 1, 0, 7, 0)), "takes 6 bytes, found 5"),
    "two components": (changed(SOS=scan(2, 1, 0, 7, 0, 0)), "2 components"),
    "another component": (changed(SOS=scan(1, 2, 0, 7, 0, 0)), "first 2; expected 1: 1"),
    "another table": (changed(SOS=scan(1, 1, 0x30, 7, 0, 0)), "Huffman table 3 is not defined"),
    "predictor 0": (changed(SOS=scan(1, 1, 0, 0, 0, 0)), "predictor 0; allowed are 1 to 7"),
    "predictor 8": (changed(SOS=scan(1, 1, 0, 8, 0, 0)), "predictor 8; allowed are 1 to 7"),
    "no bits are left": (changed(SOF=frame(12), SOS=scan(1, 1, 0, 7, 0, 12)), "point transform 12 of 12 bits"),
    "restarts within rows": (
        changed(DRI=segment(0xDD, b"\0\x10")),
        "restart interval of 16: not a number of whole rows",
    ),
    "a short interval": (changed(DRI=segment(0xDD, b"\0")), "the restart interval takes 2 bytes, found 1"),
    "hardly any data": (changed(data=b"\0", EOI=b""), "1 bytes are too few for 24 rows of 17"),
    "no end of headers": (changed(DRI=segment(0xFE, bytes(65533)) * 17), "no scan has started"),
    "fewer rows than said": (changed(SOF=frame(rows=25)), "the data ends in row 25 of 25"),
    "more rows than said": (changed(SOF=frame(rows=23)), "data goes on after row 23 of 23"),
    "no end but a comment": (changed(EOI=b"\xff\xfe\0\2"), "marker fe; expected d9"),
    "a stray zero": (changed(data=GOOD["data"] + b"\xff\xff\0"), "expected a marker, found ff ff"),
    "restarts unsaid": (changed(data=RESTARTS["data"]), "the data ends in row 7 of 24"),
    "restarts missing": (changed(DRI=RESTARTS["DRI"]), "data goes on after row 6 of 24"),
    "restarts in disorder": (
        changed(DRI=RESTARTS["DRI"], data=RESTARTS["data"].replace(b"\xff\xd1", b"\xff\xd2")),
        "marker d2; expected d1",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told(name: str) -> None:
    stream, message = WRONG[name]
    assert message in refusal(stream)


def test_an_unexpected_shape_is_told_with_the_headers_own() -> None:
    message = refusal(STREAM, (24, 18))
    assert "24 rows of 17, or exchanged 17 rows of 24; expected 24 rows of 18" in message


@pytest.mark.parametrize("kept", range(len(STREAM) - len(GOOD["data"]) - 2, len(STREAM) - 3, 7))
def test_data_that_ends_early_names_the_row(kept: int) -> None:
    lengths = [
        len(spelled(int(NOISY[i, j]) - predicted(NOISY.tolist(), i, j, 7, 32768, False), code_of(EVEN)[0]))
        for i, j in np.ndindex(NOISY.shape)
    ]
    bits = sum(1 for _ in bits_of(STREAM[len(STREAM) - len(GOOD["data"]) - 2 : kept]))
    row = next(n for n, end in zip(count(), np.cumsum(lengths), strict=False) if end > bits) // 17 + 1
    padding = b"\xff\xd9" + bytes(60)  # enough for the early check
    assert f"the data ends in row {row} of 24" in refusal(STREAM[:kept] + padding)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "stream",
    [
        b"\xff\xd8" + frame(rows=8000, columns=8000) + GOOD["DHT"] + GOOD["SOS"] + GOOD["data"],
        b"\xff\xd8" + segment(0xC4, (b"\0" + bytes(16)) * 3800) * 17,
        b"\xff\xd8" + b"\xff" * 2**25,
        b"\xff\xd8" + segment(0xFE, b"") * 2**20,
        changed(data=b"\xff\xff" * 2**24),
    ],
    ids=["64 million pixels", "60 thousand tables", "32 MiB of fill bytes", "a million comments", "no code, all ones"],
)
def test_hostile_streams_cost_little(stream: bytes) -> None:
    decode(STREAM)  # machine code is there before time and memory are taken
    assert survives(stream) is None
    tracemalloc.start()
    try:
        assert survives(stream) is None
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


def survives(stream: bytes) -> NDArray[np.uint16] | None:
    """The pixels, or None if the stream was refused."""
    started = time.process_time()
    try:
        return decode(stream)
    except DataError:
        return None
    finally:
        assert time.process_time() - started < 5


def flipped(stream: bytes, at: int, more: bytes) -> bytes:
    return stream[:at] + bytes([stream[at] ^ 1 << len(more) % 8]) + stream[at + 1 :]


def replaced(stream: bytes, at: int, more: bytes) -> bytes:
    return stream[:at] + more + stream[at + len(more) :]


def lengthened(stream: bytes, at: int, more: bytes) -> bytes:
    return stream[:at] + more + stream[at:]


def shortened(stream: bytes, at: int, more: bytes) -> bytes:
    return stream[:at] + stream[at + len(more) :]


def cut(stream: bytes, at: int, more: bytes) -> bytes:
    return stream[:at] + more


@settings(max_examples=500, deadline=None)
@given(st.data(), st.sampled_from([STREAM, b"".join(RESTARTS.values())]))
def test_damaged_streams_are_refused_or_read(data: st.DataObject, stream: bytes) -> None:
    decode(STREAM)  # machine code is there before time is taken
    bytes_of_note = st.lists(st.sampled_from([0, 1, 0x7F, 0xD0, 0xD9, 0xFF]), max_size=8).map(bytes)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(stream), 90)) | st.integers(0, len(stream))) % max(len(stream), 1)
        damage = data.draw(st.sampled_from([flipped, replaced, lengthened, shortened, cut] if stream else [cut]))
        stream = damage(stream, at, data.draw(bytes_of_note | st.binary(max_size=20)))
    pixels = survives(stream)
    assert pixels is None or (pixels.dtype, pixels.ndim) == (np.uint16, 2)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(1, 40), st.integers(1, 40))
def test_any_data_is_refused_or_read(data: bytes, rows: int, columns: int) -> None:
    decode(STREAM)
    pixels = survives(changed(SOF=frame(rows=rows, columns=columns), data=data))
    assert pixels is None or pixels.shape == (rows, columns)
