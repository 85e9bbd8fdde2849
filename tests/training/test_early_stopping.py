"""The validation part and the epoch it chooses."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.training import trainer as loop
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.early_stopping import ValidationScore, set_aside, validation_score
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]
EVERY = np.arange(24)


def trainer(config: ExperimentConfig, data: TrainingData, **more: Any) -> Trainer:
    return Trainer(config, data, np.arange(16), np.arange(16), **more)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1000), fold=st.integers(0, 4), part=st.floats(0.05, 0.5), keep=st.integers(10, 24))
def test_whole_patients_of_every_class_are_set_aside(
    data: TrainingData, seed: int, fold: int, part: float, keep: int
) -> None:
    images = np.random.default_rng(seed).permutation(24)[:keep]
    patches = np.random.default_rng(seed + 1).permutation(24)[:keep]
    owners = {label: set(data.patient_ids[images[data.labels[images] == label]]) for label in (0, 1)}
    assume(min(map(len, owners.values())) > 1)
    parts = set_aside(data, images, patches, part, seed, fold)
    trained, validated = data.patient_ids[parts.images], data.patient_ids[parts.validation]
    assert sorted([*parts.images, *parts.validation]) == sorted(images)
    assert not set(validated) & (set(trained) | set(data.patch_patient_ids[parts.patches]))
    assert set(data.labels[parts.validation]) == set(data.labels[parts.images]) == {0, 1}
    assert set(patches) - set(parts.patches) == {p for p in patches if data.patch_patient_ids[p] in set(validated)}
    for patients in owners.values():
        assert len(set(validated) & patients) == max(1, round(part * len(patients)))
    again = set_aside(data, images, patches, part, seed, fold)
    assert again.validation.tolist() == parts.validation.tolist()


def test_seed_and_fold_decide_who_is_set_aside(data: TrainingData) -> None:
    chosen = {
        tuple(set_aside(data, EVERY, EVERY, 0.3, seed, fold).validation) for seed in range(4) for fold in range(3)
    }
    assert len(chosen) > 6
    assert len(set_aside(data, EVERY, EVERY, 0.0, 0, 0).validation) == 0


def test_too_few_patients_are_said_so(small: Small, data: TrainingData) -> None:
    with pytest.raises(DataError, match="fold 2: what is left to train on has no image of class 'benign'"):
        Trainer(small(training__validation_part=0.2), data, np.arange(4), np.arange(4), fold=2)


def test_auc_decides_and_of_equal_ones_the_loss() -> None:
    labels = np.array([0, 1])
    sure, unsure = np.array([[0.9, 0.1], [0.1, 0.9]]), np.array([[0.6, 0.4], [0.5, 0.5]])
    wrong = np.array([[0.1, 0.9], [0.9, 0.1]])
    assert validation_score(labels, sure) > validation_score(labels, unsure) > validation_score(labels, wrong)
    assert validation_score(labels, unsure) == ValidationScore(1.0, pytest.approx(np.log([0.6, 0.5]).mean()))
    assert np.isfinite(validation_score(labels, np.array([[0.0, 1.0], [1.0, 0.0]])).negative_loss)


@pytest.mark.parametrize("ema", [0.0, 0.7])
def test_the_best_epoch_is_kept_and_training_stops(
    small: Small, data: TrainingData, ema: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([0.5, 0.8, 0.7, 0.8, 1.0])
    monkeypatch.setattr(loop, "validation_score", lambda *_: ValidationScore(next(told), -1.0))
    changes = {"training__epochs": 9, "training__ema_decay": ema}
    made = trainer(small(training__validation_part=0.3, training__patience=2, **changes), data)
    kept, rows = [], []
    while not made.stopped:
        rows.append(made.advance())
        kept.append({k: v.clone() for k, v in made.current.state_dict().items()})
    assert [row["validation_auc"] for row in rows] == [0.5, 0.8, 0.7, 0.8]
    assert all(torch.equal(value, kept[1][name]) for name, value in made.result.state_dict().items())
    assert any(not torch.equal(value, kept[3][name]) for name, value in made.result.state_dict().items())
    scores = made.score(EVERY)
    idle = made.advance()
    assert idle["epoch"] == 5
    assert {value for name, value in idle.items() if "loss" in name or "validation" in name} == {None}
    assert idle["training_auc"] is None
    assert all(row["training_auc"] is not None for row in rows)
    assert made.score(EVERY).tolist() == scores.tolist()


def test_without_patience_all_epochs_are_trained_and_the_best_is_kept(small: Small, data: TrainingData) -> None:
    made = trainer(small(training__validation_part=0.3, training__learning_rate__classifier=0.05), data)
    rows = [made.advance() for _ in range(5)]
    assert all(row["loss_image"] is not None and 0 <= row["validation_auc"] <= 1 for row in rows)
    assert made._best.epoch == 1 + max(range(5), key=lambda i: (rows[i]["validation_auc"], -rows[i]["validation_loss"]))


def test_the_test_fold_chooses_nothing(small: Small, data: TrainingData) -> None:
    """Other images, other labels in the test fold: the same weights are kept."""
    splits = make_splits(data, 3, seed=0)
    tested = splits.fold(data, 0).test_images
    images, labels = data.images.copy(), data.labels.copy()
    images[tested] = 65535 - images[tested]
    labels[tested] = 1 - labels[tested]
    results = []
    for given_data in (data, replace(data, images=images, labels=labels)):
        validation = CrossValidation(small(training__validation_part=0.3), given_data, splits)
        list(validation.advance(1, 3))
        results.append(validation._runs[0].trainer.result.state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


def test_a_fold_that_stopped_early_keeps_pace_with_the_others(small: Small, data: TrainingData) -> None:
    config = small(training__validation_part=0.3, training__patience=1, training__epochs=6)
    validation = CrossValidation(config, data, make_splits(data, 3, seed=0))
    rounds = list(validation.advance(3, 6))
    assert [[row["epoch"] for row in rows] for rows in rounds] == [[epoch] * 3 for epoch in range(1, 7)]
    assert any(row["loss_image"] is None for row in rounds[-1])
    assert validation.measure(3).epochs == 6
