"""What a model costs, counted without training."""

import pytest
import torch

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.errors import ConfigError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.model_size import kept_bytes, multiply_adds, size_estimator, sizes

SMALL = override(ExperimentConfig(), {"model.width": 4, "model.generator_width": 4, "training.image_batch": 3}, "")


@pytest.mark.parametrize("gan", [True, False])
def test_parameters_are_those_of_the_real_model(gan: bool) -> None:
    config = override(SMALL, {"model.gan": gan}, "")
    real = sum(parameter.numel() for parameter in DiaGRAM(config.model).parameters())
    assert sizes(config, (64, 48), 5)["parameters"] == real


def test_multiply_adds_of_every_convolution_by_hand() -> None:
    w, (height, width) = 4, (64, 48)
    count = 0
    for level, (into, out) in enumerate([(1, w), (w, 2 * w), (2 * w, 4 * w), (4 * w, 8 * w)], start=1):
        count += (height >> level) * (width >> level) * out * into * 4 * 4
    maps, channels = (4, 3), 8 * w
    for stride in (1, 1, 2, 1, 2, 1):
        maps = tuple(-(-side // stride) for side in maps)
        count += 2 * maps[0] * maps[1] * channels * channels * 9
    coarse = override(SMALL, {"model.reduction": 16}, "").model
    assert multiply_adds(DiaGRAM(coarse), (height, width)) == count + channels * 2


def test_multiply_adds_of_every_convolution_by_hand_where_f_reduces_by_4() -> None:
    w = 4
    count = 32 * 24 * (w + w * w) * 9 + 16 * 12 * (2 * w * w + 2 * w * 2 * w) * 9
    count += 8 * 6 * (4 * w * 2 * w * 9 + 3 * 4 * w * 4 * w * 9 + 4 * w * 2 * w)
    count += 4 * 3 * (8 * w * 4 * w * 9 + 3 * 8 * w * 8 * w * 9 + 8 * w * 4 * w)
    count += 2 * 2 * 4 * (8 * w * 8 * w * 9)
    assert multiply_adds(DiaGRAM(SMALL.model), (64, 48)) == count + 8 * w * 2


def test_what_is_kept_for_the_backward_pass_is_what_real_tensors_keep() -> None:
    def kept(device: str) -> int:
        with torch.device(device):
            model = DiaGRAM(SMALL.model)
            return kept_bytes(lambda: model(torch.zeros(2, 1, 64, 48)), model)

    assert kept("meta") == pytest.approx(kept("cpu"), rel=0.02)


def test_memory_grows_with_what_takes_it() -> None:
    def memory(folds: int = 5, **changes: object) -> float:
        changed = {key.replace("__", "."): value for key, value in changes.items()}
        return sizes(override(SMALL, changed, ""), (64, 48), folds)["memory_mb"]

    least = memory()
    assert memory(folds=10) > least
    assert memory(model__width=8) > least
    assert memory(training__image_batch=32) > least
    assert memory(training__ema_decay=0.9) > least
    assert memory(training__optimizer="sgd") < least
    weights = 4 * 5 * sizes(SMALL, (64, 48), 5)["parameters"] / 1e6
    assert least > 4 * weights  # weights, gradients, and Adam's two


def test_what_is_no_configuration_is_told() -> None:
    measure = size_estimator(SMALL, (64, 48), 5)
    assert measure({"model.width": 8})["parameters"] > measure({})["parameters"]
    with pytest.raises(ConfigError, match="multiple of 4"):
        measure({"model.width": 5})
