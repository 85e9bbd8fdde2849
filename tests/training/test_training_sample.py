"""Training AUC is measured on images that the model is trained on, and measuring it changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.training.augment import to_tensor
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.training_sample import LARGEST, TrainingSample

Small = Callable[..., ExperimentConfig]
EVERY = np.arange(24)


def large(data: TrainingData, positive: int, negative: int) -> TrainingData:
    """Only the labels are looked at."""
    labels = np.random.default_rng(1).permutation(np.repeat([1, 0], [positive, negative]))
    return replace(data, labels=labels.astype(np.int64))


@pytest.mark.parametrize(
    ("positive", "negative", "kinds"),
    [
        (300, 300, (30, 30)),
        (500, 2000, (64, 64)),
        (10, 590, (30, 10)),
        (1, 2000, (64, 1)),
        (90, 90, (24, 24)),
        (2, 2, (2, 2)),
    ],
)
def test_a_tenth_of_the_training_images_48_to_128_half_of_them_positive(
    data: TrainingData, positive: int, negative: int, kinds: tuple[int, int]
) -> None:
    given = large(data, positive, negative)
    images = np.flatnonzero(np.random.default_rng(2).random(positive + negative) < 2)[::-1]
    sample = TrainingSample(given, images, seed=3, fold=1)
    assert tuple(np.bincount(given.labels[sample.images])) == kinds
    assert sample.positive.tolist() == (given.labels[sample.images] == 1).tolist()
    assert len(set(sample.images.tolist())) == len(sample.images) <= LARGEST
    assert set(sample.images.tolist()) <= set(images.tolist())


def test_it_depends_on_seed_and_fold_alone(data: TrainingData) -> None:
    given = large(data, 300, 300)
    images = np.arange(500)
    drawn = {(s, f): TrainingSample(given, images, s, f).images.tolist() for s in (0, 1) for f in (0, 1)}
    assert drawn[0, 0] == TrainingSample(given, images, 0, 0).images.tolist()
    assert len({tuple(sorted(chosen)) for chosen in drawn.values()}) == 4


def test_what_is_set_aside_is_not_in_it(small: Small, data: TrainingData) -> None:
    made = Trainer(small(training__validation_part=0.4), data, EVERY, EVERY)
    assert not set(data.patient_ids[made._training_sample.images]) & set(data.patient_ids[made._validation])


@pytest.mark.parametrize("changes", [{"model__dropout": 0.5}, {"training__ema_decay": 0.9}, {"model__norm": "batch"}])
def test_the_auc_is_that_of_the_model_as_it_is_now(small: Small, data: TrainingData, changes: dict[str, Any]) -> None:
    config = small(training__validation_part=0.3, training__patience=1, training__augment={"shift": 0.3}, **changes)
    made = Trainer(config, data, EVERY, EVERY)
    for _ in range(2):
        found = made.advance()["training_auc"]
        chosen = made._training_sample.images
        with torch.inference_mode():
            logits = made.current.eval()(to_tensor(data.images[chosen], torch.device("cpu")))
        scores, positive = (logits[:, 1] - logits[:, 0]).numpy(), data.labels[chosen] == 1
        above = scores[positive][:, None] > scores[~positive][None, :]
        assert found == pytest.approx(above.mean())


@pytest.mark.parametrize(
    "changes",
    [{"model__dropout": 0.3, "training__ema_decay": 0.5}, {"model__norm": "batch"}, {"training__validation_part": 0.3}],
)
def test_measuring_it_changes_no_other_number(
    small: Small, data: TrainingData, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained() -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        made = Trainer(small(**changes), data, EVERY, EVERY)
        rows = [made.advance() for _ in range(3)]
        left_out = ("seconds", "training_auc")
        return [{k: v for k, v in row.items() if k not in left_out} for row in rows], made.model.state_dict()

    rows, weights = trained()
    monkeypatch.setattr(TrainingSample, "auc", lambda *_: None)
    others, unmeasured = trained()
    assert rows == others
    assert all(torch.equal(value, unmeasured[name]) for name, value in weights.items())


def test_of_one_kind_of_images_there_is_none(small: Small, data: TrainingData) -> None:
    one = replace(data, labels=np.ones(24, dtype=np.int64))
    assert Trainer(small(training__balance_classes=False), one, EVERY, EVERY).advance()["training_auc"] is None


def test_scores_that_are_no_numbers_have_none(small: Small, data: TrainingData) -> None:
    """The cross-validation says so when it scores the test images."""
    made = Trainer(small(), data, EVERY, EVERY)
    with torch.no_grad():
        made.model.classifier.output.bias.fill_(float("nan"))
    assert made._training_sample.auc(made.model, SINGLE_PROCESS) is None
