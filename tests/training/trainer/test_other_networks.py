"""Other networks than the paper's in the same training loop: what moves, what is kept, what is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig, MultiInstanceConfig, override
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError, DataError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.checkpoints.model_folder import read_card, read_models
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.losses import instance_loss
from diagram_ray.training.model_size import sizes
from diagram_ray.training.pretrained.loading import start_pretrained
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.transfer import read_initial, starting_config

Small = Callable[..., ExperimentConfig]
LITE = {"model__features": "efficientnet-lite0", "model__pretrained": True}
VARIANTS: dict[str, dict[str, Any]] = {
    "two tasks on pretrained features": {**LITE, "model__classifier": "linear"},
    "the whole network, images only": {**LITE, "model__classifier": "backbone", "training__multi_task": False},
    "residual, from scratch": {"model__features": "residual", "model__classifier": "backbone"},
    "multi-instance": {"model__classifier": "multi-instance", "training__multi_task": False},
}


def train(config: ExperimentConfig, data: TrainingData, epochs: int = 1) -> Trainer:
    made = Trainer(config, data, np.arange(16), np.arange(16))
    for _ in range(epochs):
        made.advance()
    return made


def fresh(config: ExperimentConfig) -> DiaGRAM:
    model = DiaGRAM(config.model)
    start_pretrained(model)
    return model


@pytest.mark.parametrize("name", list(VARIANTS))
def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(
    name: str, small: Small, data: TrainingData, tmp_path: Path
) -> None:
    config, splits = small(**VARIANTS[name]), make_splits(data, 3, seed=0)
    whole, first, second = (CrossValidation(config, data, splits) for _ in range(3))
    list(whole.advance(3, 2))
    list(first.advance(3, 1))
    with CheckpointStore(tmp_path, first.identity) as store:
        store.save(3, first.state_dict())
    second.load_state_dict(CheckpointStore(tmp_path, second.identity).load()[1])
    list(second.advance(3, 2))
    assert second.predictions().equals(whole.predictions())


@pytest.mark.parametrize("name", list(VARIANTS))
def test_a_model_folder_says_the_same_again(name: str, small: Small, data: TrainingData, tmp_path: Path) -> None:
    validation = CrossValidation(small(**VARIANTS[name]), data, make_splits(data, 3, seed=0))
    list(validation.advance(3, 1))
    validation.export(tmp_path / "best")
    card, models = read_models(tmp_path / "best")
    trained = validation._run(2).trainer.result.eval()
    images, state = torch.rand(2, 1, 32, 32), trained.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in models[2].state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(models[2](images), trained(images), rtol=1e-4, atol=1e-4)
    pretrained = VARIANTS[name].get("model__pretrained", False)
    assert ("ImageNet" in card.pretrained and "Apache License 2.0" in card.pretrained) == pretrained
    assert ("pretrained:" in (tmp_path / "best" / "config.yaml").read_text().split("experiment:")[0]) == pretrained


@pytest.mark.parametrize("freeze", [0, 2, 4])
def test_frozen_levels_and_stored_statistics_do_not_move_and_all_else_does(
    freeze: int, small: Small, data: TrainingData
) -> None:
    config = small(**LITE, model__classifier="backbone", training__freeze=freeze)
    trained = train(config, data).model
    before = fresh(config).state_dict()
    for name, value in trained.state_dict().items():
        if not name.startswith(("features", "classifier.blocks")):
            continue
        stays = "running" in name or name.startswith(tuple(f"features.layers.{level}." for level in range(freeze)))
        assert torch.equal(value, before[name]) == stays, name


def test_a_smaller_rate_keeps_features_nearer_to_where_they_started(small: Small, data: TrainingData) -> None:
    def moved(rate: float) -> float:
        config = small(**LITE, model__classifier="linear", training__features_rate=rate, training__optimizer="sgd")
        model, start = train(config, data).model.features, fresh(config).features
        return sum(
            float((value - start.state_dict()[name]).abs().sum())
            for name, value in model.state_dict().items()
        )  # fmt: skip

    assert 0 < moved(0.01) < 0.1 * moved(1.0)


def test_frozen_features_keep_nothing_for_the_backward_pass(small: Small) -> None:
    shared = {**LITE, "model__classifier": "linear", "training__image_batch": 32, "training__multi_task": False}
    free, frozen = (sizes(small(**shared, training__freeze=freeze), (64, 48), 5) for freeze in (0, 4))
    assert frozen["parameters"] == free["parameters"]
    assert frozen["memory_mb"] < 0.6 * free["memory_mb"]


def test_pretrained_weights_are_part_of_what_a_run_is(
    small: Small, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, splits = small(**VARIANTS["two tasks on pretrained features"]), make_splits(data, 3, seed=0)
    first = CrossValidation(config, data, splits)
    list(first.advance(1, 1))
    with CheckpointStore(tmp_path, first.identity) as store:
        store.save(3, first.state_dict())
    assert first.identity["pretrained_weights"].startswith("579344248a93")
    assert "pretrained_weights" not in CrossValidation(small(), data, splits).identity
    other = first.identity | {"pretrained_weights": "another file's"}
    again = CrossValidation(config, data, splits)
    monkeypatch.setattr(CrossValidation, "identity", other)
    with pytest.raises(DataError, match="pretrained_weights is '5793"):
        CheckpointStore(tmp_path, again.identity).load()


def test_fine_tuning_takes_f_and_e_of_any_network_and_their_origin(
    small: Small, data: TrainingData, tmp_path: Path
) -> None:
    source = CrossValidation(small(**VARIANTS["two tasks on pretrained features"]), data, make_splits(data, 3, seed=0))
    list(source.advance(3, 1))
    source.export(tmp_path / "source")
    config = starting_config(tmp_path / "source")
    assert (config.model.features, config.model.pretrained) == ("efficientnet-lite0", True)
    initial = read_initial(tmp_path / "source", config, data, make_splits(data, 3, seed=0))
    tuned = CrossValidation(config, data, make_splits(data, 3, seed=0), initial=initial)
    state = tuned._trainer(tuned._run(1)).model.state_dict()
    theirs = source._run(1).trainer.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in state.items() if "discriminator" not in name)
    assert "pretrained_weights" not in tuned.identity  # the digest of what it starts with says it
    list(tuned.advance(1, 1))
    tuned.export(tmp_path / "tuned")
    assert read_card(tmp_path / "tuned").pretrained == read_card(tmp_path / "source").pretrained
    other = override(config, {"model.classifier": "paper"}, "test")
    with pytest.raises(ConfigError, match=r"model.classifier = 'linear', and model.classifier = 'paper' was asked for"):
        read_initial(tmp_path / "source", other, data, make_splits(data, 3, seed=0))


@pytest.mark.parametrize("rule", ["max", "assigned", "sparse"])
def test_the_loss_of_multi_instance_networks_is_the_papers(rule: str) -> None:
    """Written out image by image, in NumPy."""
    random = np.random.default_rng(0)
    logits, labels = random.standard_normal((5, 2, 3, 4)) * 2, np.array([0, 1, 1, 0, 1])
    config = MultiInstanceConfig(rule=rule, positions=3, sparsity=0.02)
    losses = []
    for image, label in zip(logits, labels, strict=True):
        odds = np.exp(image)
        ranked = np.sort((odds[1] / odds.sum(axis=0)).ravel())[::-1]
        if rule == "assigned":
            given = [label] * 3 + [0] * (len(ranked) - 3)
            losses.append(-np.mean([np.log(r if y else 1 - r) for r, y in zip(ranked, given, strict=True)]))
        else:
            losses.append(
                -np.log(ranked[0] if label else 1 - ranked[0]) + (0.02 * ranked.sum() if rule == "sparse" else 0)
            )
    found = instance_loss(torch.from_numpy(logits), torch.from_numpy(labels), config)
    assert found.item() == pytest.approx(np.mean(losses), abs=1e-12)
    halves = [instance_loss(torch.from_numpy(logits[part]), torch.from_numpy(labels[part]), config, 5)
              for part in (slice(0, 2), slice(2, 5))]  # fmt: skip
    assert sum(half.item() for half in halves) == pytest.approx(np.mean(losses), abs=1e-12)


@pytest.mark.parametrize("rule", ["max", "assigned", "sparse"])
def test_multi_instance_networks_find_a_bright_square(rule: str, small: Small, data: TrainingData) -> None:
    rules = {"model__reduction": 16, "model__multi_instance__rule": rule}
    config = small(**VARIANTS["multi-instance"], **rules, training__epochs=12)
    made = train(config, data, 12)
    scores = made.score(np.arange(16, 24))
    labels = data.labels[16:24]
    assert scores[labels == 1].min() > scores[labels == 0].max()
