"""The setting that decides the score is found; too few trials give no answer instead of a wrong one."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from diagram_ray.search.importance import importances
from diagram_ray.search.ladder import Rung
from diagram_ray.search.space import parse_space

RUNGS = (Rung(2, 1), Rung(2, 3))
SPACE = parse_space(
    {
        "training.learning_rate.classifier": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "training.k": {"type": "int", "low": 1, "high": 4},
        "model.norm": {"type": "categorical", "choices": ["group", "batch"]},
        "model.gan": {"type": "categorical", "choices": [True, False]},
    },
    "test",
)


def tables(count=40, reached=40, score=lambda rate, norm: -abs(np.log10(rate) + 2)):
    """Trials and curves; the first `reached` trials come to the second rung."""
    random = np.random.default_rng(0)
    rate = 10 ** random.uniform(-4, -1, count)
    norm = random.choice(["group", "batch"], count)
    trials = pd.DataFrame(
        {
            "number": range(count),
            "params.training.learning_rate.classifier": rate,
            "params.training.k": random.integers(1, 5, count),
            "params.model.norm": norm,
            "params.model.gan": random.choice([True, False], count),
        }
    )
    rows = [
        {"trial": n, "fold": fold, "epoch": epoch, "auc": 0.7 + 0.1 * score(rate[n], norm[n])}
        for n in range(count)
        for fold in range(2)
        for epoch in range(1, 4 if n < reached else 2)
    ]
    return trials, pd.DataFrame(rows)


def test_what_decides_the_score_comes_first():
    found = importances(*tables(), SPACE, RUNGS)
    assert max(found.parts, key=found.parts.get) == "training.learning_rate.classifier"
    assert found.parts["training.learning_rate.classifier"] > 0.6
    assert sum(found.parts.values()) == pytest.approx(1)
    assert "40 trials" in found.note
    assert "2 folds x 3 epochs" in found.note


def test_a_choice_can_be_what_matters():
    found = importances(
        *tables(score=lambda rate, norm: float(norm == "group") + 1e-3 * np.sin(1e5 * rate)), SPACE, RUNGS
    )
    assert max(found.parts, key=found.parts.get) == "model.norm"


def test_trials_are_compared_at_a_rung_that_most_of_them_reached():
    assert (
        "40 trials compared by their AUC at 2 folds x 1 epochs" in importances(*tables(reached=12), SPACE, RUNGS).note
    )
    assert (
        "25 trials compared by their AUC at 2 folds x 3 epochs" in importances(*tables(reached=25), SPACE, RUNGS).note
    )


def test_too_few_trials_give_no_answer():
    found = importances(*tables(count=9, reached=9), SPACE, RUNGS)
    assert found.parts == {}
    assert "too few trials" in found.note


def test_missing_values_and_types_changed_by_the_table_do_no_harm():
    trials, curves = tables()
    trials["params.training.k"] = trials["params.training.k"].astype(float)
    trials.loc[0, "params.training.k"] = np.nan
    trials["params.model.gan"] = trials["params.model.gan"].astype(str)
    assert importances(trials, curves, SPACE, RUNGS).parts
    assert importances(trials, curves.assign(auc=curves["auc"].where(curves["trial"] > 0)), SPACE, RUNGS).parts


def test_equal_scores_say_nothing():
    found = importances(*tables(score=lambda rate, norm: 0.0), SPACE, RUNGS)
    assert sum(found.parts.values()) in (0, pytest.approx(1))


def test_neither_torch_nor_ray_is_loaded():
    code = "import sys, diagram_ray.search.importance; import optuna; assert not {'torch', 'ray'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
