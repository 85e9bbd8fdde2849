"""The phantom's classes differ in the shape of their lesions and in nothing that a trivial feature would see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from diagram_ray.auditing.description import BRIGHTNESS, picture_numbers
from diagram_ray.auditing.shortcuts import Question, ask, groups, score
from diagram_ray.data.decoding.mammogram import Mammogram
from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.phantom.anatomy import Grid, Outline
from diagram_ray.data.phantom.lesions import Lesion, add_lesion, best_auc, draw_lesion
from diagram_ray.data.phantom.patients import VIEWS, plan_patient
from diagram_ray.data.phantom.render import render_view
from diagram_ray.data.phantom.shapes import draw_shape, profile
from diagram_ray.data.preprocessing.prepare_image import Options, Prepared, prepare_image
from diagram_ray.data.preprocessing.standardise import Standardised, standardise
from diagram_ray.data.readers import inbreast

GRID = Grid(832)
TISSUE = Outline(
    mask=np.ones(GRID.shape, bool),
    to_skin=np.full(GRID.shape, 100.0, np.float32),
    nipple=(116.0, 160.0),
    muscle=np.zeros(GRID.shape, np.float32),
)
"""Breast everywhere: a lesion is added as it is."""
ANY_SEED = st.integers(0, 2**32 - 1)


def added(lesion: Lesion, seed: int) -> np.ndarray:
    return add_lesion(np.random.default_rng(seed), lesion, TISSUE, 100.0, GRID)[0]


@given(ANY_SEED, st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_a_shape_has_the_area_and_the_brightness_of_a_disc(seed: int, spiculation: float) -> None:
    """Counted on a fine grid: the part of the plane below each level, and the sum and the spread of the heights."""
    shape = draw_shape(np.random.default_rng(seed), spiculation)
    axis = np.linspace(-8.0, 8.0, 2001)
    level = shape.level(axis[:, None], axis[None, :])
    pixel = (axis[1] - axis[0]) ** 2
    for limit in (0.5, 0.8, 1.0, 1.2):
        assert (level < limit).sum() * pixel == pytest.approx(np.pi * limit**2, rel=0.01)
    disc = np.linspace(0.0, 2.0, 20001)
    for power in (1, 2, 3):
        wanted = np.trapezoid(2 * np.pi * disc * profile(disc).astype(float) ** power, disc)
        assert (profile(level).astype(float) ** power).sum() * pixel == pytest.approx(wanted, rel=0.01)
    np.testing.assert_allclose(shape.level(*shape.outline().T), 1.0, atol=2e-3)


@given(ANY_SEED, st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=15, deadline=None)
def test_a_benign_and_a_malignant_twin_add_the_same_brightness(seed: int, difficulty: float) -> None:
    """Sum, peak and each quantile of what the mass adds; radius, depth and calcifications are the same draws."""
    twins = [draw_lesion(np.random.default_rng(seed), malignant, difficulty) for malignant in (False, True)]
    assert replace(twins[0], malignant=True, degree=twins[1].degree) == twins[1]
    assert twins[1].degree - twins[0].degree == pytest.approx(4.4 - 2.6 * difficulty)
    benign, malignant = (added(replace(twin, specks=0), seed).astype(float) for twin in twins)
    assert malignant.sum() == pytest.approx(benign.sum(), rel=0.02)
    assert malignant.max() == pytest.approx(benign.max(), rel=0.03)
    parts = np.linspace(0.1, 1.0, 10) * twins[0].contrast
    areas = [np.cumsum(np.histogram(field, [*parts * 0.999, np.inf])[0][::-1]) for field in (benign, malignant)]
    np.testing.assert_allclose(*areas, atol=0.03 * np.pi * (twins[0].radius / GRID.spacing) ** 2)


def test_an_observer_who_knows_the_degree_reaches_the_stated_auc() -> None:
    random = np.random.default_rng(5)
    before = 1.0
    for difficulty in (0.0, 0.3, 0.7, 1.0):
        degrees = [[draw_lesion(random, bad, difficulty).degree for _ in range(4000)] for bad in (False, True)]
        auc = roc_auc_score([0] * 4000 + [1] * 4000, np.concatenate(degrees))
        assert auc == pytest.approx(best_auc(difficulty), abs=0.015)
        assert auc < before
        before = auc


def prepared(number: int, view: int, birads: str) -> Standardised:
    plan = replace(plan_patient(2, number), birads={"L": birads, "R": birads}, inverted=(False,) * 4)
    pixels = render_view(plan, 2, view, 0.3, Grid(208)).pixels
    return standardise(Mammogram(pixels.astype(np.float32)), (128, 96), VIEWS[view][0])


def test_twins_differ_in_no_grey_level() -> None:
    """What preparation tells of the same breast, with its lesion benign and malignant: the means of 60 pairs differ by
    less than a sixth of what breasts differ by."""
    features = []
    for number in range(60):
        pair = [prepared(number, number % 4, birads) for birads in ("2", "5")]
        told = picture_numbers(one.pixels for one in pair)[["picture_part", *BRIGHTNESS]].to_numpy()
        features.append([[*one.film.values(), *row] for one, row in zip(pair, told, strict=True)])
    values = np.array(features)
    spread = values[:, 0].std(axis=0)
    shift = (values[:, 1] - values[:, 0]).mean(axis=0)
    varied = spread > 0
    assert varied.sum() > 15
    assert np.abs(shift[varied] / spread[varied]).max() < 1 / 6, dict(enumerate((shift / (spread + 1e-12)).round(3)))
    assert (values[:, 1] != values[:, 0]).any(axis=1).all(), "they are not the same images"


def question(folder: Path, seed: int, patients: int) -> Question:
    make_phantom(folder, patients, seed, 0.3, 208)
    index = inbreast.index(str(folder))
    made = [
        prepare_image(record, Options((128, 96), 32, 0, b"key of the test", "negative")) for record in index.records
    ]
    images = [one for one in made if isinstance(one, Prepared)]
    assert len(images) == 4 * patients
    greys = picture_numbers(one.pixels for one in images)
    asked = ask(pd.DataFrame([one.manifest for one in images]).join(greys), index.classes, "")
    assert isinstance(asked, Question)
    return asked


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_trivial_features_do_not_tell_the_classes_apart(tmp_path: Path, seed: int) -> None:
    asked = question(tmp_path, seed, 240)
    aucs = {group.name: found.auc.value for group in groups() if (found := score(asked, group)).auc}
    assert {"histogram", "grey levels", "brightness", "breast size"} <= aucs.keys()
    assert max(aucs.values()) <= 0.6, aucs
