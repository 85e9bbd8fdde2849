from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.config import CollapseConfig, ExperimentConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.gan_collapse import Collapsed, GanHealth, spread
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]
ALIKE = {"training__learning_rate__generator": 1e-9}
"""G stays as it began: its patches are nearly the same."""


def trainer(config: ExperimentConfig, data: TrainingData, fold: int = 0) -> Trainer:
    return Trainer(config, data, np.arange(16), np.arange(16), fold)


def advance(made: Trainer, epochs: int) -> list[dict[str, Any]]:
    return [made.advance() for _ in range(epochs)]


def collapse(**limits: float) -> dict[str, Any]:
    return {"training__collapse": {"diversity": 0.0, "loss_ratio": 0.0, "warmup_epochs": 0, "patience": 2, **limits}}


@given(st.integers(2, 7), st.integers(1, 4), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_spread_is_the_distance_of_all_pairs(count: int, side: int, seed: int) -> None:
    patches = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    pairs = [((one - two) ** 2).mean().item() for one, two in combinations(patches, 2)]
    both_ways = 2 * sum(pairs) / count**2  # with each patch's distance of zero to itself
    assert spread(patches).item() == pytest.approx(both_ways**0.5)


def test_real_patches_have_a_diversity_of_one_and_equal_ones_of_zero(small: Small, data: TrainingData) -> None:
    model = trainer(small(), data).model
    losses = {"adversarial": 1.2, "generator": 0.6}
    noise = torch.rand(9, 8) * 2 - 1
    with torch.no_grad():
        made = model.eval().generator(noise)
    found = GanHealth(CollapseConfig(), 0, made, noise).measure(model, losses)
    assert found["gan_diversity"] == pytest.approx(1.0)
    assert found["gan_loss_ratio"] == pytest.approx(2.0)
    assert GanHealth(CollapseConfig(), 0, made, noise[:1].expand(9, 8)).measure(model, losses)["gan_diversity"] == 0.0
    assert GanHealth(CollapseConfig(), 0, made[:1], noise).measure(model, losses)["gan_diversity"] is None


def test_each_epoch_tells_the_health_and_without_gan_there_is_none(small: Small, data: TrainingData) -> None:
    rows = [trainer(small(), data, fold=1).advance() for _ in range(2)]
    assert rows[0]["gan_diversity"] == rows[1]["gan_diversity"] > 0.0
    assert rows[0]["gan_loss_ratio"] == pytest.approx(rows[0]["loss_adversarial"] / rows[0]["loss_generator"])
    row = trainer(small(model__gan=False), data).advance()
    assert row["gan_diversity"] is None
    assert row["gan_loss_ratio"] is None


def test_patches_that_stay_alike_end_the_training_with_the_cause(small: Small, data: TrainingData) -> None:
    config = small(**ALIKE, **collapse(diversity=0.5))
    watched = CrossValidation(config, data, make_splits(data, 3, seed=0))
    rows = watched.advance(3, 3)
    assert len(next(rows)) == 3
    with pytest.raises(
        Collapsed, match=r"^GAN collapsed: fold 0, epoch 2: generated patches have been alike for 2 epo"
    ):
        next(rows)


def test_nothing_is_a_sign_during_the_warmup_or_if_it_is_not_asked_for(small: Small, data: TrainingData) -> None:
    for limits in (collapse(diversity=0.5, warmup_epochs=2), collapse()):
        made = trainer(small(**ALIKE, **limits), data)
        assert [made.advance()["epoch"] for _ in range(3)] == [1, 2, 3]


def test_what_was_seen_before_a_resume_counts(small: Small, data: TrainingData) -> None:
    config = small(**ALIKE, **collapse(diversity=0.5))
    first, second = trainer(config, data), trainer(config, data)
    first.advance()
    second.load_state_dict(first.state_dict())
    with pytest.raises(Collapsed, match="epoch 2"):
        second.advance()


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(
    ("rates", "epochs", "sign"),
    [
        ({"generator": 2.0}, 30, "generated patches have been alike"),
        ({"generator": 1e-6, "discriminator": 0.1}, 50, "G has had no chance against D"),
    ],
)
def test_a_gan_that_really_collapses_is_caught_by_the_limits_as_they_are(
    rates: dict[str, float], epochs: int, sign: str, small: Small, data: TrainingData
) -> None:
    """G jumps so far that whatever it is given it paints one patch; G stands still and D learns to tell its patches."""
    made = trainer(small(**{f"training__learning_rate__{name}": rate for name, rate in rates.items()}), data)
    with pytest.raises(Collapsed, match=f"^GAN collapsed: fold 0, epoch [0-9]+: {sign} .*for 5 epochs"):
        advance(made, epochs)
    assert made.epoch >= 15  # the warm-up, and the epochs in which it has to be seen


@pytest.mark.usefixtures("exact")
def test_a_gan_that_trains_as_it_should_is_far_from_the_limits(small: Small, data: TrainingData) -> None:
    made, limits = trainer(small(), data), CollapseConfig()
    rows = advance(made, 20)
    assert min(row["gan_diversity"] for row in rows[10:]) > 10 * limits.diversity
    assert min(row["gan_loss_ratio"] for row in rows[10:]) > 1000 * limits.loss_ratio


def test_only_epochs_in_a_row_count() -> None:
    patches, noise = torch.rand(4, 1, 16, 16), torch.rand(4, 8)
    health = GanHealth(CollapseConfig(diversity=0.1, loss_ratio=0.01, warmup_epochs=0, patience=2), 3, patches, noise)
    alike: dict[str, float | None] = {"gan_diversity": 0.05, "gan_loss_ratio": 1.0}
    lost: dict[str, float | None] = {"gan_diversity": None, "gan_loss_ratio": 0.001}
    for epoch, found in enumerate((alike, lost, alike, lost), start=1):
        health.check(epoch, found)
    with pytest.raises(
        Collapsed, match=r"fold 3, epoch 5: G has had no chance against D for 2 epochs .*ratio of their"
    ):
        health.check(5, lost)
