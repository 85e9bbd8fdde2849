"""Films of DDSM through `read_mammogram`: told by their first bytes, in their true shape, as densities."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.decoding.optical_density import to_optical_density
from diagram_ray.data.records import Film
from diagram_ray.errors import DataError
from tests.support.phantoms.ljpeg_encoder import encode

GREY = np.random.default_rng(5).integers(0, 4096, (60, 48)).astype(np.uint16)
FILM = Film((60, 48), "lumisys")


def saved(folder: Path, data: bytes, name: str = "A_0001_1.LEFT_CC.LJPEG") -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def refusal(path: str, film: Film | None = FILM) -> str:
    with pytest.raises(DataError) as caught:
        read_mammogram(path, film)
    return str(caught.value)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_film_has_its_true_shape_and_densities(tmp_path: Path, swapped: bool, compressed: bool) -> None:
    data = encode(GREY, swapped=swapped)
    path = saved(tmp_path, gzip.compress(data) if compressed else data, "any.name")
    image = read_mammogram(path, FILM)
    np.testing.assert_array_equal(image.pixels, np.float32(4) - to_optical_density(GREY, "lumisys"))
    assert image.pixels.dtype == np.float32
    assert (image.laterality, image.view, image.spacing_mm, image.inverted) == (None, None, None, False)
    assert image.pixels.flat[GREY.argmax()] == image.pixels.max(), "bright stays bright"


def test_without_its_facts_a_film_has_grey_levels_in_the_shape_of_its_header(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_mammogram(saved(tmp_path, encode(GREY))).pixels, GREY)
    exchanged = read_mammogram(saved(tmp_path, encode(GREY, swapped=True))).pixels
    np.testing.assert_array_equal(exchanged, GREY.reshape(48, 60))


def test_tables_may_stand_before_the_frame(tmp_path: Path) -> None:
    data = encode(GREY)
    table, scan = data.index(b"\xff\xc4"), data.index(b"\xff\xda")
    moved = data[:2] + data[table:scan] + data[2:table] + data[scan:]
    np.testing.assert_array_equal(read_mammogram(saved(tmp_path, moved)).pixels, GREY)


@pytest.mark.real
@pytest.mark.parametrize("name", ["crop12_P16_SSS7", "crop12_P16_SSS7_swapped"])
def test_a_stream_of_the_original_coder(real_data: Path, name: str) -> None:
    truth = np.fromfile(real_data / "ddsm-ljpeg" / f"{name}.expected.raw", ">u2").reshape(256, 320)
    image = read_mammogram(str(real_data / "ddsm-ljpeg" / f"{name}.LJPEG"), Film((256, 320), "howtek-mgh"))
    np.testing.assert_array_equal(
        image.pixels, np.float32(4) - to_optical_density(truth.astype(np.uint16), "howtek-mgh")
    )


def test_files_that_are_refused(tmp_path: Path) -> None:
    data = encode(GREY)
    picture = io.BytesIO()
    Image.fromarray((GREY >> 4).astype(np.uint8)).save(picture, "JPEG")
    assert "not a lossless JPEG as DDSM has them" in refusal(saved(tmp_path, picture.getvalue()))
    assert "not a lossless JPEG as DDSM has them" in refusal(saved(tmp_path, b"\xff\xd8" + b"\xff\xc4\0\0" * 9))
    assert "expected 61 rows of 48" in refusal(saved(tmp_path, data), Film((61, 48), "lumisys"))
    assert "pixels; at most" in refusal(saved(tmp_path, data), Film((60_000, 48_000), "lumisys"))
    assert "scanner 'vidar' has no curve" in refusal(saved(tmp_path, data), Film((60, 48), "vidar"))
    assert "lossless JPEG, byte" in refusal(saved(tmp_path, data[:-400]))
    assert "is blank" in refusal(saved(tmp_path, encode(np.full((60, 48), 7, np.uint16))))
    assert "not readable as gzip" in refusal(saved(tmp_path, gzip.compress(data)[:-40]))


def test_a_compressed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diagram_ray.data.decoding.mammogram.LARGEST_FILE", 1 << 20)
    assert "unpacks to more than 1048576 bytes" in refusal(saved(tmp_path, gzip.compress(bytes(8 << 20))), None)
