"""PNG, JPEG, TIFF and PGM: grey levels as they are stored, and damaged or foreign files refused with the reason."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diagram_ray.data.decoding import limits
from diagram_ray.data.decoding.raster_image import is_picture, read_picture
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, GREY8, SHAPE


def written(pixels: NDArray[np.generic], kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **how)
    return buffer.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read_picture(data)
    return str(caught.value)


@pytest.mark.parametrize("pixels", [GREY, GREY8], ids=["16 bit", "8 bit"])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"compression": "packbits"}),
        ("TIFF", {"tiffinfo": {322: 32, 323: 32}, "compression": "tiff_lzw"}),
    ],
)
def test_lossless_pictures(pixels: NDArray[np.generic], kind: str, how: dict[str, object]) -> None:
    data = written(pixels, kind, **how)
    assert is_picture(data[:132])
    np.testing.assert_array_equal(read_picture(data), pixels)


def test_tiles_floats_and_the_other_byte_order() -> None:
    tifffile = pytest.importorskip("tifffile")
    for pixels, how in (
        (GREY, {"tile": (32, 16)}),
        (GREY8, {"tile": (16, 16)}),
        (GREY, {"byteorder": ">"}),
        (GREY.astype(np.float32) / 7, {}),
    ):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, **how)
        np.testing.assert_array_equal(read_picture(buffer.getvalue()), pixels)


def test_jpeg_and_grey_stored_as_colour() -> None:
    smooth = np.linspace(0, 255, GREY.size).reshape(SHAPE).astype(np.uint8)
    colours = np.repeat(smooth[..., None], 3, axis=2)
    assert np.abs(read_picture(written(colours, "JPEG", quality=95)) - smooth.astype(int)).max() <= 4
    np.testing.assert_array_equal(read_picture(written(np.repeat(smooth[..., None], 4, axis=2), "PNG")), smooth)
    palette = Image.fromarray(smooth).convert("P")
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    np.testing.assert_array_equal(read_picture(buffer.getvalue()), smooth)


@settings(max_examples=40, deadline=None)
@given(
    largest=st.integers(1, 65535),
    ascii_=st.booleans(),
    space=st.sampled_from([b" ", b"\n", b"\n# a comment 7 8 9\n", b"\t \r\n"]),
    seed=st.integers(0, 99),
)
def test_pgm_of_any_maximum(largest: int, ascii_: bool, space: bytes, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, largest + 1, (33, 40))
    head = space.join([b"P2" if ascii_ else b"P5", b"40", b"33", b"%d" % largest]) + b"\n"
    if ascii_:
        body = b"\n".join(b" ".join(b"%d" % value for value in row) for row in pixels)
    else:
        body = pixels.astype(">u2" if largest > 255 else "u1").tobytes()
    np.testing.assert_array_equal(read_picture(head + body), pixels)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P5 48 64 255\n" + bytes(100), "is truncated: 100 of 3072 bytes"),
        (b"P2 48 64 255\n" + b"7 " * 100, "is truncated: 100 of 3072 pixels"),
        (b"P2 48 64 255\n" + b"7 " * 3071 + b"Doe", "something other than numbers"),
        (b"P2 48 64 255\n" + b"7 " * 3071 + b"999999999999999", "above 255"),
        (b"P5 48 64 100\n" + bytes([101]) * 3072, "above 100"),
        (b"P5 48 64 0\n" + bytes(9), "maximum 0"),
        (b"P5 48 64 70000\n" + bytes(9), "maximum 70000"),
        (b"P5 60000 60000 255\n" + bytes(100), "60000 x 60000 pixels; at most"),
        (b"P5 48 -64 255\n" + bytes(100), "PGM header"),
        (b"P5" + b" " * 10_000, "PGM header"),
        (b"P5 #" + b"x" * 10_000, "PGM header"),
        (b"no picture", "not a picture of a kind that is read: DICOM, PGM, PNG, JPEG, TIFF"),
        (written(GREY8, "PNG")[:900], "is truncated"),
        (written(GREY8, "JPEG")[:500], "is truncated"),
        (written(np.random.default_rng(0).integers(0, 256, (*SHAPE, 3), dtype=np.uint8), "PNG"), "in colour"),
        (written(GREY8, "TIFF", save_all=True, append_images=[Image.fromarray(GREY8)]), "has several pages"),
        (b"\xff\xd8" + b"\xff" * 1001 + written(GREY8, "JPEG")[3:], "1001 fill bytes before a marker; at most 1000"),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 1000 + written(GREY8, "JPEG")[2:], "more than 1000 segments before"),
        (b"\xff\xd8" + b"\xff\0" * 1000 + written(GREY8, "JPEG")[2:], "more than 1000 segments before"),
        (written(GREY8[:20], "PNG"), "is 20 x 48 pixels; at least"),
        (written(GREY8, "GIF"), "not a picture of a kind"),
    ],
)
def test_what_is_refused(data: bytes, reason: str) -> None:
    assert reason in refusal(data)


def test_a_jpeg_may_have_fill_bytes_and_many_segments() -> None:
    data = written(GREY8, "JPEG")
    for more in (b"\xff" * 999, b"\xff\xfe\0\4\xff\xff" * 990):
        np.testing.assert_array_equal(read_picture(data[:2] + more + data[2:]), read_picture(data))


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    small, data = written(GREY8, "PNG"), written(np.zeros((9000, 9000), np.uint8), "PNG")
    assert len(data) < 200_000
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("it was unpacked"))
    assert "9000 x 9000 pixels; at most" in refusal(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "at most 42000000 pixels are read" in refusal(small)


def test_decoders_that_start_programs_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(GREY8, "EPS")
    for name in ("subprocess.check_call", "subprocess.run", "subprocess.Popen"):
        monkeypatch.setattr(name, lambda *_, **__: pytest.fail("a program was started"))
    assert "not a picture of a kind that is read" in refusal(data)


@pytest.mark.parametrize("number", range(6))
def test_damaged_pictures_are_read_or_refused(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    """Bytes changed, added and taken away, most of them in the header."""
    how = [("PNG", {}), ("JPEG", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})]
    how += [("TIFF", {"compression": "jpeg"}), ("JPEG", {"progressive": True})]
    whole = written(GREY8, how[number][0], **how[number][1])
    choose = random.Random(number)
    reasons = []
    for _ in range(150):
        damaged = bytearray(whole)
        place = choose.randrange(8, choose.choice([200, len(whole)]))
        damaged[place : place + choose.choice([0, 1, 1, 4, 60])] = choose.choice(
            [b"\xff", b"\0", b"", b"\xff\xff\xff\x7f"]
        )
        try:
            assert limits.checked(read_picture(bytes(damaged))).ndim == 2
        except DataError as error:
            reasons.append(str(error))
    assert reasons
    assert max(map(len, reasons)) < 120
    capfd.readouterr()  # libtiff's own words


def test_size_limits_and_pixels_that_are_no_numbers(tmp_path: Path) -> None:
    limits.check_size(6480, 6480)
    with pytest.raises(DataError, match="at most"):
        limits.check_size(7000, 7000)
    for bad in (np.nan, np.inf, -np.inf):
        greys = GREY.astype(np.float32)
        greys[3, 5] = bad
        with pytest.raises(DataError, match="not finite"):
            limits.checked(greys)
    with pytest.raises(DataError, match="is blank: every pixel is 7"):
        limits.checked(np.full(SHAPE, 7))
    with pytest.raises(DataError, match="shape"):
        limits.checked(np.zeros((4, 40, 40)))
