"""Headers of any length: a sound file is read however much stands in it, and one made to hurt costs little."""

import struct
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from diagram_ray.data.decoding.dicom.header import MOST_READS, read_header
from diagram_ray.data.decoding.dicom.image import TAGS, read_dicom
from diagram_ray.errors import DataError
from tests.support.repository import ROOT
from tests.support.sources.dicom_files import GREY, as_bytes, coded, dicom, with_frame

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
MANY = MOST_READS  # elements, each of which takes a read or more


def written(syntax: str, **changes: object) -> Dataset:
    header = dicom(GREY.byteswap() if syntax == ExplicitVRBigEndian else GREY, **changes)
    header.file_meta.TransferSyntaxUID = syntax
    return header


def endless(items: list[Dataset]) -> Sequence:
    """A sequence whose end a delimiter tells, as those of its items."""
    for item in items:
        item.is_undefined_length_sequence_item = True
    sequence = Sequence(items)
    sequence.is_undefined_length = True
    return sequence


def add(header: Dataset, tag: int, items: list[Dataset]) -> None:
    header.add_new(tag, "SQ", endless(items))
    header[tag].is_undefined_length = True


def small(number: int) -> Dataset:
    item = Dataset()
    item.add_new(0x00091001, "LO", str(number))
    item.add_new(0x00091002, "UT", "words of a length in four bytes")
    item.add_new(0x00280010, "US", 7)  # Rows, and not the image's
    return item


def bent_table() -> tuple[Dataset, np.ndarray]:
    entries = (65535 - np.arange(4096) * 15).astype(np.uint16)
    item = Dataset()
    item.add_new(0x00283002, "US", [4096, 0, 16])
    item.add_new(0x00283006, "US", [int(entry) for entry in entries])
    return item, entries


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_long_header_is_read_as_a_short_one(syntax: str) -> None:
    """With sequences inside sequences, before, between and behind what is wanted, and wanted ones among them."""
    header = written(syntax, ImageLaterality="L", ViewPosition="CC", Modality="MG", PixelSpacing=[0.05, 0.05])
    table, entries = bent_table()
    add(header, 0x00283010, [table])
    plain = read_dicom(as_bytes(header))
    np.testing.assert_array_equal(plain.pixels, entries[GREY])
    inner = Dataset()
    add(inner, 0x00091010, [small(number) for number in range(MANY // 4)])
    for tag in (0x00091020, 0x00291020, 0x7FDF1020, 0x7FE11020):
        add(header, tag, [inner, Dataset(), small(0)])
    data = as_bytes(header)
    image = read_dicom(data)
    np.testing.assert_array_equal(image.pixels, plain.pixels)
    assert (image.laterality, image.view, image.spacing_mm) == ("L", "CC", 0.05)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_many_elements_in_a_row(syntax: str) -> None:
    header = written(syntax, Laterality="R")
    for number in range(MANY):
        header.add_new(0x00091000 + (number // 200 << 17) + number % 200, "LO", "ab")
    image = read_dicom(as_bytes(header))
    assert image.laterality == "R"
    np.testing.assert_array_equal(image.pixels, GREY)


def test_a_sequence_that_the_file_calls_unknown() -> None:
    """UN of undefined length is a sequence written without representations (PS3.5, 6.2.2)."""
    plain = as_bytes(dicom(Laterality="R"))
    place = plain.index(b"\x20\x00\x60\x00CS")
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    element = struct.pack("<HHI", 0x0009, 0x1002, 2) + b"OB"  # whose value reads like a representation
    inner = struct.pack("<HHI", 0x0009, 0x1003, 2**32 - 1) + end[1]
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1) + element * 3 + inner + end[0]
    unknown = struct.pack("<HH2sHI", 0x0009, 0x1010, b"UN", 0, 2**32 - 1) + item * MANY + end[1]
    explicit = struct.pack("<HH2sHI", 0x0029, 0x1010, b"SQ", 0, 2**32 - 1) + item[:8]
    explicit += struct.pack("<HH2sH", 0x0029, 0x1002, b"LO", 2) + b"ab" + end[0] + end[1]
    for repeated in (unknown, unknown + explicit):
        image = read_dicom(plain[:place] + repeated + plain[place:])
        assert image.laterality == "R"
        np.testing.assert_array_equal(image.pixels, GREY)


def test_a_frame_in_very_many_fragments(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 4096, (256, 256)).astype(np.uint16)
    header = coded(dicom(pixels), "JPEG2000Lossless", tmp_path)
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    count = len(frame) // 2
    assert count > MOST_READS
    np.testing.assert_array_equal(read_dicom(as_bytes(with_frame(header, frame, fragments=count))).pixels, pixels)


def test_levels_without_end_are_stepped_over() -> None:
    header = dicom(Laterality="L")
    data = as_bytes(header)
    place = data.index(b"\x20\x00\x60\x00CS")
    down = struct.pack("<HH2sHI", 0x0009, 0x1002, b"SQ", 0, 2**32 - 1) + struct.pack("<HHI", 0xFFFE, 0xE000, 2**32 - 1)
    up = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    image = read_dicom(data[:place] + down * 100_000 + up * 100_000 + data[place:])
    assert image.laterality == "L"
    np.testing.assert_array_equal(image.pixels, GREY)


def test_what_is_wanted_cannot_be_endless_itself() -> None:
    header = dicom()
    add(header, 0x00283010, [Dataset() for _ in range(2 * MOST_READS)])
    with pytest.raises(DataError, match="too many elements or levels"):
        read_dicom(as_bytes(header))


def test_a_long_header_costs_no_memory() -> None:
    """A file of 16 MB, all of it items: as objects they would take 1.3 GB."""
    head = as_bytes(dicom(PixelData=None))
    items = struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 2_000_000
    sequence = struct.pack("<HH2sHI", 0x0029, 0x1002, b"SQ", 0, 2**32 - 1) + items
    data = head + sequence + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    read_header(data, TAGS)
    tracemalloc.start()
    header = read_header(data, TAGS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert header.Rows == GREY.shape[0]
    assert peak < 60_000_000


@pytest.mark.parametrize("end", range(0, 400, 7))
def test_long_headers_that_are_cut_off(end: int) -> None:
    header = dicom()
    add(header, 0x00091010, [small(number) for number in range(MANY // 4)])
    data = as_bytes(header)
    try:
        cut = read_dicom(data[: len(data) - 40 * end])
        np.testing.assert_array_equal(cut.pixels, GREY)
        assert end == 0
    except DataError:
        assert end > 0


@pytest.mark.parametrize("name", ["dl", "DLFCN"])
def test_a_folder_named_like_a_module_that_gdcm_looks_for(tmp_path: Path, name: str) -> None:
    """In the working directory, from which `python -m` and `python -c` import."""
    (tmp_path / "work" / name).mkdir(parents=True)
    file = tmp_path / "x.dcm"
    coded(dicom(), "JPEG2000Lossless", tmp_path).save_as(file, enforce_file_format=True)
    script = f"""
        import sys
        assert "" in sys.path
        from diagram_ray.data.decoding.mammogram import read_mammogram
        print(read_mammogram({str(file)!r}).pixels.sum(), "gdcm" in sys.modules)
    """
    told = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path / "work", capture_output=True, text=True,
        env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert told.stderr == ""
    assert told.stdout.split() == [str(np.float32(GREY.sum())), "False"]
