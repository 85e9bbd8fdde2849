from collections.abc import Callable

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.device import is_half
from diagram_ray.training.gradient_step import GradientStep
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]


def test_losses_are_computed_in_what_is_asked_for_and_gradients_in_the_precision_of_the_weights() -> None:
    weight = torch.nn.Parameter(torch.ones(64, 64))
    seen = []

    def losses(part: slice) -> dict[str, torch.Tensor]:
        product = torch.ones(4, 64)[part] @ weight
        seen.append(product.dtype)
        return {"any": product.float().mean()}

    gradient_step = GradientStep(autocast=torch.autocast("cpu", torch.bfloat16))
    for _ in range(2):  # it is entered again for each step
        gradient_step.step("any", torch.optim.SGD([weight], lr=1.0), 4, ("any",), losses)
    assert seen == [torch.bfloat16] * 2
    assert weight.dtype == torch.float32
    np.testing.assert_allclose(weight.detach(), 1.0 - 2.0 / 64, rtol=1e-6)
    assert not torch.is_autocast_enabled("cpu")


def test_logits_are_in_the_precision_of_the_weights(small: Small) -> None:
    made = DiaGRAM(small().model)
    with torch.autocast("cpu", torch.bfloat16):
        maps = made.features(torch.zeros(2, 1, 32, 32))
        assert maps.dtype == torch.bfloat16
        assert made.discriminator(maps).class_logits.dtype == made.classifier(maps).dtype == torch.float32


def test_by_itself_it_is_half_only_where_the_hardware_is_made_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert is_half(gpu, "auto") is has
        assert is_half(gpu, "bfloat16")
        assert not is_half(gpu, "float32")
        assert not is_half(cpu, "auto")


def test_half_precision_is_refused_on_a_cpu(small: Small, data: TrainingData) -> None:
    """Gradients would be NaN now and then."""
    with pytest.raises(ConfigError, match="bfloat16 is for GPUs only; allowed on a CPU are auto and float32"):
        Trainer(small(training__precision="bfloat16"), data, np.arange(16), np.arange(16))


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_are_for_the_training_that_asks_for_them(
    wanted: bool, small: Small, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    made = Trainer(small(training__deterministic=wanted), data, np.arange(16), np.arange(16))
    seen = set()
    made.model.classifier.register_full_backward_hook(lambda *_: seen.add(torch.are_deterministic_algorithms_enabled()))
    made.advance()
    assert seen == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
