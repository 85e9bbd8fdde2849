"""What is breast and what is film: stickers that touch the breast go, implants stay, and what was blanked is told."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from diagram_ray.data.decoding.mammogram import Mammogram, read_mammogram
from diagram_ray.data.preprocessing.breast_mask import find_breast
from diagram_ray.data.preprocessing.standardise import cut_patch, standardise
from tests.support.sources.breasts import draw

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


def bordered(film: np.ndarray, thick: int, level: float = 4095) -> np.ndarray:
    """The film with a white border over its chest wall's edge, its last column blurred."""
    film = film.copy()
    film[:, : thick - 1] = level
    film[:, thick - 1] = (level + film[:, thick]) / 2
    return film


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_a_white_border_beside_the_breast_is_removed_on_any_edge(turn: int) -> None:
    """The tissue behind it hides no more of it than the film does."""
    for seed in range(3):
        film = bordered(draw(seed, label=False), 6)
        expected = np.rot90(np.arange(film.shape[1]) < 6 + np.zeros((len(film), 1)), turn)
        anatomy = find_breast(np.ascontiguousarray(np.rot90(film, turn)))
        assert (anatomy.border == expected).mean() > 0.995
        assert not (anatomy.breast & expected).any()


def test_a_border_is_removed_where_the_muscle_is_as_white() -> None:
    film = bordered(draw(1, label=False), 6)
    film[60:140, 6:30] = 4000
    border = find_breast(film).border
    assert border[60:140, :6].all()
    assert not border[60:140, 8:].any(), "the muscle was cut"


def test_a_border_begins_behind_a_dark_margin() -> None:
    film = bordered(draw(1, label=False), 9)
    film[:, :2] = 60
    assert find_breast(film).border[:, :8].all()


def test_bright_tissue_at_the_chest_wall_is_no_border() -> None:
    """An edge of tissue slants or bends; only what is straight is a border."""
    film = draw(2, label=False)
    y, x = np.mgrid[: film.shape[0], : film.shape[1]]
    film[(x < 18 - np.abs(y - 150) / 5) & (film > 700)] = 4000
    anatomy = find_breast(film)
    assert not anatomy.border.any()
    assert anatomy.breast[140:160, :18].all()


@pytest.mark.parametrize("edge", ["chest wall", "top"])
def test_the_glow_along_an_edge_is_cut_off_the_breast(edge: str) -> None:
    """It fades into the film: 0.4 of the range at the edge, gone 14 pixels from it."""
    for seed in range(3):
        film = draw(seed, label=False)
        film[: film.shape[0] // 2 if edge == "top" else 0] = film[
            film.shape[0] // 2
        ]  # reaches the upper edge, as an MLO
        clean = find_breast(film).breast
        far = np.arange(film.shape[0])[:, None] if edge == "top" else np.arange(film.shape[1])[None]
        film = np.maximum(film, np.clip(0.4 * (1 - far / 14), 0, 1).astype(np.float32) * 4095)
        anatomy = find_breast(film)
        assert (anatomy.breast & ~clean).sum() < 0.02 * clean.sum()
        assert (anatomy.breast & clean).sum() > 0.99 * clean.sum()
        assert anatomy.tails.sum() > 500
        assert anatomy.labels.sum() == anatomy.border.sum() == 0, "glow is told as neither"


def test_a_breast_that_tapers_off_loses_nothing() -> None:
    y, x = np.mgrid[:300, :220]
    film = np.where((x < 150 * (1 - np.abs(y - 150) / 140)) | ((x < 60) & (y < 150)), 2000.0, 60.0).astype(np.float32)
    anatomy = find_breast(film)
    assert not anatomy.tails.any()
    assert (anatomy.breast == (film > 1000)).mean() > 0.995


def test_an_uneven_background_is_not_breast() -> None:
    film = draw(4, label=False)
    clean = find_breast(film).breast
    haze = np.linspace(0.03, 0.1, film.shape[1], dtype=np.float32) * 4095
    film = np.maximum(film, haze + np.random.default_rng(0).normal(0, 20, film.shape).astype(np.float32))
    film[250:280, 150:200] = 0  # blacked out
    breast = find_breast(film).breast
    assert (breast == clean).mean() > 0.99


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
