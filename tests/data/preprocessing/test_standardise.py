"""The same breast gives the same picture, however it was stored; and a point can be followed into it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diagram_ray.data.decoding.mammogram import Mammogram, read_mammogram
from diagram_ray.data.preprocessing.breast_mask import is_inverted
from diagram_ray.data.preprocessing.standardise import (
    _resize,
    background_boxes,
    cut_patch,
    square_around,
    standardise,
)
from diagram_ray.errors import DataError
from tests.support.sources.breasts import DrawBreast, draw

SIZE = (128, 96)
SLOW = settings(max_examples=12, deadline=None)
# Found by eye on contact sheets of the 400 files in rsna-640 in the order of their paths: dark tissue on white.
INVERTED = {0, 1, 2, 3, *range(26, 32), *range(113, 117), *range(121, 125), *range(155, 161), 193, 194, 199}
INVERTED |= {223, 224, 234, 235, 244, 245, 250, 251, 257, 258, 261, 262, 272, 273, *range(349, 353), 370, 371}


def difference(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    """Mean difference in parts of the full range."""
    return float(np.abs(one.astype(float) - other).mean() / 65535)


@SLOW
@given(seed=st.integers(0, 10**6))
def test_polarity_is_recognised_and_undone(seed: int) -> None:
    stored = draw(seed)
    plain, inverted = standardise(Mammogram(stored), SIZE), standardise(Mammogram(4095 - stored), SIZE)
    assert (plain.inverted, inverted.inverted) == (False, True)
    assert difference(plain.pixels, inverted.pixels) < 0.002


@SLOW
@given(seed=st.integers(0, 10**6), laterality=st.sampled_from([None, "L", "R"]))
def test_either_side_gives_the_same_picture_whatever_the_header_says(seed: int, laterality: str | None) -> None:
    stored = draw(seed)
    left = standardise(Mammogram(stored, laterality), SIZE)
    right = standardise(Mammogram(np.ascontiguousarray(stored[:, ::-1]), laterality), SIZE, laterality)
    assert (left.mirrored, right.mirrored) == (False, True)
    assert difference(left.pixels, right.pixels) < 0.01
    assert (left.pixels[:, 0] > 0).sum() > SIZE[0] / 3, "the chest wall is not at the left edge"


@SLOW
@given(seed=st.integers(0, 10**6), slope=st.floats(0.05, 16), offset=st.floats(-2000, 30000))
def test_brightness_and_contrast_do_not_matter(seed: int, slope: float, offset: float) -> None:
    stored = draw(seed)
    changed = Mammogram((stored * slope + offset).astype(np.float32))
    assert difference(standardise(Mammogram(stored), SIZE).pixels, standardise(changed, SIZE).pixels) < 0.002


@SLOW
@given(seed=st.integers(0, 10**6), factor=st.sampled_from([2, 3, 5]))
def test_resolution_does_not_matter(seed: int, factor: int) -> None:
    stored = draw(seed)
    large = Mammogram(stored.repeat(factor, 0).repeat(factor, 1))
    assert difference(standardise(Mammogram(stored), SIZE).pixels, standardise(large, SIZE).pixels) < 0.02


def test_output_is_the_breast_alone_over_the_full_range(draw_breast: DrawBreast) -> None:
    standard = standardise(Mammogram(draw_breast()), SIZE)
    assert standard.pixels.dtype == np.uint16
    assert standard.pixels.shape == SIZE
    assert standard.pixels.max() == 65535
    assert (standard.pixels == 0).mean() > 0.1
    assert standard.pixels[:, -1].max() == 0, "something of the film label is left"


def test_zero_is_background_alone(draw_breast: DrawBreast) -> None:
    film = draw_breast(1)
    film[140:152, 40:52] = 60  # as dark as the film, amid the breast
    pixels = standardise(Mammogram(film), SIZE).pixels
    assert (pixels == 0).mean() > 0.1
    assert (pixels == 1).sum() > 20
    filled = ndimage.binary_fill_holes(np.pad(pixels > 0, 1))[1:-1, 1:-1]
    assert ((pixels > 0) == filled).all()


def test_a_small_bright_lesion_keeps_its_contrast(draw_breast: DrawBreast) -> None:
    """It covers about 0.4 % of the breast, and is brighter than all else there."""
    film = np.minimum(draw_breast(2, label=False), 3000)
    y, x = np.mgrid[: film.shape[0], : film.shape[1]]
    radius = np.hypot(y - 150, x - 50)
    film[radius < 5.5] = 4000 - 150 * radius[radius < 5.5]
    image = Mammogram(film)
    patch = cut_patch(image, standardise(image, SIZE), (145, 45, 155, 55), 11)
    assert (patch == 65535).mean() < 0.3
    assert patch[5, 5] > patch[5, 1] + 0.08 * 65535


def test_a_label_joined_by_a_bright_line_along_the_edge_is_removed(draw_breast: DrawBreast) -> None:
    stored = draw_breast(3, label=False)
    alone = standardise(Mammogram(stored), SIZE)
    film = stored.copy()
    film[:2] = 3000
    film[:30, 170:210] = 4095
    film[: np.flatnonzero(stored[:, 0] > 800)[0] + 1, 0:2] = 3000
    assert difference(alone.pixels, standardise(Mammogram(film), SIZE).pixels) < 0.02


def test_white_film_borders_are_trimmed(draw_breast: DrawBreast) -> None:
    stored = draw_breast(4)
    bordered = np.pad(stored, ((8, 12), (0, 15)), constant_values=4095)
    assert difference(standardise(Mammogram(stored), SIZE).pixels, standardise(Mammogram(bordered), SIZE).pixels) < 0.02


def test_aspect_ratio_is_kept(draw_breast: DrawBreast) -> None:
    standard = standardise(Mammogram(draw_breast()), (128, 128))
    top, left, bottom, right = standard.crop
    rows, columns = (np.flatnonzero(standard.pixels.any(axis=axis)) for axis in (1, 0))
    ratio = (rows[-1] - rows[0] + 1) / (columns[-1] - columns[0] + 1)
    assert ratio == pytest.approx((bottom - top) / (right - left), rel=0.06)
    assert rows[0] == pytest.approx(127 - rows[-1], abs=3), "not centred"


@SLOW
@given(
    seed=st.integers(0, 10**6),
    mirror=st.booleans(),
    invert=st.booleans(),
    size=st.sampled_from([(128, 128), (160, 48)]),
)
def test_a_point_is_followed_into_the_picture(seed: int, mirror: bool, invert: bool, size: tuple[int, int]) -> None:
    stored = draw(seed)
    row, column = 150, 40
    stored[row - 6 : row + 7, column - 6 : column + 7] = 4095
    if mirror:
        stored, column = np.ascontiguousarray(stored[:, ::-1]), stored.shape[1] - 1 - column
    standard = standardise(Mammogram(4095 - stored if invert else stored), size)
    assert (standard.offset > 0) == (size == (160, 48)), "one size is filled to its height, the other to its width"
    y, x = standard.to_output(np.array([[row + 0.5, column + 0.5]]))[0]
    assert standard.pixels[int(y), int(x)] > 0.97 * 65535


@SLOW
@given(seed=st.integers(0, 10**6))
def test_patches_share_polarity_side_and_grey_scale_with_the_picture(seed: int) -> None:
    stored = draw(seed)
    box = (120.0, 20.0, 150.0, 60.0)
    plain = Mammogram(stored)
    other = Mammogram(np.ascontiguousarray(4095 - stored[:, ::-1]))
    mirrored_box = (120.0, 220.0 - 60.0, 150.0, 220.0 - 20.0)
    one = cut_patch(plain, standardise(plain, SIZE), box, 32)
    two = cut_patch(other, standardise(other, SIZE), mirrored_box, 32)
    assert one.shape == (32, 32)
    assert one.dtype == np.uint16
    assert difference(one, two) < 0.002


def test_a_patch_is_about_the_mean_of_what_it_covers(draw_breast: DrawBreast) -> None:
    image = Mammogram(draw_breast(1, 1200, 880))
    standard = standardise(image, SIZE)
    top, left = 560, 100
    patch = cut_patch(image, standard, (top, left, top + 320, left + 320), 32)
    low, high = standard.levels
    blocks = image.pixels[top : top + 320, left : left + 320].reshape(32, 10, 32, 10).mean((1, 3))
    slow = np.clip((blocks - low) / (high - low), 0, 1) * 65535
    assert difference(patch, slow.astype(np.uint16)) < 0.02  # a triangle filter reaches into the neighbours


@given(top=st.floats(-20, 99), left=st.floats(-20, 79), height=st.floats(0.1, 140), width=st.floats(0.1, 140))
def test_the_square_is_smallest_inside_and_holds_the_box(top: float, left: float, height: float, width: float) -> None:
    y, x, side = square_around((top, left, top + height, left + width), (100, 80))
    assert 0 <= y <= y + side <= 100 + 1e-9
    assert 0 <= x <= x + side <= 80 + 1e-9
    assert side == pytest.approx(min(max(height, width, 1), 80))
    if side < 80 and top >= 0 and left >= 0 and top + height <= 100 and left + width <= 80:
        assert y - 1e-9 <= top
        assert top + height <= y + side + 1e-9
        assert x - 1e-9 <= left
        assert left + width <= x + side + 1e-9


@SLOW
@given(seed=st.integers(0, 10**6))
def test_background_squares_lie_in_the_breast_and_off_the_lesions(seed: int) -> None:
    standard = standardise(Mammogram(draw(seed)), SIZE)
    lesion = (130.0, 10.0, 170.0, 60.0)
    boxes = background_boxes(standard, [lesion], 6, 1 / 8, np.random.default_rng(seed))
    assert len(boxes) == 6
    assert boxes == background_boxes(standard, [lesion], 6, 1 / 8, np.random.default_rng(seed))
    for top, left, bottom, right in boxes:
        assert standard.breast[int(top) : int(bottom), int(left) : int(right)].all()
        assert bottom <= lesion[0] or top >= lesion[2] or right <= lesion[1] or left >= lesion[3]


def test_a_film_without_a_breast_is_refused() -> None:
    film = np.random.default_rng(0).normal(100, 1, (200, 200)).astype(np.float32)
    film[:20, :20] = 4000
    with pytest.raises(DataError, match="no breast found"):
        standardise(Mammogram(film), SIZE)


def test_where_the_shape_does_not_tell_the_side_the_laterality_does() -> None:
    film = np.full((200, 200), 10, np.float32)
    film[40:160, 40:160] = np.random.default_rng(0).normal(2000, 200, (120, 120))
    assert standardise(Mammogram(film), SIZE, "R").mirrored
    assert not standardise(Mammogram(film), SIZE, "L").mirrored


@pytest.mark.real
def test_polarity_of_real_mammograms(real_data: Path) -> None:
    files = sorted((real_data / "rsna-640").glob("*/*.jpg"))
    assert len(files) == 400
    images = [read_mammogram(str(path)) for path in files]
    assert {n for n, image in enumerate(images) if is_inverted(image.pixels[::2, ::2], image.inverted)} == INVERTED
    for number in (0, 5, 26, 199, 371):
        assert standardise(images[number], SIZE).inverted == (number in INVERTED)


@pytest.mark.real
def test_side_and_labels_of_real_films(real_data: Path) -> None:
    for name, side in (("mdb001", "R"), ("mdb002", "L"), ("mdb028", "L"), ("mdb059", "R"), ("mdb132", "L")):
        image = read_mammogram(str(real_data / "mini-mias" / "original" / f"{name}.pgm"))
        standard = standardise(image, SIZE)
        assert standard.mirrored == (side == "R"), name
        assert not standard.inverted, name


@settings(max_examples=60, deadline=None)
@given(
    top=st.floats(0, 299), left=st.floats(0, 219), height=st.floats(1, 300), width=st.floats(1, 220),
    shape=st.sampled_from([(32, 32), (7, 50), (96, 72)]),
)  # fmt: skip
def test_what_is_cut_before_resizing_does_not_matter(
    top: float, left: float, height: float, width: float, shape: tuple[int, int]
) -> None:
    film = np.random.default_rng(0).normal(2000, 500, (300, 220)).astype(np.float32)
    box = (top, left, top + height, left + width)
    whole = Image.fromarray(film).resize(
        shape[::-1], Image.Resampling.BILINEAR, box=(left, top, min(left + width, 220), min(top + height, 300))
    )
    np.testing.assert_allclose(_resize(film, box, shape), np.asarray(whole), atol=0.05)


def test_reference_resize_of_a_picture_without_background() -> None:
    pixels = np.random.default_rng(0).normal(1000, 100, (256, 192)).astype(np.float32)
    pixels[:, 100:] = 0
    standard = standardise(Mammogram(pixels), (64, 25))
    low, high = standard.levels
    slow = np.asarray(Image.fromarray(pixels[:, :100]).resize((25, 64), Image.Resampling.BILINEAR))
    expected = np.clip((slow - low) / (high - low), 0, 1) * 65535
    assert difference(standard.pixels[4:-4, :22], expected[4:-4, :22].astype(np.uint16)) < 0.01
