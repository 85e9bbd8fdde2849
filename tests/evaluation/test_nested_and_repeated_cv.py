"""Nested and repeated cross-validation's figures, against sums written out."""

import numpy as np
import pandas as pd
import pytest

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.nested_estimate import WIDENED, nested_estimate
from diagram_ray.evaluation.estimates.repeated_estimate import repeated_estimate
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import bootstrap


def assignment(repeat: int, signal: float = 1.0, folds: int = 3) -> pd.DataFrame:
    """30 patients with two images each, assigned to folds as the repeat says."""
    random = np.random.default_rng(repeat)
    patients = np.arange(30)
    fold = np.empty(30, dtype=int)
    for label in (0, 1):  # each fold has as many of both
        fold[patients % 2 == label] = random.permutation(15) % folds
    owner = np.repeat(patients, 2)
    scores = random.normal(size=60) + signal * (owner % 2)
    columns = {"trial": 4, "repeat": repeat, "fold": fold[owner], "label": owner % 2, "score": scores}
    names = {"image_id": [f"i{n:02d}" for n in range(60)], "patient_id": [f"p{n:02d}" for n in owner]}
    return pd.DataFrame(columns | names)


def fold_aucs(table: pd.DataFrame) -> list[float]:
    return [auc(part["label"], part["score"]) for _, part in table.groupby("fold")]


def test_repeats_are_averaged_and_the_first_is_told_apart() -> None:
    tables = [assignment(repeat) for repeat in range(4)]
    found = repeated_estimate(pd.concat(tables).sample(frac=1, random_state=0), 300)
    values = [fold_aucs(table) for table in tables]
    means = np.mean(values, axis=1)
    assert found.means == pytest.approx(tuple(means))
    assert found.auc.value == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.others == pytest.approx(means[1:].mean())
    assert found.luck == pytest.approx(means[0] - means[1:].mean())
    assert found.assignment_sd == pytest.approx(np.std(means[1:], ddof=1))
    assert found.auc.low < found.auc.value < found.auc.high


def test_patients_stay_patients_in_all_repeats() -> None:
    """The same predictions twice are no more patients: the interval is that of one."""
    once = assignment(0)
    found = repeated_estimate(pd.concat([once, once.assign(repeat=1)]), 2000)
    alone, _ = bootstrap(out_of_fold(once), 2000)
    assert (found.auc.low, found.auc.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert found.assignment_sd is None
    assert found.luck == 0.0


def test_one_repeat_is_refused() -> None:
    with pytest.raises(DataError, match="1 repeat; repeated cross-validation has 2 at least"):
        repeated_estimate(assignment(0))


def test_nested_is_the_mean_of_the_outer_folds_whoever_won_them() -> None:
    table = assignment(0).assign(trial=lambda frame: frame["fold"].map({0: 7, 1: 2, 2: 7})).drop(columns="repeat")
    found = nested_estimate(table, 500)
    assert found.winners == (7, 2, 7)
    assert found.auc.value == pytest.approx(np.mean(fold_aucs(table)))
    plain, _ = bootstrap(out_of_fold(table.assign(trial=0, repeat=0)), 500)
    assert found.auc.high - found.auc.value == pytest.approx(WIDENED * (plain.high - plain.value))
    assert found.auc.value - found.auc.low == pytest.approx(WIDENED * (plain.value - plain.low))


def test_an_interval_ends_at_1() -> None:
    assert nested_estimate(assignment(0, signal=6.0).drop(columns="repeat"), 200).auc.high == 1.0


def test_an_image_that_is_there_twice_is_refused() -> None:
    table = assignment(0).drop(columns="repeat")
    with pytest.raises(DataError, match="image i00 is predicted twice"):
        nested_estimate(pd.concat([table, table.iloc[:1]]), 100)
