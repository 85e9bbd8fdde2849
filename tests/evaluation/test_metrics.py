"""AUC, accuracy and ROC against slow definitions, scikit-learn, and each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import Roc, accuracy, auc, mean_roc, roc

# Few different scores, so that ties are the rule.
scored = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


def slow_auc(labels, scores):
    """Every pair by itself."""
    pairs = [
        (p, n) for p, a in zip(scores, labels, strict=True) if a for n, b in zip(scores, labels, strict=True) if not b
    ]
    return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)


@given(scored)
def test_auc_counts_pairs_and_halves_ties(rows):
    labels, scores = zip(*rows, strict=True)
    assert auc(labels, scores) == pytest.approx(slow_auc(labels, scores), abs=1e-12)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@given(scored)
def test_auc_knows_only_the_order(rows):
    labels, scores = map(np.array, zip(*rows, strict=True))
    assert auc(labels, np.exp(scores)) == auc(labels, scores)
    assert auc(labels, -scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)
    assert auc(1 - labels, scores) == pytest.approx(1 - auc(labels, scores), abs=1e-12)


@given(scored)
def test_the_area_under_the_roc_curve_is_the_auc(rows):
    labels, scores = zip(*rows, strict=True)
    curve = roc(labels, scores)
    assert (curve.false[0], curve.true[0], curve.false[-1], curve.true[-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(curve.false) >= 0)
    assert np.all(np.diff(curve.true) >= 0)
    assert np.trapezoid(curve.true, curve.false) == pytest.approx(auc(labels, scores), abs=1e-12)
    false, true, _ = roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve.false, false)
    np.testing.assert_allclose(curve.true, true)


def test_the_mean_curve_is_read_vertically():
    perfect, guessing = (
        Roc(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0])),
        Roc(np.array([0.0, 1.0]), np.array([0.0, 1.0])),
    )
    mean = mean_roc([perfect, guessing], points=5)
    np.testing.assert_allclose(mean.false, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(mean.true, [0, 0.625, 0.75, 0.875, 1])
    np.testing.assert_allclose(mean.sd, [0, 0.75 / 2**0.5, 0.5 / 2**0.5, 0.25 / 2**0.5, 0])


def test_a_curve_of_steps_is_not_smoothed_into_a_better_one():
    random = np.random.default_rng(0)
    labels, folds = random.integers(0, 2, (6, 60)), []
    for each in labels:
        folds.append((each, random.normal(size=60) + each))
    mean = mean_roc([roc(*fold) for fold in folds], points=2001)
    assert np.trapezoid(mean.true, mean.false) == pytest.approx(np.mean([auc(*fold) for fold in folds]), abs=2e-3)


def test_one_curve_has_no_spread():
    assert not mean_roc([roc([0, 1, 1], [0.1, 0.4, 0.2])]).sd.any()


def test_accuracy():
    assert accuracy([0, 1, 1, 0], [0.1, 0.5, 0.4, 0.9]) == 0.5
    assert accuracy([0, 1, 1, 0], [0.1, 0.5, 0.4, 0.9], threshold=0.4) == 0.75
    assert accuracy([1, 1], [0.9, 0.2]) == 0.5


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "of 2 images 0 are negative and 2 positive"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "3 are negative and 0 positive"),
        ([0, 2], [0.1, 0.2], "label.*2.*expected 0 or 1"),
        ([0, 1], [0.1, float("nan")], "score of image 1 of 2 is NaN"),
        ([0, 1], [0.1], r"labels \(2,\) and scores \(1,\)"),
        ([], [], "not empty"),
    ],
)
def test_what_has_no_auc_is_refused(labels, scores, message):
    with pytest.raises(DataError, match=message):
        auc(labels, scores)
