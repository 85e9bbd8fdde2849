import copy
import io
import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.training.trainer import Diverged, Trainer
from tests.support.repository import ROOT

GOLDEN = ROOT / "tests" / "golden" / "losses.json"
Small = Callable[..., ExperimentConfig]


def trainer(config: ExperimentConfig, data: TrainingData, fold: int = 0) -> Trainer:
    return Trainer(config, data, np.arange(16), np.arange(16), fold)


def without_time(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "seconds"}


def weights(of: Trainer) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in of.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def saved_and_read(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_it_learns_a_bright_square(small: Small, data: TrainingData) -> None:
    """At a rate at which its loss falls steadily: at three times that it jumps, when depends on the processor."""
    made = trainer(small(training__augment={"rotation": 5.0}, training__learning_rate={"classifier": 1e-3}), data)
    rows = [made.advance() for _ in range(12)]
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["loss_image"] < 0.5 * rows[0]["loss_image"]
    assert rows[-1]["loss_patch"] < rows[0]["loss_patch"]
    scores, labels = made.score(np.arange(16, 24)), data.labels[16:24]
    assert scores.dtype == np.float64
    assert scores[labels == 1].min() > scores[labels == 0].max()


def test_the_variant_without_gan_has_no_adversarial_losses(small: Small, data: TrainingData) -> None:
    made = trainer(small(model__gan=False), data)
    row = made.advance()
    assert made.model.generator is None
    assert row["loss_adversarial"] is None
    assert row["loss_generator"] is None
    assert math.isfinite(row["loss_patch"])
    assert math.isfinite(row["loss_image"])


@pytest.mark.parametrize(
    "changes",
    [
        {"training__k": 2, "model__dropout": 0.3},
        {"model__norm": "batch", "training__schedule": "cosine", "training__balance_classes": False},
        {"training__optimizer": "sgd", "model__gan": False, "training__weight_decay": 0.01},
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one_bit_by_bit(
    changes: dict[str, Any], small: Small, data: TrainingData
) -> None:
    whole = trainer(small(**changes), data, fold=1)
    rows = [without_time(whole.advance()) for _ in range(3)]

    first = trainer(small(**changes), data, fold=1)
    first.advance()
    state = saved_and_read(copy.deepcopy(first.state_dict()))
    torch.rand(7)  # PyTorch's own random numbers are elsewhere when a run is resumed
    second = trainer(small(**changes), data, fold=1)
    second.load_state_dict(state)
    assert [without_time(second.advance()) for _ in range(2)] == rows[1:]
    assert same(weights(whole), weights(second))
    assert whole.score(np.arange(24)).tolist() == second.score(np.arange(24)).tolist()


def test_gradients_and_moments_lie_in_memory_as_their_weights_do(small: Small, data: TrainingData) -> None:
    """PyTorch's fused Adam does not look, and would give each weight the gradient of another."""
    first, second = trainer(small(), data), trainer(small(), data)
    first.advance()
    second.load_state_dict(saved_and_read(first.state_dict()))
    seen = []

    def look(optimizer: torch.optim.Optimizer, *_: object) -> None:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            state = optimizer.state[parameter]
            for beside in (parameter.grad, state["exp_avg"], state["exp_avg_sq"]):
                seen.append(parameter.stride())
                assert beside.stride() == parameter.stride()

    for optimizer in second._optimizers.named().values():
        optimizer.register_step_pre_hook(look)
    second.advance()
    assert any(strides[1] == 1 for strides in seen if len(strides) == 4)  # channels last


def test_training_does_not_touch_the_random_numbers_of_others(small: Small, data: TrainingData) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    trainer(small(model__dropout=0.5), data).advance()
    assert torch.rand(3).tolist() == expected


def test_seed_and_fold_decide_the_weights(small: Small, data: TrainingData) -> None:
    base = weights(trainer(small(), data))
    assert same(base, weights(trainer(small(), data)))
    assert not same(base, weights(trainer(small(), data, fold=1)))
    assert not same(base, weights(trainer(small(training__seed=1), data)))


def test_scoring_between_epochs_changes_nothing(small: Small, data: TrainingData) -> None:
    one, two = (trainer(small(model__norm="batch", model__dropout=0.5), data) for _ in range(2))
    for _ in range(2):
        one.advance()
        two.advance()
        two.score(np.arange(24))
    assert same(weights(one), weights(two))


def test_scores_do_not_depend_on_what_is_scored_beside_them(small: Small, data: TrainingData) -> None:
    made = trainer(small(model__norm="batch"), data)
    made.advance()
    together = made.score(np.arange(24))
    alone = [made.score(np.array([image]))[0] for image in range(24)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert made.score(np.array([], dtype=np.intp)).shape == (0,)


def test_only_the_training_part_is_seen(small: Small, data: TrainingData) -> None:
    images, patches = data.images.copy(), data.patches.copy()
    images[16:], patches[16:] = 0, 0
    blind = replace(data, images=images, patches=patches)
    one, two = trainer(small(), data), trainer(small(), blind)
    assert without_time(one.advance()) == without_time(two.advance())


def test_cosine_ends_at_zero(small: Small, data: TrainingData) -> None:
    made = trainer(small(training__schedule="cosine", training__epochs=2), data)
    made.advance()
    made.advance()
    before = weights(made)
    made.advance()
    assert same(before, weights(made))


@pytest.mark.parametrize("rate", ["discriminator", "classifier", "generator"])
def test_a_model_that_diverged_says_which_loss_fold_and_epoch(rate: str, small: Small, data: TrainingData) -> None:
    made = trainer(small(**{f"training__learning_rate__{rate}": 1e38}), data, fold=3)
    with pytest.raises(Diverged, match=r"loss of fold 3 became (nan|inf) in epoch 1$"):
        made.advance()


def test_weights_that_are_no_numbers_are_noticed_when_scored(small: Small, data: TrainingData) -> None:
    made = trainer(small(), data, fold=2)
    with torch.no_grad():
        made.model.classifier.output.bias.fill_(math.nan)
    with pytest.raises(Diverged, match="score of fold 2 became nan in epoch 0"):
        made.score(np.arange(4))


PLAIN = {"model__norm": "group", "model__pixels": "range", "model__reduction": 16}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "group": PLAIN,
    "batch_k2": PLAIN | {"model__norm": "batch", "training__k": 2},
    "without_gan_sgd": PLAIN | {"model__gan": False, "training__optimizer": "sgd"},
}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", list(VARIANTS))
def test_losses_are_those_of_the_golden_run(name: str, small: Small, data: TrainingData) -> None:
    """After an intended change, RENEW_GOLDEN=1 writes the file anew."""
    made = trainer(small(**VARIANTS[name]), data)
    rows = [made.advance() for _ in range(2)]
    losses = [{key: value for key, value in row.items() if key.startswith("loss_") and value} for row in rows]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("RENEW_GOLDEN"):
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=1) + "\n")
    else:
        assert losses == [pytest.approx(expected, rel=1e-6) for expected in golden[name]]
