"""DICOM: every transfer syntax gives the stored pixels, and the grey levels are those the file means."""

import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing
from pydicom.sequence import Sequence
from pydicom.uid import (
    BreastTomosynthesisImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
)

from diagram_ray.data.decoding import limits
from diagram_ray.data.decoding.dicom import header as dicom_header
from diagram_ray.data.decoding.dicom.image import DicomImage, read_dicom, read_mask
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, GREY8, SHAPE, as_bytes, coded, dicom, with_frame

SIGNED = GREY.astype(np.int16) - 2000


def read(header: Dataset) -> DicomImage:
    return read_dicom(as_bytes(header))


def refusal(header: Dataset | bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_dicom(header if isinstance(header, bytes) else as_bytes(header))
    return str(caught.value)


def table(entries: NDArray[np.generic], first: int = 0, bits: int = 16, kind: str = "OW") -> Dataset:
    """An item of a LUT Sequence."""
    item = Dataset()
    item.add_new(0x00283002, "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    if kind == "OW":
        item.add_new(0x00283006, "OW", entries.astype("<u2" if entries.dtype.itemsize > 1 else "u1").tobytes())
    else:
        item.add_new(0x00283006, "US", [int(entry) for entry in entries])
    return item


# --- transfer syntaxes ---


@pytest.mark.parametrize(
    ("kind", "pixels", "bits"),
    [
        ("JPEGLosslessProcess14", GREY, 12),
        ("JPEGLosslessProcess14_1", GREY, 12),
        ("JPEGLosslessProcess14_1", GREY * 16, 16),
        ("JPEGLosslessProcess14_1", GREY8, 8),
        ("JPEGLSLossless", GREY, 12),
        ("JPEGLSLossless", GREY * 16, 16),
        ("JPEGLSLossless", GREY8, 8),
        ("JPEG2000Lossless", GREY, 12),
        ("JPEG2000Lossless", GREY8, 8),
        ("JPEG2000Lossless", SIGNED, 16),
        ("RLELossless", GREY, 12),
        ("RLELossless", GREY8, 8),
        ("RLELossless", SIGNED, 16),
    ],
)
def test_lossless_coders(tmp_path: Path, kind: str, pixels: NDArray[np.generic], bits: int) -> None:
    header = coded(dicom(pixels, bits), kind, tmp_path)
    assert header.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read(header).pixels, pixels)


@pytest.mark.parametrize(
    ("kind", "pixels", "bits"),
    [
        ("JPEGBaselineProcess1", GREY8, 8),
        ("JPEGExtendedProcess2_4", GREY8, 8),
        ("JPEGLSNearLossless", GREY, 12),
        ("JPEG2000", GREY, 12),
    ],
)
def test_lossy_coders(tmp_path: Path, kind: str, pixels: NDArray[np.generic], bits: int) -> None:
    assert np.abs(read(coded(dicom(pixels, bits), kind, tmp_path)).pixels - pixels).max() <= 3


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_ways_to_write_a_file(syntax: str) -> None:
    pixels = GREY.byteswap() if syntax == ExplicitVRBigEndian else GREY
    header = dicom(pixels)
    header.file_meta.TransferSyntaxUID = syntax
    np.testing.assert_array_equal(read(header).pixels, GREY)


def test_a_frame_in_many_fragments(tmp_path: Path) -> None:
    header = coded(dicom(), "JPEG2000Lossless", tmp_path)
    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    np.testing.assert_array_equal(read(with_frame(header, frame, fragments=5)).pixels, GREY)


def test_a_file_without_preamble_or_meta(tmp_path: Path) -> None:
    for syntax in (None, ImplicitVRLittleEndian):
        header = dicom()
        if syntax:
            header.file_meta.TransferSyntaxUID = syntax
        data = as_bytes(header)
        (tmp_path / "cut").write_bytes(data[132:])
        np.testing.assert_array_equal(read_mammogram(str(tmp_path / "cut")).pixels, GREY)
        meta = 132 + 12 + int.from_bytes(data[140:144], "little")
        (tmp_path / "bare").write_bytes(data[meta:])
        np.testing.assert_array_equal(read_mammogram(str(tmp_path / "bare")).pixels, GREY)


def test_only_the_stored_bits_count() -> None:
    dirty = GREY | np.uint16(0xA000)  # an overlay plane used to be kept in the unused bits
    np.testing.assert_array_equal(read(dicom(dirty)).pixels, GREY)
    high = dicom(GREY << 4)
    high.HighBit = 15
    np.testing.assert_array_equal(read(high).pixels, GREY)
    twelve = (SIGNED.astype(np.int32) & 0xFFF).astype(np.uint16)
    header = dicom(twelve, PixelRepresentation=1)
    np.testing.assert_array_equal(read(header).pixels, SIGNED)


def test_signed_pixels() -> None:
    np.testing.assert_array_equal(read(dicom(SIGNED, 16)).pixels, SIGNED)
    wide = GREY.astype(np.int32) * 7 - 9000
    np.testing.assert_array_equal(read(dicom(wide, 32)).pixels, wide)


def test_a_mask_as_stored_and_what_it_is_called() -> None:
    mask = np.where(GREY > 2000, 255, 0).astype(np.uint8)
    for words, called in (("ROI mask images", True), ("cropped images", False), (None, False)):
        header = dicom(mask, 8, **({"SeriesDescription": words} if words else {}))
        pixels, told = read_mask(as_bytes(header))
        assert told == called
        np.testing.assert_array_equal(pixels, mask)


# --- grey levels ---


def test_modality_table_and_rescaling() -> None:
    np.testing.assert_array_equal(read(dicom(RescaleSlope="2", RescaleIntercept="-5")).pixels, GREY * 2.0 - 5)
    bent = np.sqrt(np.arange(4096) * 16).round().astype(np.uint16)
    header = dicom(ModalityLUTSequence=Sequence([table(bent)]), RescaleSlope="2", RescaleIntercept="1")
    np.testing.assert_array_equal(read(header).pixels, bent[GREY])
    np.testing.assert_array_equal(read(header).pixels, apply_modality_lut(GREY, header))


@pytest.mark.parametrize("kind", ["OW", "US"])
def test_a_table_of_interest_is_applied_and_is_the_first(kind: str) -> None:
    falling = (65535 - np.arange(4096) * 15).astype(np.uint16)
    others = {"WindowCenter": ["100", "2000"], "WindowWidth": ["10", "4000"], "RescaleIntercept": "0"}
    items = Sequence([table(falling, kind=kind), table(falling // 2)])
    header = dicom(VOILUTSequence=items, **others)
    np.testing.assert_array_equal(read(header).pixels, falling[GREY])
    np.testing.assert_array_equal(read(header).pixels, apply_voi(GREY, header))


def test_values_beyond_a_table_and_tables_that_begin_elsewhere() -> None:
    entries = np.arange(1000, 3000, dtype=np.uint16)
    greys = read(dicom(VOILUTSequence=Sequence([table(entries, first=500)]))).pixels
    np.testing.assert_array_equal(greys, np.clip(GREY.astype(int) + 500, 1000, 2999))
    below = dicom(SIGNED, 16, VOILUTSequence=Sequence([table(entries, first=-900)]))
    np.testing.assert_array_equal(read(below).pixels, np.clip(SIGNED.astype(int) + 1900, 1000, 2999))
    unsigned = dicom(SIGNED, 16, VOILUTSequence=Sequence([table(entries, first=2**16 - 900)]))
    np.testing.assert_array_equal(read(unsigned).pixels, read(below).pixels)


def test_tables_of_bytes() -> None:
    narrow = (np.arange(4096) >> 4).astype(np.uint8)
    np.testing.assert_array_equal(read(dicom(VOILUTSequence=Sequence([table(narrow, bits=8)]))).pixels, narrow[GREY])
    full = np.arange(2**16, dtype=np.uint16)[::-1]
    header = dicom(VOILUTSequence=Sequence([table(full)]))
    assert header.VOILUTSequence[0].LUTDescriptor[0] == 0
    np.testing.assert_array_equal(read(header).pixels, full[GREY])


def test_a_sigmoid_window_is_applied_and_a_linear_one_is_not() -> None:
    window = {"WindowCenter": ["1800", "9"], "WindowWidth": ["900", "9"]}
    np.testing.assert_array_equal(read(dicom(**window)).pixels, GREY)
    np.testing.assert_array_equal(read(dicom(VOILUTFunction="LINEAR_EXACT", **window)).pixels, GREY)
    header = dicom(VOILUTFunction="SIGMOID", **window)
    expected = apply_windowing(GREY, header) / 4095
    np.testing.assert_allclose(read(header).pixels, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"RescaleSlope": "0"}, "Rescale Slope is 0"),
        ({"VOILUTFunction": "SIGMOID"}, "without a window"),
        ({"VOILUTFunction": "SIGMOID", "WindowCenter": "9", "WindowWidth": "0"}, "without a window"),
        ({"VOILUTSequence": Sequence([table(np.arange(9, dtype=np.uint16), bits=40)])}, "9 entries of 40 bits"),
        ({"VOILUTSequence": Sequence([table(np.full(9, 7, np.uint16))])}, "is blank"),
    ],
)
def test_grey_scales_that_cannot_be(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError) as caught:
        limits.checked(read(dicom(**changes)).pixels)
    assert reason in str(caught.value)


def test_a_table_that_is_too_short() -> None:
    item = table(np.arange(4096, dtype=np.uint16))
    item["LUTData"].value = b"ab"
    assert "the VOI LUT has 2 bytes, too few for its 4096 entries" in refusal(dicom(VOILUTSequence=Sequence([item])))
    del item.LUTData
    assert "the VOI LUT has 0 bytes, too few for its 4096 entries" in refusal(dicom(VOILUTSequence=Sequence([item])))


def test_tables_without_a_descriptor_are_ignored() -> None:
    """An empty item, one with entries alone, and one whose descriptor has no value; then what stands beside counts."""
    falling = (65535 - np.arange(4096) * 15).astype(np.uint16)
    entries, empty = table(falling), table(falling)
    del entries.LUTDescriptor
    empty["LUTDescriptor"].value = None
    for item in (Dataset(), entries, empty):
        plain = dicom(VOILUTSequence=Sequence([item]), ModalityLUTSequence=Sequence([item]), RescaleSlope="2")
        np.testing.assert_array_equal(read(plain).pixels, GREY * 2.0)
        window = {"VOILUTFunction": "SIGMOID", "WindowCenter": "1800", "WindowWidth": "900"}
        expected = read(dicom(**window)).pixels
        np.testing.assert_array_equal(read(dicom(VOILUTSequence=Sequence([item]), **window)).pixels, expected)
        others = Sequence([item, table(falling)])
        np.testing.assert_array_equal(read(dicom(VOILUTSequence=others)).pixels, falling[GREY])


def test_polarity() -> None:
    assert not read(dicom()).inverted
    assert not read(dicom(PresentationLUTShape="IDENTITY")).inverted
    for changes in ({"PhotometricInterpretation": "MONOCHROME1"}, {"PresentationLUTShape": "INVERSE"}):
        both = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
        for header in (dicom(**changes), dicom(**both)):
            image = read(header)
            assert image.inverted
            np.testing.assert_array_equal(image.pixels, GREY)


# --- padding ---


def padded(value: int, pixels: NDArray[np.generic] = GREY) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """The picture with padding in its right half, and where that is."""
    outside = np.zeros(SHAPE, dtype=bool)
    outside[:, 24:] = True
    return np.where(outside, np.array(value, dtype=pixels.dtype), np.maximum(pixels, 200)), outside


@pytest.mark.parametrize(
    ("value", "limit", "photometric", "black"),
    [
        (65535, None, "MONOCHROME2", "dark"),  # far beyond the picture, on the wrong side
        (0, None, "MONOCHROME2", "dark"),
        (0, 100, "MONOCHROME2", "dark"),
        (0, None, "MONOCHROME1", "bright"),
        (65535, 5000, "MONOCHROME1", "bright"),
    ],
)
def test_padding_becomes_background(value: int, limit: int | None, photometric: str, black: str) -> None:
    pixels, outside = padded(value)
    header = dicom(pixels, 16, PhotometricInterpretation=photometric)
    header.add_new(0x00280120, "US", value)
    if limit is not None:
        header.add_new(0x00280121, "US", limit)
    greys = read(header).pixels
    np.testing.assert_array_equal(greys[~outside], pixels[~outside])
    (level,) = np.unique(greys[outside])
    low, high = np.percentile(pixels[~outside], (0.1, 99.9))
    near = 0.11 * (high - low)
    assert abs(level - (low if black == "dark" else high)) <= near


def test_padding_before_rescaling_and_with_the_wrong_sign() -> None:
    pixels, outside = padded(-2000, SIGNED)
    pixels = np.where(outside, pixels, np.maximum(pixels, -1500))
    for kind, value in (("SS", -2000), ("US", 63536)):
        header = dicom(pixels.astype(np.int16), 16, RescaleSlope="3", RescaleIntercept="9")
        header.add_new(0x00280120, kind, value)
        greys = read(header).pixels
        np.testing.assert_array_equal(greys[~outside], pixels[~outside] * 3.0 + 9)
        assert greys[outside].max() <= greys[~outside].min() + 60


def test_padding_that_is_none() -> None:
    """A value that tissue has, no value, and one that no pixel has."""
    for value in (int(GREY[30, 30]), 60000):
        header = dicom()
        header.add_new(0x00280120, "US", value)
        np.testing.assert_array_equal(read(header).pixels, GREY)
    header = dicom()
    header.add_new(0x00280120, "US", None)
    np.testing.assert_array_equal(read(header).pixels, GREY)


# --- what else is taken, and what is refused ---


def test_what_the_header_tells() -> None:
    header = dicom(
        ImageLaterality="R", ViewPosition="MLO", ImagerPixelSpacing=[0.07, 0.07], PixelSpacing=[0.5, 0.5],
        BurnedInAnnotation="YES",
    )  # fmt: skip
    image = read(header)
    told = (image.laterality, image.view, image.spacing_mm, image.inverted, image.burned_in)
    assert told == ("R", "MLO", 0.07, False, True)
    plain = read(dicom(ImageLaterality="B", ViewPosition="DOE JANE", BurnedInAnnotation="NO"))
    assert (plain.laterality, plain.view, plain.spacing_mm, plain.burned_in) == (None, None, None, False)
    assert read(dicom(Laterality="L")).burned_in is None
    assert read(dicom(Laterality="L")).laterality == "L"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"NumberOfFrames": 3}, "(0028,0008) Number of Frames is 3; only single images are read"),
        ({"SOPClassUID": BreastTomosynthesisImageStorage}, "tomosynthesis"),
        ({"SharedFunctionalGroupsSequence": Sequence([Dataset()])}, "enhanced object"),
        ({"PhotometricInterpretation": "RGB"}, "is not grey: (0028,0004) Photometric Interpretation must be one of"),
        ({"SamplesPerPixel": 3}, "is not grey"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels; at most"),
        ({"Rows": 3}, "3 x 48 pixels; at least"),
        ({"Rows": 65}, "is truncated: 6144 of 6240 bytes"),
        ({"BitsAllocated": 12}, "are 12, 12, 11; read are pixels of 8, 16 or 32 bits"),
        ({"BitsStored": 20}, "are 16, 20, 11"),
        ({"PixelData": None}, "(7FE0,0010) Pixel Data is missing"),
        ({"Rows": None}, "0 x 48 pixels"),
    ],
)
def test_what_is_refused(changes: dict[str, object], reason: str) -> None:
    assert reason in refusal(dicom(**changes))


def test_transfer_syntaxes_that_are_not_read(tmp_path: Path) -> None:
    header = with_frame(dicom(), b"\xff\xd8" * 50)
    header.file_meta.TransferSyntaxUID = HTJ2KLossless
    assert "High-Throughput JPEG 2000" in refusal(header)
    data = as_bytes(header).replace(HTJ2KLossless.encode(), b"1.2.840.10008.1.2.4.999")
    assert refusal(data).startswith("its transfer syntax (unknown) is not read")
    twelve = coded(dicom(), "JPEGExtendedProcess2_4", tmp_path)
    assert "JPEG Extended with 12 bits is not read" in refusal(twelve)


def test_a_frame_of_another_size_than_the_header_says(tmp_path: Path) -> None:
    for kind in ("JPEG2000Lossless", "JPEGLSLossless", "JPEGLosslessProcess14_1"):
        header = coded(dicom(), kind, tmp_path)
        header.Rows = 400
        assert "is 400 x 48 pixels by its header; its coded frame says otherwise" in refusal(header)
    wrapped = coded(dicom(), "JPEG2000Lossless", tmp_path)
    looping = with_frame(
        wrapped, b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40)
    )  # pydicom follows boxes of no length for ever
    assert "says otherwise" in refusal(looping)


# --- files made to do harm ---


def test_a_deflated_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom_header, "LARGEST_FILE", 2**20)
    header = dicom()
    header.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    data = as_bytes(header)
    start = 132 + 12 + int.from_bytes(data[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(bytes(2**24)) + packer.flush()
    assert len(bomb) < 20_000
    assert "unpacks to more than 1 MiB" in refusal(data[:start] + bomb)
    assert "does not unpack" in refusal(data[:start] + b"\xff" * 50)
    unknown = data[:132] + b"\x02\x00\x02\x01LT\x04\x00abcd" + data[132:start]  # a kind that no file meta has
    assert "damaged beginning" in refusal(unknown + bomb)
    inner = packed(data[132:])  # the file's own meta once more, to be unpacked once more
    assert "with another one inside" in refusal(data[:start] + inner)


def packed(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def test_run_lengths_that_unfold_without_end(tmp_path: Path) -> None:
    header = coded(dicom(GREY8, 8), "RLELossless", tmp_path)
    runs = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x07" * 100_000
    data = as_bytes(with_frame(header, runs))
    tracemalloc.start()
    greys = read_dicom(data).pixels
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.unique(greys).tolist() == [7]
    assert peak < 2_000_000, "all 12,700,000 bytes were unpacked"
    assert "has 2 run-length segments" in refusal(with_frame(header, struct.pack("<16I", 2, 64, 90, *[0] * 13)))
    assert "run-length segment 1 has 128 of 3072 bytes" in refusal(with_frame(header, runs[:66]))
