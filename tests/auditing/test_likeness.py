"""A picture is known again however it was re-encoded; other pictures are not taken for it."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from diagram_ray.auditing.duplicates import ALIKE, RADIUS
from diagram_ray.auditing.likeness import (
    BITS,
    FLIPS,
    SIDE,
    TERMS,
    correlation,
    flip_sketch,
    flipped,
    hashes,
    sketch,
)
from diagram_ray.data.decoding.mammogram import Mammogram, read_mammogram
from diagram_ray.data.preprocessing.standardise import standardise

Pixels = NDArray[np.uint16]


def again(picture: Pixels) -> Iterator[tuple[str, str, Pixels]]:
    """The same picture as somebody else may have it: (what was done, how it has to be turned, pixels)."""
    height, width = picture.shape
    grey, inside = picture.astype(np.float64), picture > 0
    random = np.random.default_rng(int(picture.sum()) % 2**32)

    def cropped(top: float, left: float, bottom: float, right: float) -> NDArray[np.float32]:
        box = (left * width, top * height, right * width, bottom * height)
        return np.asarray(
            Image.fromarray(grey.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR, box=box)
        )

    buffer = io.BytesIO()
    Image.fromarray((grey / 257).astype(np.uint8)).save(buffer, "JPEG", quality=60)
    jpeg = np.asarray(Image.open(buffer)).astype(np.float64) * 257
    shifted = ndimage.shift(grey, (round(0.01 * height), round(0.015 * width)), order=0)
    yield "noise", "", np.where(inside, grey + random.normal(0, 0.02 * 65535, grey.shape), 0)
    yield "brightness and contrast", "", np.where(inside, 0.8 * grey + 5000, 0)
    yield "gamma", "", 65535 * (grey / 65535) ** 0.7
    yield "crop of 1 %", "", cropped(0.01, 0.01, 0.99, 0.99)
    yield "crop at one edge", "", cropped(0.02, 0, 1, 0.98)
    yield "shift", "", shifted
    yield "JPEG", "", np.where(inside, jpeg, 0)
    yield "mirrored", "mirrored", grey[:, ::-1]
    yield "upside down", "upside down", grey[::-1]
    yield "turned", "turned", grey[::-1, ::-1]
    yield (
        "mirrored, shifted and noisy",
        "mirrored",
        (shifted + random.normal(0, 600, grey.shape) * (shifted > 0))[:, ::-1],
    )


def test_a_picture_is_known_again(draw_picture: Callable[[int], Pixels]) -> None:
    for seed in range(25):
        picture = draw_picture(seed)
        own = sketch(picture)[None]
        for what, flip, other in again(picture):
            theirs = sketch(np.clip(other, 0, 65535).astype(np.uint16))[None]
            bits = np.bitwise_count(hashes(own) ^ flipped(hashes(theirs), flip)).sum()
            alike = correlation(own, flip_sketch(theirs, flip))[0]
            assert bits <= RADIUS, (seed, what, bits)
            assert alike >= ALIKE, (seed, what, alike)


def test_other_pictures_are_not_alike(draw_picture: Callable[[int], Pixels]) -> None:
    sketches = np.stack([sketch(draw_picture(seed)) for seed in range(60)])
    first, second = np.triu_indices(60, 1)
    for flip in FLIPS:
        assert correlation(sketches[first], flip_sketch(sketches[second], flip)).max() < ALIKE - 0.1


@pytest.mark.real
def test_six_films_are_known_after_being_written_anew(real_data: Path) -> None:
    """Changed before they are prepared, as real copies are: preparation may see the breast a little differently."""
    films = sorted((real_data / "mini-mias" / "original").glob("*.pgm"))
    assert len(films) == 6
    found = []
    for film in films:
        pixels = read_mammogram(str(film)).pixels[::2, ::2]
        height, width = pixels.shape
        copies = [
            Mammogram(pixels),
            Mammogram(pixels[round(0.01 * height) :, : -round(0.01 * width)]),
            Mammogram(np.clip(0.85 * pixels + 10, 0, 255).round()),
            Mammogram(np.ascontiguousarray(pixels[:, ::-1])),
            Mammogram(255 - pixels, inverted=True),
        ]
        looks = [standardise(copy, (128, 96)).pixels for copy in copies]
        codes = hashes(np.stack([sketch(look) for look in looks]))
        found += [int(np.bitwise_count(codes[0] ^ code).sum()) for code in codes[1:]]
    assert max(found) <= RADIUS


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(FLIPS))
def test_the_hash_of_a_flipped_picture_follows_from_its_hash(seed: int, flip: str) -> None:
    random = np.random.default_rng(seed)
    sketches = random.integers(-100, 100, (3, SIDE, SIDE)).astype(np.int8)
    assert (hashes(flip_sketch(sketches, flip)) == flipped(hashes(sketches), flip)).all()
    assert (flip_sketch(flip_sketch(sketches, flip), flip) == sketches).all()


@pytest.mark.parametrize("flip", ["mirrored", "upside down", "turned"])
def test_a_flipped_picture_has_the_flipped_sketch(flip: str, draw_picture: Callable[..., Pixels]) -> None:
    picture = draw_picture(3, 101, 77)
    turned = {"mirrored": picture[:, ::-1], "upside down": picture[::-1], "turned": picture[::-1, ::-1]}[flip]
    assert np.abs(flip_sketch(sketch(np.ascontiguousarray(turned)), flip).astype(int) - sketch(picture)).max() <= 2


def test_the_hash_is_the_signs_of_the_slowest_cosine_terms() -> None:
    """Against the cosine sum written out."""
    values = np.random.default_rng(0).integers(-100, 100, (SIDE, SIDE)).astype(np.int8)
    place = np.arange(SIDE) + 0.5
    terms = sorted(
        ((down, across) for down in range(TERMS) for across in range(TERMS) if (down, across) != (0, 0)),
        key=lambda term: term[0] ** 2 + term[1] ** 2,
    )[:BITS]
    signs = [
        (np.cos(np.pi * down * place / SIDE) @ values @ np.cos(np.pi * across * place / SIDE)) > 0
        for down, across in terms
    ]
    words = hashes(values[None])[0]
    bits = [bool(int(words[number // 64]) >> (number % 64) & 1) for number in range(BITS)]
    assert bits == signs


def test_what_correlation_says_of_equal_negative_and_empty_pictures(draw_picture: Callable[[int], Pixels]) -> None:
    one = sketch(draw_picture(0))[None]
    empty = sketch(np.zeros((96, 72), np.uint16))[None]
    assert not empty.any()
    assert correlation(one, one)[0] == pytest.approx(1, abs=1e-5)
    assert correlation(one, -one)[0] < 0.5
    assert correlation(one, empty)[0] == 0
    assert correlation(empty, empty)[0] == 0


@pytest.mark.parametrize("shape", [(32, 32), (512, 384), (40, 200)])
def test_any_size_of_picture_and_a_single_pixel(shape: tuple[int, int], draw_picture: Callable[..., Pixels]) -> None:
    assert sketch(draw_picture(0, *shape)).any()
    dot = np.zeros(shape, np.uint16)
    dot[0, -1] = 60000
    assert sketch(dot).shape == (SIDE, SIDE)
