"""mini-MIAS: the table is read right, positions fall on the lesions, and the real database has its known counts."""

import io
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.readers.mias import index
from diagram_ray.errors import DataError

INFO = """INFORMATION:
This file lists the films in the MIAS database.

mdb001 G CIRC B 535 425 197
mdb002 G CIRC M 522 280 69
mdb002 G CALC B 100 900 10
mdb003 D NORM
mdb004 F CALC B
mdb005 F ASYM M *NOTE 3*
mdb006 F NORM
"""


def write(folder: Path, info: str = INFO, side: int = 64, suffix: str = "png", count: int = 5) -> str:
    (folder / "Info.txt").write_text(info)
    for number in range(1, count + 1):
        pixels = np.random.default_rng(number).integers(0, 255, (side, side), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"mdb{number:03d}.{suffix}")
    return str(folder)


def test_the_table_is_read(tmp_path: Path) -> None:
    found = index(write(tmp_path))
    images = {record.image_id: record for record in found.records}
    assert found.classes == ("negative", "cancer")
    assert list(images) == ["mdb001", "mdb002", "mdb003", "mdb004", "mdb005"]
    assert [images[f"mdb00{n}"].label for n in range(1, 6)] == ["negative", "cancer", "negative", "negative", "cancer"]
    assert [images[f"mdb00{n}"].laterality for n in range(1, 5)] == ["R", "L", "R", "L"]
    assert images["mdb001"].patient_id == images["mdb002"].patient_id != images["mdb003"].patient_id
    assert images["mdb002"].columns == {"density": "G", "severity": "M", "finding": "calc,circ"}
    assert images["mdb003"].columns == {"density": "D", "severity": "N", "finding": None}
    assert [region.label for region in images["mdb002"].regions] == ["cancer", "negative"]
    assert images["mdb004"].regions == images["mdb005"].regions == ()
    assert {record.view for record in found.records} == {"MLO"}
    assert [reject.reason for reject in found.rejects] == ["lists mdb006, which has no image"]


@pytest.mark.parametrize("side", [1024, 512, 64])
def test_positions_count_from_the_bottom_of_the_1024_frame(tmp_path: Path, side: int) -> None:
    (record,) = index(write(tmp_path, "mdb001 G CIRC B 535 425 197\n", side, count=1)).records
    scale = side / 1024
    expected = [(1024 - 425 - 197) * scale, (535 - 197) * scale, (1024 - 425 + 197) * scale, (535 + 197) * scale]
    assert list(record.regions[0].box) == expected
    assert record.spacing_mm == pytest.approx(0.2 / scale)


def test_it_is_read_from_an_object_store(tmp_path: Path) -> None:
    write(tmp_path, suffix="pgm")
    files = fsspec.filesystem("memory")
    for path in tmp_path.iterdir():
        files.pipe_file(f"/mias/all/{path.name}", path.read_bytes())
    records = index("memory://mias").records
    assert len(records) == 5
    assert read_mammogram(records[0].path).pixels.shape == (64, 64)


def test_images_that_cannot_be_used_are_rejects(tmp_path: Path) -> None:
    source = write(tmp_path)
    (tmp_path / "mdb001.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((64, 60), np.uint8)).save(tmp_path / "mdb002.png")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "mdb007.png")
    with (tmp_path / "Info.txt").open("a") as file:
        file.write("mdb003 D CIRC B 300 500 90\n" * 101)
    reasons = {Path(reject.path).name: reject.reason for reject in index(source).rejects}
    assert "not a readable picture" in reasons["mdb001.png"]
    assert "64 x 60 pixels" in reasons["mdb002.png"]
    assert reasons["mdb003.png"] == "Info.txt lists 101 lesions on it; at most 100 are read"
    assert reasons["mdb007.png"] == "is not in Info.txt"


def test_a_folder_that_is_not_mini_mias(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has one beside its images"):
        index(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        index(str(tmp_path / "missing"))
    (tmp_path / "Info.txt").write_text(INFO)
    with pytest.raises(DataError, match="none of the 6 images"):
        index(str(tmp_path))


@pytest.mark.real
def test_the_real_database(real_data: Path, tmp_path: Path) -> None:
    """FORMATS: 330 rows, 322 images of 161 patients, 207 normal, 52 with a malignant lesion, 64 with a benign one."""
    info = (real_data / "mini-mias" / "original" / "Info.txt").read_bytes()
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(buffer, format="PPM")
    (tmp_path / "Info.txt").write_bytes(info)
    for number in range(1, 323):
        (tmp_path / f"mdb{number:03d}.pgm").write_bytes(buffer.getvalue())
    found = index(str(tmp_path))
    records = {record.image_id: record for record in found.records}
    assert (len(records), found.rejects) == (322, [])
    assert len({record.patient_id for record in found.records}) == 161
    assert set(Counter(record.patient_id for record in found.records).values()) == {2}
    assert Counter(record.label for record in found.records) == {"negative": 270, "cancer": 52}
    severities = Counter(record.columns["severity"] for record in found.records)
    assert severities == {"N": 207, "B": 63, "M": 52}  # mdb144 has both, and counts as M
    assert {region.label for region in records["mdb144"].regions} == {"negative", "cancer"}
    assert Counter(record.columns["density"] for record in found.records) == {"F": 106, "G": 104, "D": 112}
    several = {name for name, record in records.items() if len(record.regions) > 1}
    assert several == {"mdb005", "mdb132", "mdb144", "mdb223", "mdb226", "mdb239", "mdb249"}
    unplaced = {n for n, record in records.items() if record.columns["severity"] != "N" and not record.regions}
    assert unplaced == {"mdb059", "mdb216", "mdb233", "mdb245"}


@pytest.mark.real
def test_real_lesions_lie_where_the_table_says(real_data: Path) -> None:
    """mdb028's circumscribed malignant mass is far brighter than what surrounds it; upside down it would not be."""
    record = next(r for r in index(str(real_data / "mini-mias" / "original")).records if r.image_id == "mdb028")
    pixels = read_mammogram(record.path).pixels
    top, left, bottom, right = (int(edge) for edge in record.regions[0].box)
    inside = pixels[top:bottom, left:right].mean()
    around = pixels[top - 60 : bottom + 60, left - 60 : right + 60].mean()
    assert inside > around + 20
    assert pixels[1024 - bottom : 1024 - top, left:right].mean() < inside - 20
