"""Thresholds come from other folds; figures equal slow loops over repeated images; curves are read as the figure's."""

import numpy as np
import pytest

from diagram_ray.evaluation.metrics import accuracy, mean_roc, roc
from diagram_ray.evaluation.operating_points import operating
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import draw_patients


def made(seed: int = 0, patients: int = 45, digits: int | None = 1) -> OutOfFold:
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    labels = owner // 3 % 2
    scores = 0.5 + 0.2 * labels + 0.3 * random.normal(size=len(owner)) + 0.2 * (owner % 3)
    return OutOfFold((0,), scores.round(digits)[None], labels, owner % 3, owner)


def youden(labels: np.ndarray, scores: np.ndarray) -> float:
    """The best threshold by trying all, the highest of equals."""
    tried = [np.inf, *sorted(set(scores), reverse=True)]
    index = [np.mean(scores[labels == 1] >= t) - np.mean(scores[labels == 0] >= t) for t in tried]
    return tried[int(np.argmax(np.round(index, 12)))]


def by_hand(data: OutOfFold, counts: np.ndarray) -> tuple[float, float, float]:
    rows = np.repeat(np.arange(len(data.labels)), counts[data.patients].astype(int))
    labels, scores, folds = data.labels[rows], data.scores[0, rows], data.folds[rows]
    half, own, curves = [], [], []
    for fold in range(3):
        mine = folds == fold
        half.append(accuracy(labels[mine], scores[mine]))
        own.append(accuracy(labels[mine], scores[mine], youden(labels[~mine], scores[~mine])))
        curves.append(roc(labels[mine], scores[mine]))
    return float(np.mean(half)), float(np.mean(own)), float(mean_roc(curves, 11).true[2])


def test_all_figures_and_intervals_equal_a_loop_over_resamples() -> None:
    data = made()
    counts = draw_patients(data, 150, seed=4)
    slow = np.array([by_hand(data, counts[:, b]) for b in range(150)])
    found = operating(data, 150, seed=4)
    for interval, column, once in zip(
        (found.at_half, found.at_youden, found.sensitivity[0.8]), slow.T, by_hand(data, np.ones(45)), strict=True
    ):
        assert interval.value == pytest.approx(once)
        assert (interval.low, interval.high) == pytest.approx(tuple(np.percentile(column, [2.5, 97.5])))


def test_a_folds_own_scores_do_not_move_its_threshold() -> None:
    data = made()
    shifted = np.where(data.folds == 1, 1.0 - data.scores, data.scores)
    changed = OutOfFold(data.trials, shifted, data.labels, data.folds, data.patients)
    before, after = operating(data, 20), operating(changed, 20)
    assert after.thresholds[1] == before.thresholds[1]
    assert (after.thresholds[0], after.thresholds[2]) != (before.thresholds[0], before.thresholds[2])


def test_folds_of_another_repeat_with_the_same_patients_do_not_count() -> None:
    data = made()
    both = OutOfFold(
        (0,),
        np.concatenate([data.scores, data.scores + 3.0], axis=1),
        np.tile(data.labels, 2),
        np.concatenate([data.folds, data.folds + 3]),
        np.tile(data.patients, 2),
    )
    labels, scores = both.labels, both.scores[0]
    others = ~np.isin(both.patients, data.patients[data.folds == 0])
    assert operating(both, 20).thresholds[0] == youden(labels[others], scores[others])


def test_useless_scores_have_no_threshold_and_no_sensitivity() -> None:
    data = made()
    constant = OutOfFold((0,), np.full_like(data.scores, 0.3), data.labels, data.folds, data.patients)
    found = operating(constant, 20)
    assert found.thresholds == (np.inf,) * 3
    assert found.at_youden.value == pytest.approx(
        np.mean([np.mean(data.labels[data.folds == f] == 0) for f in range(3)])
    )
    assert found.sensitivity[0.9].value == pytest.approx(0.1)
    positive = OutOfFold((0,), data.scores, np.ones_like(data.labels), data.folds, data.patients)
    assert np.isnan(operating(positive, 20).sensitivity[0.8].value)
