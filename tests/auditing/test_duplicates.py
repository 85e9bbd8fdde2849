"""Pictures under two patients: all that are planted are found, and no others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diagram_ray.auditing import duplicates
from diagram_ray.auditing.duplicates import Prints, blocks, duplicate_findings, near_of, pairs, prints
from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.likeness import FLIPS, SIDE, flipped, hashes, sketch
from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.preprocessing.prepare_image import (
    Options,
    Prepared,
    pixel_digest,
    prepare_image,
)
from diagram_ray.data.readers import inbreast

Pixels = NDArray[np.uint16]
MakePictures = Callable[[int], Pixels]


def described(pixels: Pixels, patients: list[str], labels: list[str] | None = None) -> pd.DataFrame:
    sketches = np.stack([sketch(picture) for picture in pixels])
    codes = hashes(sketches)
    return pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(len(pixels))],
            "patient_id": patients,
            "label": labels or ["negative"] * len(pixels),
            "digest": [pixel_digest(picture) for picture in pixels],
            "sketch": [each.tobytes() for each in sketches],
            "hash0": codes[:, 0],
            "hash1": codes[:, 1],
        }
    )


def found(images: pd.DataFrame) -> list[duplicates.Pair]:
    looks = prints(images)
    return pairs(
        images, looks, [near for start, stop in blocks(len(looks.rows)) for near in near_of(looks, start, stop)]
    )


def test_planted_copies_are_found_and_nothing_else(make_pictures: MakePictures) -> None:
    pixels = make_pictures(80).copy()
    noise = np.random.default_rng(0).normal(0, 1000, pixels[0].shape)
    pixels[41] = pixels[3]
    pixels[52] = np.where(pixels[10] > 0, np.clip(0.9 * pixels[10] + noise, 1, 65535), 0)
    pixels[63] = pixels[20][:, ::-1]
    pixels[77] = pixels[30][::-1]
    labels = ["cancer" if number == 41 else "negative" for number in range(80)]
    images = described(pixels, [f"p{number // 2}" for number in range(80)], labels)
    result = {(pair.images, pair.flip, pair.identical) for pair in found(images)}
    assert result == {
        (("i3", "i41"), "", True),
        (("i10", "i52"), "", False),
        (("i20", "i63"), "mirrored", False),
        (("i30", "i77"), "upside down", False),
    }
    finding, *others = duplicate_findings(images, found(images))
    assert not others
    assert finding.severity is Severity.SERIOUS
    assert "4 pictures stand under two patients each (1 pixel for pixel, 3 nearly)" in finding.sentence
    assert "1 of them has two different labels" in finding.sentence


def test_images_of_one_patient_are_never_paired(make_pictures: MakePictures) -> None:
    """Mirrored views of the two breasts, and films that were stored twice."""
    pixels = np.concatenate([make_pictures(10), make_pictures(10)[:, :, ::-1], make_pictures(10)])
    images = described(pixels, [f"p{number}" for number in range(10)] * 3)
    assert found(images) == []
    (finding,) = duplicate_findings(images, [])
    assert finding.severity is Severity.INFO
    assert "10 images are pixel for pixel another one of the same patient" in finding.sentence


def test_one_picture_of_three_patients_is_two_pairs_and_its_copy_a_third(make_pictures: MakePictures) -> None:
    pixels = make_pictures(6).copy()
    pixels[1] = pixels[2] = pixels[0]
    pixels[3] = np.where(pixels[0] > 0, np.clip(pixels[0] * 0.9, 1, 65535), 0)
    pairs_ = found(described(pixels, ["a", "b", "c", "a", "d", "e"]))
    assert [(pair.images, pair.identical) for pair in pairs_] == [
        (("i0", "i1"), True),
        (("i1", "i2"), True),
        (("i0", "i3"), False),
    ], "the near copy is of a, but the picture is also b's and c's"


def test_phantoms_are_all_different(tmp_path: Path) -> None:
    """Of the pairs of 200 phantoms, none is near: they share one renderer, one film and one scale."""
    make_phantom(tmp_path, 50, seed=7, difficulty=0.3, height=160)
    index = inbreast.index(str(tmp_path))
    options = Options((96, 72), 32, 0, b"key of the test", index.classes[0])
    prepared = [prepare_image(record, options) for record in index.records]
    images = [item for item in prepared if isinstance(item, Prepared)]
    assert len(images) == 200
    table = described(np.stack([item.pixels for item in images]), [item.manifest["patient_id"] for item in images])
    assert found(table) == []


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 90))
def test_every_pair_is_compared_once(seed: int, count: int) -> None:
    """Against a loop over all pairs, with hashes that are often near, whatever the cut into tasks and strips."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 2**63, (5, 2), dtype=np.uint64)
    codes = base[random.integers(0, 5, count)] ^ (np.uint64(1) << random.integers(0, 64, (count, 2), dtype=np.uint64))
    owners = random.integers(0, 8, count)
    looks = Prints(codes, np.zeros((count, SIDE, SIDE), np.int8), owners, np.arange(count))
    step, got = int(random.integers(1, 200)), set()
    for start in range(0, count, step):
        for flip in FLIPS:
            first, second = duplicates._candidates(looks, start, min(start + step, count), flip)
            got |= {(int(one), int(two), flip) for one, two in zip(first, second, strict=True)}
    expected = {
        (one, two, flip)
        for flip in FLIPS
        for one in range(count)
        for two in range(one + 1, count)
        if owners[one] != owners[two]
        and sum(int(a ^ b).bit_count() for a, b in zip(codes[one], flipped(codes[[two]], flip)[0], strict=True))
        <= duplicates.RADIUS
    }
    assert got == expected


def test_blocks_cover_all_rows() -> None:
    assert blocks(0) == []
    assert blocks(duplicates.BLOCK + 1) == [(0, duplicates.BLOCK), (duplicates.BLOCK, duplicates.BLOCK + 1)]


def test_a_dataset_of_copies_does_not_end_in_a_flood(
    make_pictures: MakePictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MOST", 7)
    one = make_pictures(1)[0].astype(int)
    pixels = np.stack([np.where(one > 0, one + number, 0) for number in range(40)]).clip(0, 65535).astype(np.uint16)
    looks = prints(described(pixels, [f"p{number}" for number in range(40)]))
    assert len(near_of(looks, 0, 40)) == 7
