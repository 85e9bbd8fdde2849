"""What is breast and what is film: stickers that touch the breast go, implants stay, and what was blanked is told."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from diagram_ray.data.breast import find_breast
from diagram_ray.data.mammogram import Mammogram, read_mammogram
from diagram_ray.data.pixels import cut_patch, standardise

from .conftest import draw

SIZE = (128, 96)
Box = tuple[slice, slice]


def with_sticker(seed: int = 0, joined: bool = True) -> tuple[np.ndarray, Box]:
    """A film with a white sticker with dark letters, and a grey haze from it to the breast; and the sticker's place."""
    film = draw(seed, label=False)
    inside = film > 700
    row = int(np.flatnonzero(inside[:, 0])[0]) + 40
    edge = int(np.flatnonzero(inside[row])[-1])
    place = (slice(row - 40, row - 10), slice(edge + 14, edge + 36))
    if joined:
        film[row - 46 : row + 4, edge - 20 : edge + 40] = np.maximum(
            film[row - 46 : row + 4, edge - 20 : edge + 40], 500
        )
    film[place] = 4095
    film[place][8:12, 5:15] = 300
    return film, place


def test_a_sticker_that_touches_the_breast_is_cut_off() -> None:
    for seed in range(4):
        film, place = with_sticker(seed)
        without = find_breast(draw(seed, label=False)).breast
        breast = find_breast(film).breast
        assert not breast[place].any(), seed
        assert find_breast(film).labels[place].mean() > 0.5
        assert (breast & without).sum() > 0.98 * without.sum(), "tissue was cut off with it"


def test_an_implant_stays() -> None:
    film = draw(1, label=False)
    y, x = np.mgrid[: film.shape[0], : film.shape[1]]
    implant = ((y - 150) / 30) ** 2 + (x / 28) ** 2 < 1
    film[implant] = 4095
    around = ndimage.binary_dilation(implant, iterations=12) & ~implant
    film[around] = 400
    assert find_breast(film).breast[implant].all()


def test_a_white_lesion_stays() -> None:
    film = draw(2, label=False)
    film[140:160, 60:80] = 4095
    film[130:140, 50:90] = film[160:170, 50:90] = 3000
    assert find_breast(film).breast[140:160, 60:80].all()


def test_bright_skin_is_no_label() -> None:
    film = draw(5, label=False)
    breast = find_breast(film).breast
    row = 150
    edge = int(np.flatnonzero(breast[row])[-1])
    film[row : row + 2, edge - 3 : edge + 12] = 4000  # a nipple, narrower than what is taken for breast
    assert find_breast(film).labels.sum() == 0
    film[row : row + 2, edge + 20 : edge + 30] = 4000
    assert find_breast(film).labels.sum() == 20


def test_what_the_film_tells() -> None:
    film = draw(5, label=True)
    told = standardise(Mammogram(film), SIZE).film
    bright = np.zeros(film.shape, bool)
    bright[6 : 6 + 300 // 12, -220 // 6 : -6] = True
    assert told["label_part"] == pytest.approx(bright.mean(), rel=0.02)
    assert told["border_part"] == 0
    breast = film[find_breast(film).breast] / 4095
    assert told["grey_mean"] == pytest.approx(breast.mean(), abs=0.01)
    assert told["grey_sd"] == pytest.approx(breast.std(), abs=0.01)
    for share in (5, 25, 50, 75, 95):
        assert told[f"grey_p{share:02d}"] == pytest.approx(np.percentile(breast, share), abs=0.01)
    assert standardise(Mammogram(draw(5, label=False)), SIZE).film["label_part"] == 0
    bordered = np.pad(film, ((0, 12), (0, 15)), constant_values=4095)
    part = 1 - film.size / bordered.size
    assert standardise(Mammogram(bordered), SIZE).film["border_part"] == pytest.approx(part, rel=0.01)
    inverted = standardise(Mammogram(4095 - film), SIZE).film
    assert inverted == pytest.approx(told, abs=0.002)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_patch_shows_neither_label_nor_border(mirrored: bool) -> None:
    film, place = with_sticker(joined=False)
    box = (place[0].start - 10, place[1].start - 60, place[0].stop + 10, place[1].stop)
    if mirrored:
        film = np.ascontiguousarray(film[:, ::-1])
        box = (box[0], film.shape[1] - box[3], box[2], film.shape[1] - box[1])
    image = Mammogram(film)
    patch = cut_patch(image, standardise(image, SIZE), box, 32)
    assert patch.max() > 20_000, "the breast is there"
    sticker = patch[:, -5:-1]
    assert sticker.max() < 20_000
    clear, _ = with_sticker(joined=False)
    clear[place] = 60
    clear = np.ascontiguousarray(clear[:, ::-1]) if mirrored else clear
    plain = cut_patch(Mammogram(clear), standardise(Mammogram(clear), SIZE), box, 32)
    assert np.abs(plain[:, :16].astype(int) - patch[:, :16]).mean() < 600, "tissue is as it was"


@pytest.mark.real
def test_a_real_sticker_that_touches_the_breast(real_data: Path, tmp_path: Path) -> None:
    """mdb006: its white label ran into the breast's area. Found by eye on contact sheets of all 322 films."""
    import tarfile

    with tarfile.open(real_data / "mini-mias" / "mini-mias-512.tar.xz") as archive:
        member = next(one for one in archive if one.name.endswith("mdb006.pgm"))
        archive.extract(member, tmp_path, filter="data")
    image = read_mammogram(str(tmp_path / member.name))
    sticker = (slice(0, 50), slice(316, 354))
    assert np.median(image.pixels[sticker]) > 230
    assert not find_breast(image.pixels).breast[sticker].any()
    assert find_breast(image.pixels).breast.mean() > 0.25
