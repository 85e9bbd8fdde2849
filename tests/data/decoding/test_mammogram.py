"""Opening any file: its kind is told by content, and whatever is wrong is one sentence that quotes nothing."""

import gzip
import io
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diagram_ray.data.decoding import mammogram
from diagram_ray.data.decoding.mammogram import read_mammogram, read_stored
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, GREY8, as_bytes, dicom


def saved(folder: Path, data: bytes, name: str) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def refusal(path: str | Path) -> str:
    with pytest.raises(DataError) as caught:
        read_mammogram(str(path))
    return str(caught.value)


def picture(kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, kind, **how)
    return buffer.getvalue()


def test_what_a_dicom_file_tells(tmp_path: Path) -> None:
    header = dicom(
        ImageLaterality="R", ViewPosition="MLO", ImagerPixelSpacing=[0.07, 0.07], PixelSpacing=[0.5, 0.5],
        BurnedInAnnotation="YES", PhotometricInterpretation="MONOCHROME1",
    )  # fmt: skip
    image = read_mammogram(saved(tmp_path, as_bytes(header), "image.dcm"))
    np.testing.assert_array_equal(image.pixels, GREY)
    assert image.pixels.dtype == np.float32
    told = (image.laterality, image.view, image.spacing_mm, image.inverted, image.burned_in)
    assert told == ("R", "MLO", 0.07, True, True)
    assert "Doe" not in repr(image)
    assert "4711" not in repr(image)


@pytest.mark.parametrize("name", ["image", "image.png", "1.2.840.113"])
def test_the_kind_is_told_by_content(tmp_path: Path, name: str) -> None:
    for data in (as_bytes(dicom()), picture("PNG"), picture("TIFF"), gzip.compress(as_bytes(dicom()))):
        np.testing.assert_array_equal(read_mammogram(saved(tmp_path, data, name)).pixels, GREY)


def test_a_mask_is_read_as_stored(tmp_path: Path) -> None:
    path = saved(tmp_path, as_bytes(dicom(GREY8, 8, SeriesDescription="ROI mask images")), "mask.dcm")
    pixels, called = read_stored(path)
    assert called
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, GREY8)


@pytest.mark.parametrize("value", [b"abcd\\efgh", b"0.0700\\", b"-1\\-1", b"nan\\nan", b"1e400\\1"])
def test_a_senseless_pixel_size_is_unknown_not_fatal(tmp_path: Path, value: bytes) -> None:
    stored = b"0.123456\\0.123456 "
    data = as_bytes(dicom(ImagerPixelSpacing=["0.123456", "0.123456"]))
    assert stored in data
    path = saved(tmp_path, data.replace(stored, value.ljust(len(stored))), "image.dcm")
    assert read_mammogram(path).spacing_mm in (None, 0.07)


def test_files_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.png").touch()
    assert refusal(tmp_path / "empty.png") == "the file is empty"
    assert refusal(tmp_path / "Doe_Jane.png") == "cannot be opened: no such file"
    assert refusal("nonsense://Doe_Jane/a.png") == "cannot be opened (ValueError)"
    assert refusal(tmp_path) == "cannot be opened (IsADirectoryError)"
    monkeypatch.setattr(mammogram, "LARGEST_FILE", 1000)
    assert "has more than" in refusal(saved(tmp_path, as_bytes(dicom()), "image.dcm"))


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mammogram, "LARGEST_FILE", 2**16)
    assert "unpacks to more than" in refusal(saved(tmp_path, gzip.compress(bytes(2**22)), "image.dcm.gz"))


@settings(max_examples=150, deadline=None)
@given(cut=st.integers(0, 7000), flip=st.none() | st.tuples(st.integers(0, 7000), st.binary(min_size=1, max_size=6)))
def test_damaged_dicom_is_refused_or_read_but_never_crashes(cut: int, flip: tuple[int, bytes] | None) -> None:
    data = bytearray(as_bytes(dicom(ImagerPixelSpacing=[0.07, 0.07], WindowCenter="7", PixelPaddingValue=0)))
    if flip is None:
        data = data[: min(cut, len(data) - 2)]
    else:
        at = flip[0] % len(data)
        data[at : at + len(flip[1])] = flip[1]
    files = fsspec.filesystem("memory")
    files.pipe_file("/damaged.dcm", bytes(data))
    try:
        image = read_mammogram("memory://damaged.dcm")
    except DataError:
        return
    assert flip is not None, f"read in full, though cut to {len(data)} bytes"
    assert image.pixels.ndim == 2


def test_a_reason_never_quotes_a_header(tmp_path: Path) -> None:
    """Values of the wrong kind in tags that are read, and rubbish in those that are not."""
    for keyword, vr in (("RescaleSlope", b"DS"), ("WindowCenter", b"DS"), ("NumberOfFrames", b"IS"), ("Rows", b"US")):
        header = dicom(RescaleSlope="1234567890123456", WindowCenter="1234567890123456", NumberOfFrames="1")
        header.VOILUTFunction = "SIGMOID"
        data = as_bytes(header)
        tag = header[keyword].tag
        at = data.index(tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little") + vr)
        length = int.from_bytes(data[at + 6 : at + 8], "little")
        secret = b"DoeJane^19431107"[:length].ljust(length)
        words = refusal(saved(tmp_path, data[: at + 8] + secret + data[at + 8 + length :], "image.dcm"))
        assert "Doe" not in words
