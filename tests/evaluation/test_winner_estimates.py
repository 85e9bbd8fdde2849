"""Intervals and corrections against slow references, and by simulation: what is promised of noise holds for noise."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from diagram_ray.errors import DataError
from diagram_ray.evaluation.delong import delong
from diagram_ray.evaluation.estimates.bbc import bbc
from diagram_ray.evaluation.estimates.winner import chance_sd, check_control, estimate
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import (
    Interval,
    bootstrap,
    draw_patients,
    logit_interval,
    mean_over_folds,
    weighted_auc,
)


def made(seed=0, trials=3, patients=30, folds=3, signal=1.0, digits=None):
    """Two images a patient, both of one class; scores agree within a patient."""
    random = np.random.default_rng(seed)
    sick = np.repeat((np.arange(patients) // folds) % 2, 2)
    scores = np.repeat(random.normal(size=(trials, patients)), 2, axis=1) + 0.5 * random.normal(
        size=(trials, 2 * patients)
    )
    scores += signal * sick
    fold, patient = np.repeat(np.arange(patients) % folds, 2), np.repeat(np.arange(patients), 2)
    return OutOfFold(tuple(range(trials)), scores if digits is None else scores.round(digits), sick, fold, patient)


def as_table(data):
    rows = [
        {
            "trial": trial,
            "repeat": 0,
            "fold": int(data.folds[i]),
            "image_id": f"i{i:04d}",
            "patient_id": f"p{data.patients[i]:04d}",
            "label": int(data.labels[i]),
            "score": data.scores[t, i],
        }
        for t, trial in enumerate(data.trials)
        for i in range(len(data.labels))
    ]
    return pd.DataFrame(rows)


def repeated(data, counts, fold=None):
    """Positions of a resample, patient by patient: the slow way."""
    chosen = [i for i in range(len(data.labels)) for _ in range(int(counts[data.patients[i]]))]
    return [i for i in chosen if fold is None or data.folds[i] == fold]


def slow_mean(data, trial, counts):
    values = []
    for fold in range(int(data.folds.max()) + 1):
        rows = repeated(data, counts, fold)
        if len(set(data.labels[rows])) == 2:
            values.append(auc(data.labels[rows], data.scores[trial, rows]))
    return np.mean(values) if values else math.nan


def test_weighted_auc_is_the_auc_of_repeated_images():
    data, random = made(digits=0), np.random.default_rng(1)
    weights = random.integers(0, 4, (len(data.labels), 50)).astype(np.float32)
    fast = weighted_auc(data.labels, data.scores[0], weights)
    for b in range(50):
        rows = np.repeat(np.arange(len(data.labels)), weights[:, b].astype(int))
        assert fast[b] == pytest.approx(auc(data.labels[rows], data.scores[0, rows]), abs=1e-9)
    nothing = np.where(data.labels[:, None] == 1, 0, 1).astype(np.float32)
    assert math.isnan(weighted_auc(data.labels, data.scores[0], nothing)[0])


def test_patients_are_drawn_whole_within_folds_and_reproducibly():
    data = made(patients=31)
    counts = draw_patients(data, 200, seed=5)
    assert counts.shape == (31, 200)
    for stratum in data.strata():
        assert (counts[stratum].sum(axis=0) == len(stratum)).all()
    np.testing.assert_array_equal(counts, draw_patients(data, 200, seed=5))
    assert (counts != draw_patients(data, 200, seed=6)).any()


def test_the_bootstrap_equals_a_loop_over_resamples():
    data = made(trials=1)
    counts = draw_patients(data, 300, seed=3)
    slow_folds = [slow_mean(data, 0, counts[:, b]) for b in range(300)]
    slow_pooled = [auc(data.labels[r], data.scores[0, r]) for r in (repeated(data, counts[:, b]) for b in range(300))]
    fold_mean, pooled = bootstrap(data, 300, seed=3)
    assert fold_mean.value == pytest.approx(slow_mean(data, 0, np.ones(30)))
    assert pooled.value == pytest.approx(auc(data.labels, data.scores[0]))
    assert (fold_mean.low, fold_mean.high) == pytest.approx(tuple(np.percentile(slow_folds, [2.5, 97.5])))
    assert (pooled.low, pooled.high) == pytest.approx(tuple(np.percentile(slow_pooled, [2.5, 97.5])))


def test_bbc_equals_a_loop_over_resamples():
    data = made(trials=4, signal=0.4)
    counts = draw_patients(data, 200, seed=9)
    inside = np.array([[slow_mean(data, t, counts[:, b]) for t in range(4)] for b in range(200)])
    outside = np.array([[slow_mean(data, t, (counts[:, b] == 0).astype(int)) for t in range(4)] for b in range(200)])
    keep = ~np.isnan(outside[:, 0])
    inside, outside = inside[keep], outside[keep]
    winners = [int(np.argmax(row)) for row in inside]
    measured = np.array([row[winner] for row, winner in zip(outside, winners, strict=True)])
    found = bbc(data, 200, seed=9)
    assert found.resamples == len(measured)
    assert found.auc.value == pytest.approx(measured.mean())
    whole, part = (np.mean([np.var(side[:, winner]) for winner in winners]) for side in (inside, outside))
    assert whole < 0.58 * part  # what is expected of a mean of patients, (1 / e) / (1 - 1 / e), is too much
    expected = logit_interval(measured.mean(), measured.std() * math.sqrt(whole / part))
    assert (found.auc.low, found.auc.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.winner == pytest.approx(max(slow_mean(data, t, np.ones(30)) for t in range(4)))


def test_bbc_takes_the_optimism_out_of_noise():
    found = [bbc(made(seed, trials=25, patients=60, signal=0.0), 300, seed) for seed in range(25)]
    assert np.mean([each.winner for each in found]) > 0.60  # the best of 25 useless trials looks like something
    assert np.mean([each.auc.value for each in found]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([each.auc.low <= 0.5 <= each.auc.high for each in found]) >= 0.9


def test_bbc_leaves_a_single_trial_alone():
    found, plain = [], []
    for seed in range(10):
        data = made(seed, trials=1, patients=60)
        found.append(bbc(data, 400, seed))
        plain.append(bootstrap(data, 400, seed)[0])
    assert np.mean([each.optimism for each in found]) == pytest.approx(0, abs=0.01)
    wide, expected = (np.mean([each.high - each.low for each in side]) for side in ([f.auc for f in found], plain))
    assert wide == pytest.approx(expected, rel=0.06)  # nothing was selected: as wide as redrawn patients make it


def test_bbc_of_trials_without_an_error_is_a_point():
    assert bbc(made(signal=50.0), 100).auc == Interval(1.0, 1.0, 1.0)


def test_logit_intervals_are_normal_intervals_that_stay_within_0_and_1():
    assert logit_interval(0.5, 1e-3).low == pytest.approx(0.5 - 1.95996e-3, abs=1e-8)
    near = logit_interval(0.97, 0.02)
    assert 0.5 < near.low < 0.97 - 1.96 * 0.02 < 0.97 < near.high < 1
    mirrored = logit_interval(0.03, 0.02)
    assert (1 - mirrored.high, 1 - mirrored.low) == pytest.approx((near.low, near.high))
    assert logit_interval(1.0, 0.0) == Interval(1.0, 1.0, 1.0)


def test_the_bootstrap_by_patient_covers_the_truth_where_delong_is_too_narrow():
    truth = norm.cdf(1 / math.sqrt(2 * 1.25))
    pooled, simple = [], []
    for seed in range(60):
        data = made(seed, trials=1, patients=60)
        pooled.append(bootstrap(data, 400, seed)[1])
        simple.append(delong(data.labels, data.scores[0]))
    assert np.mean([i.low <= truth <= i.high for i in pooled]) >= 0.88
    assert np.mean([i.high - i.low for i in pooled]) > 1.15 * np.mean([i.high - i.low for i in simple])


def test_delong_equals_its_definition():
    data = made(trials=1, digits=0)
    positive, negative = data.scores[0, data.labels == 1], data.scores[0, data.labels == 0]

    def psi(x, y):
        return 1.0 if x > y else 0.5 if x == y else 0.0

    v10 = [np.mean([psi(x, y) for y in negative]) for x in positive]
    v01 = [np.mean([psi(x, y) for x in positive]) for y in negative]
    theta = np.mean(v10)
    s10 = sum((v - theta) ** 2 for v in v10) / (len(positive) - 1)
    s01 = sum((v - theta) ** 2 for v in v01) / (len(negative) - 1)
    reach = 1.959963984540054 * math.sqrt(s10 / len(positive) + s01 / len(negative))
    found = delong(data.labels, data.scores[0])
    assert (found.value, found.low, found.high) == pytest.approx((theta, theta - reach, theta + reach))


def test_delong_stays_within_0_and_1():
    found = delong([0, 0, 1, 1, 0, 1], [0.1, 0.3, 0.2, 0.9, 0.05, 0.8])
    assert 0 <= found.low < found.value < found.high == 1
    perfect = delong([0, 1], [0.1, 0.2])
    assert perfect == Interval(1.0, 1.0, 1.0)
    assert perfect.degenerate


def test_pooled_and_mean_over_folds_differ_where_the_folds_models_are_on_different_scales():
    data = made(trials=1, signal=2.0)
    shifted = OutOfFold(data.trials, data.scores + 5.0 * data.folds, data.labels, data.folds, data.patients)
    before, after = bootstrap(data, 50), bootstrap(shifted, 50)
    assert after[0] == before[0]
    assert after[1].value < before[1].value - 0.1


def test_folds_too_small_to_say_anything_say_nothing():
    data = OutOfFold(
        (0, 1),
        np.array([[0.1, 0.9, 0.2, 0.8], [0.4, 0.3, 0.1, 0.2]]),
        np.array([0, 1, 0, 1]),
        np.array([0, 0, 1, 1]),
        np.arange(4),
    )
    found = bbc(data, 100)
    assert (found.auc, found.resamples, found.winner) == (Interval(1.0, 0.0, 1.0), 0, 1.0)


def test_chance_is_as_wide_as_shuffled_patients_are():
    data = made(trials=1, patients=60, signal=0.0)
    random, values = np.random.default_rng(0), []
    for _ in range(600):
        labels = data.labels.copy()
        for fold in range(3):
            patients = np.flatnonzero((np.arange(60) % 3) == fold)
            for patient, donor in zip(patients, random.permutation(patients), strict=True):
                labels[data.patients == patient] = data.labels[data.patients == donor]
        shuffled = OutOfFold(data.trials, data.scores, labels, data.folds, data.patients)
        values.append(mean_over_folds(shuffled, 0, np.ones((120, 1), dtype=np.float32))[0])
    assert chance_sd(data) == pytest.approx(np.std(values), rel=0.12)
    assert np.mean(values) == pytest.approx(0.5, abs=0.02)
    independent = math.sqrt((20 + 20 + 1) / (12 * 20 * 20) / 3)
    assert chance_sd(data) > 1.2 * independent  # two images of a patient are not two patients


def test_chance_is_that_of_the_control_where_patients_have_one_image_or_several():
    """Patients with equally many images exchange their labels, in the control (data/splits.py) and here."""
    random = np.random.default_rng(3)
    sizes = np.tile([1, 2, 2, 4], 30)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    scores = random.normal(size=len(sizes))[owner] + 0.3 * random.normal(size=len(owner))
    data = OutOfFold((0,), scores[None], owner // 4 % 2, owner // 4 % 3, owner)
    values = []
    for _ in range(1500):
        labels = data.labels.copy()
        for size in (1, 2, 4):
            patients = np.flatnonzero(sizes == size)
            for patient, donor in zip(patients, random.permutation(patients), strict=True):
                labels[owner == patient] = data.labels[owner == donor]
        values.append(np.mean([auc(labels[rows], scores[rows]) for rows in data.rows()]))
    assert chance_sd(data) == pytest.approx(np.std(values), rel=0.08)


def test_the_control_may_be_off_by_chance_and_no_more():
    control = {"auc_mean": 0.56, "shuffles": [{"seed": 0, "fold_auc": [0.56]}]}
    assert check_control(control, 0.03).passed
    assert not check_control(control, 0.02).passed
    assert not check_control(control | {"shuffles": control["shuffles"] * 4}, 0.03).passed
    assert not check_control(control | {"auc_mean": 0.4}, 0.03).passed


def test_estimate_reads_the_studys_table_in_any_order():
    data = made()
    table = as_table(data)
    found, again = (
        estimate(table, best=1, resamples=200),
        estimate(table.sample(frac=1, random_state=0), best=1, resamples=200),
    )
    assert found == again
    assert found.pooled.value == pytest.approx(auc(data.labels, data.scores[1]))
    assert found.fold_mean.value == pytest.approx(slow_mean(data, 1, np.ones(30)))


def test_repeats_count_as_folds_of_their_own_and_patients_are_drawn_once():
    data = made(trials=1)
    table = as_table(data)
    again = table.assign(repeat=1, fold=(table["fold"] + 1) % 3, score=-table["score"])
    both = out_of_fold(pd.concat([table, again]))
    assert sorted(set(both.folds)) == list(range(6))
    assert both.n_patients == 30
    assert [len(stratum) for stratum in both.strata()] == [10, 10, 10]
    assert mean_over_folds(both, 0, np.ones((120, 1), dtype=np.float32))[0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.drop(index=t.index[-1]), "trial 2 was not measured on the images"),
        (
            lambda t: t.assign(fold=t["fold"].where(t["trial"] != 1, 0)),
            "trial 1 was not measured on the images and folds of trial 0",
        ),
        (lambda t: t.assign(image_id=t["image_id"].replace("i0001", "i0000")), "image i0000 is predicted twice"),
        (lambda t: t[t["trial"] > 5], "empty"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused(spoil, message):
    with pytest.raises(DataError, match=message):
        estimate(spoil(as_table(made())), best=0)


def test_the_winner_must_have_predictions():
    with pytest.raises(DataError, match=r"none of trial 7.*found \[0, 1, 2\]"):
        estimate(as_table(made()), best=7)
