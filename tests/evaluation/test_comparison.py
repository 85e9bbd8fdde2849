import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from diagram_ray.errors import DataError
from diagram_ray.evaluation.comparison import compare, corrected_t, holm
from diagram_ray.evaluation.delong import paired_delong
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.resampling import Interval

Values = st.lists(st.floats(-1, 1), min_size=2, max_size=30)


def predictions(gain: float, patients: int = 60, images: int = 2, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Scores that separate the classes by `gain`, with the same noise whatever the gain; images of a patient agree."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), images)
    labels = owner // folds % 2
    noise = np.repeat(random.normal(size=patients), images) + 0.1 * random.normal(size=len(owner))
    own = random.normal(size=len(owner)) * gain  # what the better model sees besides
    return pd.DataFrame(
        {
            "fold": owner % folds,
            "image_id": [f"i{n:04d}" for n in range(len(owner))],
            "patient_id": [f"p{n:03d}" for n in owner],
            "label": labels,
            "score": labels * (1.0 + gain) + noise + 0.3 * own,
        }
    )


@given(values=Values)
def test_without_overlap_it_is_the_t_test(values: list[float]) -> None:
    if np.var(values) < 1e-12:
        return
    found, expected = corrected_t(values, 0.0), ttest_1samp(values, 0.0)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9, abs=1e-300)
    interval = expected.confidence_interval(0.95)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))


def test_the_example_by_hand() -> None:
    """Five folds, mean 0.03, s^2 = 0.00025: t = 0.03 / sqrt((1/5 + 1/4) * 0.00025) = 2.8284, 4 degrees of freedom."""
    found = corrected_t([0.01, 0.02, 0.03, 0.04, 0.05], 0.25)
    error = math.sqrt(0.45 * 0.00025)
    assert found.p == pytest.approx(0.047421, abs=1e-6)
    assert found.difference.low == pytest.approx(0.03 - 2.776445 * error, abs=1e-7)
    assert found.difference.value == pytest.approx(0.03)


@given(values=Values, share=st.floats(0.01, 1.0))
def test_overlap_widens_and_signs_turn(values: list[float], share: float) -> None:
    narrow, wide = corrected_t(values, 0.0), corrected_t(values, share)
    assert wide.difference.low <= narrow.difference.low
    assert wide.p >= narrow.p - 1e-12
    turned = corrected_t([-value for value in values], share)
    assert turned.p == pytest.approx(wide.p)
    assert turned.difference.low == pytest.approx(-wide.difference.high)


def test_equal_differences_leave_nothing_to_estimate() -> None:
    assert corrected_t([0.0, 0.0], 0.25).p == 1.0
    assert corrected_t([0.5, 0.5], 0.25).p == 0.0
    with pytest.raises(DataError, match="two folds at least"):
        corrected_t([0.1], 0.25)


def test_a_better_model_is_found_and_the_order_is_the_sign() -> None:
    worse, better = predictions(0.0, patients=200), predictions(1.0, patients=200)
    found, turned = compare(worse, better, 500), compare(better, worse, 500)
    expected = [
        auc(b["label"], b["score"]) - auc(w["label"], w["score"])
        for (_, w), (_, b) in zip(worse.groupby("fold"), better.groupby("fold"), strict=True)
    ]
    assert found.folds == pytest.approx(expected)
    assert found.corrected == corrected_t(found.folds, 0.25)
    assert found.auc[1] - found.auc[0] == pytest.approx(np.mean(expected))
    for test in (found.corrected, found.patients):
        assert 0 < test.difference.low < test.difference.value < test.difference.high
        assert test.p < 0.05
    assert turned.patients.difference.value == pytest.approx(-found.patients.difference.value)
    assert turned.patients.difference.low == pytest.approx(-found.patients.difference.high)


def test_a_model_is_as_good_as_itself_whatever_the_order_of_the_rows() -> None:
    table = predictions(0.5)
    found = compare(table, table.sample(frac=1.0, random_state=0), 200)
    assert found.corrected.p == found.patients.p == 1.0
    assert found.patients.difference.low == found.patients.difference.high == 0.0


def test_more_images_of_the_same_patients_are_not_more_evidence() -> None:
    few, many = (
        compare(predictions(0.0, images=images), predictions(0.6, images=images), 400).patients.difference
        for images in (1, 8)
    )
    assert many.high - many.low > 0.6 * (few.high - few.low)


def test_chance_is_seldom_taken_for_a_difference() -> None:
    """Both models are equally good and independent: p is below 0.05 in about 1 of 20 comparisons."""
    small = []
    for seed in range(60):
        tables = [predictions(0.0, patients=40, images=1, seed=100 * seed + n) for n in (1, 2)]
        tables[1]["image_id"], tables[1]["patient_id"] = tables[0]["image_id"], tables[0]["patient_id"]
        found = compare(*tables, resamples=200)
        small.append([found.corrected.p < 0.05, found.patients.p < 0.05])
    assert np.mean(small, axis=0).max() <= 0.17


def test_repeats_are_folds_of_their_own() -> None:
    one = [predictions(0.0, seed=seed).assign(repeat=seed) for seed in range(3)]
    other = [predictions(0.8, seed=seed).assign(repeat=seed) for seed in range(3)]
    found = compare(pd.concat(one), pd.concat(other), 200)
    assert len(found.folds) == 15
    assert found.corrected == corrected_t(found.folds, 0.25)


def test_what_was_not_measured_alike_is_refused() -> None:
    table = predictions(0.0)
    for other in (table.iloc[1:], table.assign(fold=table["fold"][::-1].to_numpy()), table.assign(label=0)):
        with pytest.raises(DataError, match="was not measured on the images and folds"):
            compare(table, other)
    with pytest.raises(DataError, match="one class only"):
        compare(table.assign(label=table["fold"] % 2), table.assign(label=table["fold"] % 2))


def slow_delong(labels: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Difference and its variance by DeLong's covariance matrices of the placement values, pair by pair."""

    def parts(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wins = np.array(
            [[float(x > y) + 0.5 * float(x == y) for y in scores[labels == 0]] for x in scores[labels == 1]]
        )
        return wins.mean(axis=1), wins.mean(axis=0)

    (p1, n1), (p2, n2) = parts(one), parts(other)
    contrast = np.array([-1.0, 1.0])
    matrix = np.cov([p1, p2]) / len(p1) + np.cov([n1, n2]) / len(n1)
    return float(p2.mean() - p1.mean()), float(contrast @ matrix @ contrast)


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_paired_delong_equals_its_definition(digits: int) -> None:
    random = np.random.default_rng(digits)
    labels = (random.random(70) < 0.4).astype(int)
    one, other = ((labels + random.normal(size=70)).round(digits) for _ in range(2))
    value, variance = slow_delong(labels, one, other)
    found, p = paired_delong(labels, one, other)
    reach = 1.959963984540054 * math.sqrt(variance)
    assert (found.value, found.low, found.high) == pytest.approx((value, value - reach, value + reach), abs=1e-9)
    assert p == pytest.approx(math.erfc(abs(value) / math.sqrt(2 * variance)), abs=1e-9)
    assert paired_delong(labels, one, one) == (Interval(0.0, 0.0, 0.0), 1.0)
    with pytest.raises(DataError, match="two images of each class"):
        paired_delong([0, 0, 1], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1])


def test_compare_holds_the_delong_test_of_the_pooled_scores() -> None:
    one, other = predictions(0.0), predictions(0.8)
    expected = paired_delong(one["label"], one["score"], other["score"])
    found = compare(one, other.sample(frac=1, random_state=0), 50).delong
    assert (found.difference, found.p) == expected


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


@settings(deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: list[float]) -> None:
    found = holm(p)
    assert all(mine <= theirs <= min(1.0, len(p) * mine) + 1e-12 for mine, theirs in zip(p, found, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(found)[order]) >= 0).all()
