"""Calibration lines equal scikit-learn's, find what was planted, and say so where there is none."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from diagram_ray.evaluation.calibration import brier, fit_line, recalibration, reliability
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import draw_patients


def scored(seed: int, count: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Labels that are positive with the chance that the scores say."""
    random = np.random.default_rng(seed)
    scores = expit(1.5 * random.normal(size=count) - 0.5)
    return (random.random(count) < scores).astype(np.int64), scores


def test_lines_of_many_resamples_equal_one_logistic_regression_each() -> None:
    labels, scores = scored(0, 120)
    weights = np.random.default_rng(1).integers(0, 4, (120, 7)).astype(np.float32)
    intercept, slope = fit_line(labels, scores, weights)
    odds = logit(scores)[:, None]
    for column in range(7):
        slow = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(odds, labels, sample_weight=weights[:, column])
        assert intercept[column] == pytest.approx(slow.intercept_[0], abs=1e-4)
        assert slope[column] == pytest.approx(slow.coef_[0, 0], abs=1e-4)


@pytest.mark.parametrize(("shift", "stretch"), [(0.0, 1.0), (0.8, 2.0), (-0.5, 0.5)])
def test_planted_miscalibration_is_recovered_and_undone(shift: float, stretch: float) -> None:
    labels, honest = scored(2, 40_000)
    told = expit(stretch * logit(honest) + shift)
    line = recalibration(labels, told)
    assert line is not None
    assert line.slope == pytest.approx(1 / stretch, abs=0.05)
    assert line.intercept == pytest.approx(-shift / stretch, abs=0.05)
    np.testing.assert_allclose(line.apply(told), honest, atol=0.02)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]])
def test_classes_that_the_scores_separate_or_that_are_one_have_no_line(labels: list[int]) -> None:
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert recalibration(np.array(labels), scores) is None


def test_a_resample_without_a_line_leaves_the_others_theirs() -> None:
    labels, scores = scored(3, 60)
    weights = np.ones((60, 3), dtype=np.float32)
    weights[labels == 1, 1] = 0
    intercept, slope = fit_line(labels, scores, weights)
    assert np.isnan(slope[1])
    assert slope[0] == slope[2]
    assert intercept[0] == pytest.approx(fit_line(labels, scores, weights[:, :1])[0][0])


def test_brier_is_the_mean_squared_distance() -> None:
    labels, scores = scored(4, 50)
    weights = np.random.default_rng(0).integers(0, 3, (50, 2)).astype(np.float32)
    expected = [brier_score_loss(labels, scores, sample_weight=weights[:, column]) for column in range(2)]
    np.testing.assert_allclose(brier(labels, scores, weights), expected)


def test_bins_hold_every_image_once_and_say_what_part_is_positive() -> None:
    labels, scores = scored(5, 95)
    owner = np.arange(95) // 2
    data = OutOfFold((0,), scores[None], labels, np.zeros(95, np.int64), owner)
    bins = reliability(data, draw_patients(data, 200, 0))
    assert sum(part.count for part in bins) == 95
    assert [part.score for part in bins] == sorted(part.score for part in bins)
    lowest = np.argsort(scores)[: bins[0].count]
    assert bins[0].observed.value == pytest.approx(labels[lowest].mean())
    assert all(part.observed.low <= part.observed.value <= part.observed.high for part in bins)
