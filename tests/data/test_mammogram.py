"""Decoding: every format round-trips exactly, and every damaged or foreign file is refused with its reason."""

import io
from pathlib import Path

import fsspec
import gdcm
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless

from diagram_ray.data import mammogram
from diagram_ray.data.mammogram import read_mammogram
from diagram_ray.errors import DataError

SHAPE = (64, 48)
GREY = np.random.default_rng(0).integers(0, 4096, SHAPE).astype(np.uint16)
GREY8 = (GREY >> 4).astype(np.uint8)


def dicom(**changes: object) -> Dataset:
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = "1.2.3"
    header.Rows, header.Columns, header.SamplesPerPixel = *SHAPE, 1
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PhotometricInterpretation = "MONOCHROME2"
    header.PatientName, header.PatientID = "Doe^Jane", "4711"
    header.PixelData = GREY.tobytes()
    for name, value in changes.items():
        setattr(header, name, value)
    return header


def saved(folder: Path, header: Dataset, name: str = "image.dcm") -> str:
    header.save_as(folder / name, enforce_file_format=True)
    return str(folder / name)


def refusal(path: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        read_mammogram(str(path))
    return str(caught.value)


def test_dicom_with_its_header_fields(tmp_path: Path) -> None:
    header = dicom(ImageLaterality="R", ViewPosition="MLO", ImagerPixelSpacing=[0.07, 0.07], PixelSpacing=[0.5, 0.5])
    image = read_mammogram(saved(tmp_path, header))
    np.testing.assert_array_equal(image.pixels, GREY)
    assert (image.laterality, image.view, image.spacing_mm, image.inverted) == ("R", "MLO", 0.07, False)
    assert "Doe" not in repr(image)
    assert "4711" not in repr(image)


def test_dicom_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    assert read_mammogram(saved(tmp_path, dicom(), "image")).pixels.shape == SHAPE


def test_monochrome1_is_noted_and_left_as_stored(tmp_path: Path) -> None:
    image = read_mammogram(saved(tmp_path, dicom(PhotometricInterpretation="MONOCHROME1")))
    assert image.inverted
    np.testing.assert_array_equal(image.pixels, GREY)


def test_rescale_is_applied_and_the_display_window_is_not(tmp_path: Path) -> None:
    header = dicom(RescaleSlope="2", RescaleIntercept="-5", WindowCenter="100", WindowWidth="10")
    np.testing.assert_array_equal(read_mammogram(saved(tmp_path, header)).pixels, GREY * 2.0 - 5)


def test_signed_pixels(tmp_path: Path) -> None:
    header = dicom(PixelRepresentation=1, BitsStored=16, HighBit=15, PixelData=(GREY.astype(np.int16) - 2000).tobytes())
    np.testing.assert_array_equal(read_mammogram(saved(tmp_path, header)).pixels, GREY.astype(np.float32) - 2000)


def test_run_length_coded(tmp_path: Path) -> None:
    header = dicom()
    header.compress(RLELossless)
    np.testing.assert_array_equal(read_mammogram(saved(tmp_path, header)).pixels, GREY)


@pytest.mark.parametrize("syntax", ["JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_compressed_as_scanners_do(tmp_path: Path, syntax: str) -> None:
    reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(saved(tmp_path, dicom()))
    assert reader.Read()
    coded_by = gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax))
    change.SetTransferSyntax(coded_by)
    change.SetInput(reader.GetImage())
    assert change.Change()
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    coded = fragments.GetFragment(0).GetByteValue().GetBuffer().encode("utf-8", "surrogateescape")
    header = dicom(PixelData=encapsulate([coded]))
    header["PixelData"].VR = "OB"
    header.file_meta.TransferSyntaxUID = coded_by.GetString()
    saved(tmp_path, header, "coded.dcm")
    assert pydicom.dcmread(tmp_path / "coded.dcm").file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / "coded.dcm")).pixels, GREY)


@pytest.mark.parametrize("value", [b"abcd\\efgh", b"0.0700\\", b"-1\\-1", b"nan\\nan", b"1e400\\1"])
def test_a_senseless_pixel_size_is_unknown_not_fatal(tmp_path: Path, value: bytes) -> None:
    path = Path(saved(tmp_path, dicom(ImagerPixelSpacing=["0.123456", "0.123456"])))
    stored = b"0.123456\\0.123456 "
    data = path.read_bytes()
    assert stored in data
    path.write_bytes(data.replace(stored, value.ljust(len(stored))))
    spacing = read_mammogram(str(path)).spacing_mm
    assert spacing is None or spacing == 0.07


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"NumberOfFrames": 3}, r"(0028,0008) Number of Frames is 3"),
        ({"PhotometricInterpretation": "RGB"}, "(0028,0004) Photometric Interpretation is 'RGB'"),
        ({"Rows": 65535, "Columns": 65535}, "65535 x 65535 pixels; at most"),
        ({"Rows": 3}, "3 x 48 pixels; at least"),
        ({"PixelData": bytes(GREY.nbytes)}, "is blank"),
    ],
)
def test_dicom_that_is_refused(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    assert reason in refusal(saved(tmp_path, dicom(**changes)))


def test_dicom_without_pixels(tmp_path: Path) -> None:
    header = dicom()
    del header.PixelData
    assert "(7FE0,0010) Pixel Data is missing" in refusal(saved(tmp_path, header))


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 7000), flip=st.none() | st.tuples(st.integers(0, 7000), st.integers(0, 255)))
def test_damaged_dicom_is_refused_or_read_but_never_crashes(cut: int, flip: tuple[int, int] | None) -> None:
    buffer = io.BytesIO()
    dicom(ImagerPixelSpacing=[0.07, 0.07]).save_as(buffer, enforce_file_format=True)
    data = bytearray(buffer.getvalue())
    if flip is None:
        data = data[: min(cut, len(data) - 2)]
    else:
        data[flip[0] % len(data)] = flip[1]
    files = fsspec.filesystem("memory")
    files.pipe_file("/damaged.dcm", bytes(data))
    try:
        image = read_mammogram("memory://damaged.dcm")
    except DataError:
        return
    assert flip is not None, f"read in full, though cut to {len(data)} bytes"
    assert image.pixels.ndim == 2


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("pixels", [GREY, GREY8], ids=["16 bit", "8 bit"])
def test_lossless_pictures(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / f"a.{suffix}")).pixels, pixels)


def test_pgm_of_8_and_16_bits(tmp_path: Path) -> None:
    wide = GREY * 16
    (tmp_path / "wide.pgm").write_bytes(b"P5\n# a comment\n48 64\n65535\n" + wide.astype(">u2").tobytes())
    (tmp_path / "narrow.pgm").write_bytes(b"P5 48 64 255\n" + GREY8.tobytes())
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / "wide.pgm")).pixels, wide)
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / "narrow.pgm")).pixels, GREY8)


def test_jpeg_and_grey_stored_as_colour(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 64 * 48).reshape(SHAPE).astype(np.uint8)
    Image.fromarray(np.repeat(smooth[..., None], 3, axis=2)).save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_mammogram(str(tmp_path / "a.jpg")).pixels - smooth).max() <= 4
    Image.fromarray(np.repeat(smooth[..., None], 4, axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mammogram(str(tmp_path / "a.png")).pixels, smooth)


def test_pictures_that_are_refused(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    assert "in colour" in refusal(tmp_path / "colour.png")
    (tmp_path / "cut.pgm").write_bytes(b"P5 48 64 255\n" + bytes(range(100)))
    assert "truncated" in refusal(tmp_path / "cut.pgm")
    (tmp_path / "vast.pgm").write_bytes(b"P5 60000 60000 255\n" + bytes(100))
    assert "pixels" in refusal(tmp_path / "vast.pgm")
    Image.fromarray(GREY8).save(tmp_path / "two.tif", save_all=True, append_images=[Image.fromarray(GREY8)])
    assert "2 pages" in refusal(tmp_path / "two.tif")
    (tmp_path / "empty.png").touch()
    assert "empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("no picture")
    assert "DICOM, PGM, PNG, JPEG, TIFF" in refusal(tmp_path / "text.png")
    assert "cannot be opened" in refusal(tmp_path / "missing.png")
    assert "cannot be opened" in refusal("nonsense://bucket/a.png")


def test_decoders_that_start_programs_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    Image.fromarray(GREY8).save(tmp_path / "a.eps")
    monkeypatch.setattr("subprocess.check_call", start)
    monkeypatch.setattr("subprocess.run", start)
    assert "not a picture of a kind that is read" in refusal(tmp_path / "a.eps")


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mammogram, "LARGEST_FILE", 1000)
    assert "has more than" in refusal(saved(tmp_path, dicom()))
