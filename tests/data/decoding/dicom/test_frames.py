"""JPEG 2000 frames in the wrapping of JP2 files, as some makers store them, and frames as large as films."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000, JPEG2000Lossless

from diagram_ray.data.decoding.dicom.image import read_dicom
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, GREY8, as_bytes, dicom, with_frame

SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"


def jp2(pixels: NDArray[np.generic]) -> bytes:
    """A whole JP2 file, lossless, as Pillow writes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG2000", irreversible=False, quality_layers=[0])
    return buffer.getvalue()


def framed(frame: bytes, pixels: NDArray[np.generic] = GREY, bits: int = 12, syntax: str = JPEG2000Lossless) -> Dataset:
    header = with_frame(dicom(pixels, bits), frame)
    header.file_meta.TransferSyntaxUID = syntax
    return header


def codestream(file: bytes) -> bytes:
    return file[file.index(b"jp2c") + 4 :]


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEG2000])
@pytest.mark.parametrize(("pixels", "bits"), [(GREY, 12), (GREY8, 8)])
def test_jp2_files_as_frames(pixels: NDArray[np.generic], bits: int, syntax: str) -> None:
    file = jp2(pixels)
    assert file.startswith(SIGNATURE)
    assert codestream(file).startswith(b"\xff\x4f\xff\x51")
    np.testing.assert_array_equal(read_dicom(as_bytes(framed(file, pixels, bits, syntax))).pixels, pixels)
    bare = framed(codestream(file), pixels, bits, syntax)
    np.testing.assert_array_equal(read_dicom(as_bytes(bare)).pixels, pixels)


def test_boxes_of_every_length() -> None:
    """The codestream's box may have a long length or none; other boxes may stand before and behind it."""
    stream = codestream(jp2(GREY))
    other = struct.pack(">I4s", 20, b"uuid") + b"jp2c" * 3
    long_other = struct.pack(">I4sQ", 1, b"xml ", 26) + b"some words"
    for box in (
        struct.pack(">I4s", len(stream) + 8, b"jp2c") + stream + other,
        struct.pack(">I4sQ", 1, b"jp2c", len(stream) + 16) + stream + other,
        struct.pack(">I4s", 0, b"jp2c") + stream,
    ):
        frame = SIGNATURE + other + long_other + box
        np.testing.assert_array_equal(read_dicom(as_bytes(framed(frame))).pixels, GREY)


@pytest.mark.parametrize(
    "boxes",
    [
        b"",
        bytes(40),
        struct.pack(">I4s", 3, b"jp2h") * 9,
        struct.pack(">I4s", 0, b"jp2h") + b"\xff\x4f\xff\x51" * 9,
        struct.pack(">I4s", 8, b"free") * 1_000_000,
        struct.pack(">I4sQ", 1, b"jp2c", 2**64 - 1) + bytes(40),
    ],
    ids=["none", "zeros", "short", "open", "many", "endless"],
)
def test_jp2_files_without_a_codestream(boxes: bytes) -> None:
    with pytest.raises(DataError, match="its coded frame says otherwise"):
        read_dicom(as_bytes(framed(SIGNATURE + boxes)))


def test_a_jp2_file_of_another_size_or_in_colour() -> None:
    other = framed(jp2(GREY))
    other.Rows = 63
    colour = framed(jp2(np.stack([GREY8] * 3, axis=2)))
    for header in (other, colour):
        with pytest.raises(DataError, match="its coded frame says otherwise"):
            read_dicom(as_bytes(header))


@pytest.mark.slow
def test_40_megapixels(tmp_path: Path) -> None:
    """As a film of 24 x 30 cm scanned at 42 micrometres has, of noise, which takes longest."""
    pixels = np.random.default_rng(0).integers(0, 4096, (7200, 5600), np.uint16)
    assert pixels.size >= 40_000_000
    header = framed(jp2(pixels), pixels)
    header.save_as(tmp_path / "film.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / "film.dcm")).pixels, pixels)
