"""The reference network beside the winner: measured as a baseline alone would be, and without a say in the verdict."""

import numpy as np
import pandas as pd
import pytest

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.margin import Baseline
from diagram_ray.evaluation.estimates.winner import Estimates, estimate
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.verdict import against_reference

PATIENTS, FOLDS = 40, 4
OWNERS = np.repeat(np.arange(PATIENTS), 2)
SICK = (OWNERS // FOLDS) % 2


def scores(random: np.random.Generator, gain: float) -> pd.DataFrame:
    """Two images a patient; `gain` is how far the classes are apart."""
    ids = {"image_id": [f"i{n:03d}" for n in range(2 * PATIENTS)], "patient_id": [f"p{n:03d}" for n in OWNERS]}
    score = gain * SICK + random.normal(size=2 * PATIENTS)
    return pd.DataFrame({"fold": OWNERS % FOLDS, **ids, "label": SICK, "score": score})


@pytest.fixture
def trials() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.concat([scores(random, gain).assign(trial=n, repeat=0) for n, gain in ((3, 0.9), (5, 1.0))])


@pytest.fixture
def groups() -> pd.DataFrame:
    random = np.random.default_rng(1)
    return pd.concat([scores(random, gain).assign(group=name) for name, gain in (("a", 0.3), ("b", 0.5))])


@pytest.fixture
def network() -> pd.DataFrame:
    return scores(np.random.default_rng(2), 0.7).assign(group="frozen").sample(frac=1, random_state=0)


def estimated(*tables: pd.DataFrame | None) -> Estimates:
    predictions, baselines, reference = tables
    assert predictions is not None
    return estimate(predictions, 5, 200, 0, baselines, reference)


def test_it_is_measured_as_an_only_baseline_is(trials: pd.DataFrame, network: pd.DataFrame) -> None:
    found = estimated(trials, None, network)
    margin = estimated(trials, network, None).margin
    assert margin is not None
    assert found.reference == margin.baselines[0]
    assert found.reference.difference.low < found.reference.difference.value < found.reference.difference.high
    assert found.margin is None


def test_it_changes_no_other_estimate_and_baselines_do_not_change_it(
    trials: pd.DataFrame, groups: pd.DataFrame
) -> None:
    best = scores(np.random.default_rng(3), 3.0).assign(group="frozen")
    with_it, without = estimated(trials, groups, best), estimated(trials, groups, None)
    assert without.reference is None
    assert with_it.reference == estimated(trials, None, best).reference
    assert with_it.reference is not None
    assert without.margin is not None
    assert with_it.reference.auc.value > without.margin.baselines[0].auc.value + 0.2
    assert with_it.margin == without.margin
    assert with_it.corrected == without.corrected
    assert with_it.chance_sd == without.chance_sd


@pytest.mark.parametrize(("column", "value"), [("fold", 9), ("label", 2), ("image_id", "i999"), ("patient_id", "p999")])
def test_one_of_other_images_labels_or_folds_is_refused(
    trials: pd.DataFrame, groups: pd.DataFrame, network: pd.DataFrame, column: str, value: object
) -> None:
    network.loc[network["image_id"] == "i007", column] = value
    with pytest.raises(DataError, match=r"reference\.parquet: was not measured on the images, labels and folds"):
        estimated(trials, groups, network)


def test_there_is_one(trials: pd.DataFrame, groups: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"reference\.parquet: has the scores of 2 networks; expected those of one"):
        estimated(trials, None, groups)
    with pytest.raises(DataError, match=r"reference\.parquet: has the scores of 0 networks"):
        estimated(trials, None, groups[:0])


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        (
            Interval(0.05, 0.01, 0.09),
            "The winner's AUC of 0.79 is 0.05 (95% interval 0.01 to 0.09) above frozen features, the 0.74 that a "
            "logistic regression reaches on them.",
        ),
        (
            Interval(-0.05, -0.09, -0.01),
            "The winner is below frozen features: its AUC of 0.79 is 0.05 (95% interval 0.01 to 0.09) less than the "
            "0.74 that a logistic regression reaches on them.",
        ),
        (
            Interval(0.01, -0.02, 0.04),
            "The winner is not shown to be above frozen features: its AUC of 0.79 against the 0.74 that a logistic "
            "regression reaches on them is a difference of +0.01 (95% interval −0.02 to +0.04).",
        ),
    ],
)
def test_its_sentence(difference: Interval, sentence: str) -> None:
    reference = Baseline("frozen features", Interval(0.74, 0.7, 0.78), difference)
    assert against_reference(Interval(0.79, 0.75, 0.82), reference) == sentence
