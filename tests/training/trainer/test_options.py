"""Learning rates over the epochs, clipping, averaging, frozen layers, and training on whole images alone."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diagram_ray.config import ExperimentConfig, TrainingConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError, DataError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.algorithm1 import Optimizers
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.optimizers import rate_factor
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.weight_averaging import Average

Small = Callable[..., ExperimentConfig]


def trainer(config: ExperimentConfig, data: TrainingData, **more: Any) -> Trainer:
    return Trainer(config, data, np.arange(16), np.arange(16), **more)


def weights(model: DiaGRAM) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(before: dict[str, Tensor], model: DiaGRAM) -> set[str]:
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


# --- learning rates ---------------------------------------------------------------------------------------------------


def factors(**settings: Any) -> list[float]:
    config = TrainingConfig(**settings)
    return [rate_factor(config, epoch) for epoch in range(config.epochs + 2)]


def test_warm_up_rises_and_the_schedule_takes_the_epochs_that_are_left() -> None:
    assert factors(epochs=3) == [1.0] * 5
    assert factors(epochs=3, warmup_epochs=2) == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0, 1.0])
    cosine = factors(epochs=4, schedule="cosine")
    assert cosine == pytest.approx([(1 + math.cos(math.pi * epoch / 4)) / 2 for epoch in (0, 1, 2, 3, 4, 4)])
    assert factors(epochs=6, schedule="cosine", warmup_epochs=2) == pytest.approx([1 / 3, 2 / 3, *cosine])


def test_the_epoch_has_the_rate_that_the_schedule_says(small: Small, data: TrainingData) -> None:
    made = trainer(small(training__warmup_epochs=2, training__features_rate=0.1, training__epochs=4), data)
    rates = small().training.learning_rate
    for factor in (1 / 3, 2 / 3, 1.0):
        made.advance()
        for name, optimizer in made._optimizers.named().items():
            expected = [
                getattr(rates, name) * factor * part for part in ((1.0,) if name == "generator" else (0.1, 1.0))
            ]
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)


def test_settings_that_contradict_each_other_are_refused(small: Small) -> None:
    with pytest.raises(ConfigError, match=r"warmup_epochs: 3 is not allowed: must be below training\.epochs"):
        small(training__warmup_epochs=3)
    with pytest.raises(ConfigError, match=r"patience: 2 is not allowed: needs a training\.validation_part"):
        small(training__patience=2)


# --- gradients --------------------------------------------------------------------------------------------------------


def test_clipping_scales_the_gradient_of_a_step_as_a_whole() -> None:
    config = TrainingConfig(optimizer="sgd", clip_norm=0.5)
    model = DiaGRAM(ExperimentConfig().model.model_copy(update={"width": 4, "generator_width": 4}))
    optimizers = Optimizers(model, config)
    before = weights(model)
    torch.manual_seed(0)
    gradients = {name: torch.randn_like(value) for name, value in model.named_parameters()}
    of_step = [name for name in gradients if name.startswith(("features", "classifier"))]
    norm = math.sqrt(sum(float((gradients[name] ** 2).sum()) for name in of_step))
    for scale, factor in ((1.0, 0.5 / norm), (0.1 / norm, 0.1 / norm)):  # the second is short enough already
        for name, value in model.named_parameters():
            value.grad = scale * gradients[name]
        model.load_state_dict(before)
        optimizers.classifier.step()
        for name in of_step:
            expected = before[name] - 3e-4 * factor * gradients[name]
            torch.testing.assert_close(model.state_dict()[name], expected, rtol=1e-4, atol=1e-9)
    assert torch.equal(model.generator.start.weight.grad, 0.1 / norm * gradients["generator.start.weight"])


@pytest.mark.parametrize("freeze", range(5))
def test_frozen_layers_keep_weights_and_statistics(freeze: int, small: Small, data: TrainingData) -> None:
    made = trainer(small(training__freeze=freeze, model__norm="batch"), data)
    before = weights(made.model)
    made.advance()
    places = {1: (0, 1), 2: (3, 4), 3: (6, 7), 4: (9, 10)}
    kept = tuple(f"features.layers.{place}." for layer in range(1, freeze + 1) for place in places[layer])
    assert moved(before, made.model) == {name for name in before if not name.startswith(kept or ("-",))}
    state = made.state_dict()
    other = trainer(small(training__freeze=freeze, model__norm="batch"), data)
    other.load_state_dict(copy.deepcopy(state))
    assert other.advance()["loss_image"] == made.advance()["loss_image"]


def test_the_rate_of_f_is_lower_in_both_steps(small: Small, data: TrainingData) -> None:
    one, other = (trainer(small(training__features_rate=rate, training__optimizer="sgd"), data) for rate in (1.0, 1e-6))
    before = weights(one.model)
    one.advance()
    other.advance()
    for name in ("features.layers.0.weight", "features.layers.9.weight"):
        assert (one.model.state_dict()[name] - before[name]).abs().max() > 1e-5
        assert (other.model.state_dict()[name] - before[name]).abs().max() < 1e-7
    assert not moved(before, other.model) <= {name for name in before if name.startswith("features")}


# --- averaging --------------------------------------------------------------------------------------------------------


def test_the_average_is_the_sum_of_its_definition() -> None:
    config = ExperimentConfig().model.model_copy(update={"width": 4, "generator_width": 4, "norm": "batch"})
    model = DiaGRAM(config)
    average = Average(model, decay=0.3)
    expected = {name: value.double() for name, value in weights(model).items()}
    for update in range(6):
        with torch.no_grad():
            for value in model.parameters():
                value.add_(torch.randn_like(value))
        for buffer in model.buffers():
            buffer.add_(1)
        average.update(model, update)
        decay = min(0.3, (1 + update) / (10 + update))
        for name, _ in model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * model.state_dict()[name].double()
    for name, _ in model.named_parameters():
        torch.testing.assert_close(average.model.state_dict()[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(average.model.buffers(), model.buffers(), strict=True))


def test_the_averaged_model_is_scored_and_training_goes_on_as_without(
    small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    updates = []
    update = Average.update

    def noted(self: Average, model: DiaGRAM, count: int) -> None:
        updates.append(count)
        update(self, model, count)

    monkeypatch.setattr(Average, "update", noted)
    plain, averaged = trainer(small(), data), trainer(small(training__ema_decay=0.9), data)
    for made in (plain, averaged):
        made.advance()
        made.advance()
    assert updates == list(range(8))  # two epochs of 16 images, 4 in an image step
    assert not moved(weights(plain.model), averaged.model)
    assert moved(weights(plain.model), averaged.result)
    every = np.arange(24)
    assert averaged.score(every).tolist() != plain.score(every).tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {"training__ema_decay": 0.9, "training__clip_norm": 0.5, "training__warmup_epochs": 1},
        {"training__validation_part": 0.4, "training__patience": 1, "training__ema_decay": 0.5},
        {"training__multi_task": False, "training__freeze": 2, "training__features_rate": 0.3},
    ],
)
def test_a_cross_validation_with_all_options_goes_on_bit_by_bit(
    changes: dict[str, Any], small: Small, data: TrainingData, tmp_path: Any
) -> None:
    splits = make_splits(data, 3, seed=0)
    config = small(training__schedule="cosine", training__epochs=4, **changes)

    def rows(validation: CrossValidation, epochs: int) -> list[Any]:
        rounds = list(validation.advance(3, epochs))
        return [[{key: value for key, value in row.items() if key != "seconds"} for row in r] for r in rounds]

    whole = CrossValidation(config, data, splits)
    expected = rows(whole, 4)
    first = CrossValidation(config, data, splits)
    rows(first, 2)
    with CheckpointStore(tmp_path, first.identity) as store:
        store.save(3, first.state_dict())
    second = CrossValidation(config, data, splits)
    second.load_state_dict(CheckpointStore(tmp_path, second.identity).load()[1])
    assert rows(second, 4) == expected[2:]
    assert second.predictions().equals(whole.predictions())


# --- whole images alone -----------------------------------------------------------------------------------------------


def test_fine_tuning_takes_the_image_step_alone_and_needs_no_patches(small: Small, data: TrainingData) -> None:
    bare = replace(
        data, patches=data.patches[:0], patch_labels=data.patch_labels[:0], patch_patient_ids=data.patch_patient_ids[:0]
    )
    config = small(training__multi_task=False)
    made = Trainer(config, bare, np.arange(16), np.arange(0))
    before = weights(made.model)
    rows = [made.advance() for _ in range(6)]
    assert [name for name, value in rows[0].items() if name.startswith("loss_") and value is not None] == ["loss_image"]
    assert rows[-1]["loss_image"] < 0.7 * rows[0]["loss_image"]
    assert {name.split(".")[0] for name in moved(before, made.model)} == {"features", "classifier"}
    assert made.state_dict()["optimizers"].keys() == {"classifier"}
    with pytest.raises(DataError, match="has no patches"):
        Trainer(small(), bare, np.arange(16), np.arange(0))


def test_training_starts_with_the_weights_it_is_given(small: Small, data: TrainingData) -> None:
    source = trainer(small(training__seed=5), data)
    given = {k: v for k, v in source.model.state_dict().items() if k.startswith("features.")}
    made, plain = trainer(small(), data, initial=given), trainer(small(), data)
    assert not moved(given | {k: v for k, v in weights(plain.model).items() if k not in given}, made.model)
    made.advance()
    assert all(torch.equal(value, source.model.state_dict()[name]) for name, value in given.items())
