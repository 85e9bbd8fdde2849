"""Figures on held-out images equal other libraries' and slow loops; thresholds come from the training side alone."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from sklearn.metrics import average_precision_score, roc_auc_score

from diagram_ray.errors import DataError
from diagram_ray.evaluation.held_out import ModelEvaluation, TrainingSide, differences, evaluate_scores, sides_of
from diagram_ray.evaluation.resampling import Interval, logit_interval, rate_interval, weighted_average_precision
from diagram_ray.evaluation.subgroups import LEAST, UNKNOWN, subgroups, usual_columns


def hospital(seed: int = 0, patients: int = 60, digits: int = 2) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of two views of each breast, and a manifest; ties are frequent."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        for side in "LR":
            label = int(random.random() < 0.3)
            for view in ("CC", "MLO"):
                score = np.clip(0.4 + 0.2 * label + 0.2 * random.normal(), 0.01, 0.99).round(digits)
                rows.append((f"i{len(rows):04d}", f"p{patient:03d}", label, score, side, view, float(patient % 3)))
    table = pd.DataFrame(rows, columns=["image_id", "patient_id", "label", "score", "laterality", "view", "density"])
    return table[["image_id", "patient_id", "label", "score"]], table[["image_id", "laterality", "view", "density"]]


def evaluated(training: TrainingSide | None = None, columns: tuple[str, ...] = (), **more: int) -> ModelEvaluation:
    table, manifest = hospital(**more)
    return evaluate_scores("m", table, training or TrainingSide(), manifest, columns, resamples=100)


def test_figures_equal_those_of_scikit_learn_and_plain_counting() -> None:
    table, manifest = hospital()
    image, breast, patient = evaluated().units
    assert [unit.unit for unit in (image, breast, patient)] == ["image", "breast", "patient"]
    truth, scores = table["label"].to_numpy(), table["score"].to_numpy()
    called = scores >= 0.5
    expected = {
        "auc": roc_auc_score(truth, scores),
        "average_precision": average_precision_score(truth, scores),
        "accuracy": np.mean(called == truth),
        "sensitivity": np.mean(called[truth == 1]),
        "specificity": np.mean(~called[truth == 0]),
        "brier": np.mean((scores - truth) ** 2),
    }
    for name, value in expected.items():
        assert image.figures[name].value == pytest.approx(value), name
        assert image.figures[name].low < image.figures[name].value < image.figures[name].high, name
    joined = table.merge(manifest, on="image_id")
    breasts = joined.groupby(["patient_id", "laterality"]).agg(label=("label", "max"), score=("score", "mean"))
    assert breast.figures["auc"].value == pytest.approx(roc_auc_score(breasts["label"], breasts["score"]))
    people = breasts.groupby("patient_id").max()
    assert (patient.count, patient.positive) == (60, int(people["label"].sum()))
    assert patient.figures["auc"].value == pytest.approx(roc_auc_score(people["label"], people["score"]))
    assert "brier" not in patient.figures


def test_a_rate_that_is_whole_is_not_taken_for_certain() -> None:
    assert rate_interval(1.0, np.ones(50), 12) == Interval(1.0, pytest.approx(binom_low(12)), 1.0)
    assert rate_interval(0.0, np.zeros(50), 12) == Interval(0.0, 0.0, pytest.approx(1 - binom_low(12)))
    assert rate_interval(0.5, np.full(50, np.nan), 12) == Interval(0.5, 0.0, 1.0)
    assert rate_interval(0.5, np.array([0.4, 0.6]), 1) == Interval(0.5, 0.0, 1.0)


def binom_low(count: int) -> float:
    """The exact 95 % bound of Clopper and Pearson where all of `count` succeeded."""
    return float(beta.ppf(0.025, count, 1))


def test_intervals_widen_as_the_rarer_class_has_fewer_patients() -> None:
    draws = np.random.default_rng(0).normal(0.8, 0.05, 500)
    reach = {patients: rate_interval(0.8, draws, patients) for patients in (3, 12, 1000)}
    assert reach[3].low < reach[12].low < reach[1000].low < 0.8 < reach[1000].high < reach[12].high < reach[3].high < 1
    plain = logit_interval(0.8, float(draws.std()))
    assert (reach[1000].low, reach[1000].high) == pytest.approx((plain.low, plain.high), abs=1e-3)


def test_average_precision_in_resamples_equals_a_loop_over_repeated_images() -> None:
    table, _ = hospital(3, 12, 1)
    labels, scores = table["label"].to_numpy(), table["score"].to_numpy()
    weights = np.random.default_rng(0).integers(0, 3, (len(labels), 5)).astype(np.float32)
    for column, value in enumerate(weighted_average_precision(labels, scores, weights)):
        rows = np.repeat(np.arange(len(labels)), weights[:, column].astype(int))
        assert value == pytest.approx(average_precision_score(labels[rows], scores[rows]))


def test_the_threshold_is_the_training_sides_and_the_dataset_has_no_part_in_it() -> None:
    learned, manifest = hospital(9)
    training = TrainingSide(learned.assign(trial=3, repeat=0, fold=0), sides_of(manifest))
    one, other = evaluated(training), evaluated(training, seed=5)
    best = max(
        np.unique(learned["score"])[::-1],
        key=lambda t: np.mean(learned.score[learned.label == 1] >= t) - np.mean(learned.score[learned.label == 0] >= t),
    )
    assert one.units[0].threshold == pytest.approx(best)
    assert [unit.threshold for unit in one.units] == [unit.threshold for unit in other.units]
    assert len({unit.threshold for unit in one.units}) > 1, "each unit has its own"
    assert evaluated().units[0].threshold == 0.5
    assert one.line is not None
    assert one.recalibrated["brier"].value != one.units[0].figures["brier"].value
    assert (evaluated().line, evaluated().recalibrated) == (None, {})


def test_without_the_sides_of_all_images_there_are_no_breasts() -> None:
    table, manifest = hospital()
    manifest.loc[0, "laterality"] = None
    units = evaluate_scores("m", table, TrainingSide(), manifest, resamples=20).units
    assert [unit.unit for unit in units] == ["image", "patient"]


def test_subgroups_are_all_images_once_and_small_ones_have_no_figure() -> None:
    table, manifest = hospital()
    manifest.loc[:3, "density"] = np.nan
    groups = evaluated_groups(table, manifest, "density")
    assert [group.value for group in groups] == ["0", "1", "2", UNKNOWN]
    assert sum(group.images for group in groups) == len(table)
    assert sum(group.positive for group in groups) == table["label"].sum()
    assert groups[-1].auc is None
    inside = table[table["image_id"].isin(manifest[manifest["density"] == 1.0]["image_id"])]
    assert groups[1].auc is not None
    assert groups[1].auc.value == pytest.approx(roc_auc_score(inside["label"], inside["score"]))
    assert min(inside["label"].sum(), (1 - inside["label"]).sum()) >= LEAST
    assert usual_columns(table, manifest) == ["density", "view", "laterality"]


def evaluated_groups(table: pd.DataFrame, manifest: pd.DataFrame, column: str) -> list:
    return subgroups(table.assign(trial=0, repeat=0, fold=0), manifest, column, resamples=50)


def test_columns_that_make_no_subgroups_are_refused() -> None:
    table, manifest = hospital()
    with pytest.raises(DataError, match=r"--by colour: the manifest has no such column; allowed: image_id, laterality"):
        evaluated_groups(table, manifest, "colour")
    with pytest.raises(DataError, match="--by image_id: has 240 values; allowed are columns of at most 24"):
        evaluated_groups(table, manifest, "image_id")


def test_models_are_compared_on_the_same_images() -> None:
    table, _ = hospital()
    worse = table.assign(score=np.random.default_rng(1).random(len(table)))
    (pair,) = differences(["good", "bad"], [table, worse], resamples=200)
    expected = roc_auc_score(table["label"], worse["score"]) - roc_auc_score(table["label"], table["score"])
    for tested in (pair.patients, pair.delong):
        assert tested.difference.value == pytest.approx(expected)
        assert tested.difference.high < 0
        assert tested.p < 0.02
    assert differences(["good"], [table]) == []
