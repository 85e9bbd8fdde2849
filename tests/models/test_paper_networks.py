import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from diagram_ray.config import ModelConfig
from diagram_ray.models import DiaGRAM
from diagram_ray.models.norm import frozen_statistics


def small(**changes: object) -> DiaGRAM:
    torch.manual_seed(0)
    return DiaGRAM(ModelConfig.model_validate({"width": 4, "generator_width": 4, "latent_size": 6} | changes))


def layers(network: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, kind)]


def test_the_networks_have_the_layers_of_the_paper() -> None:
    model = small()
    assert len(layers(model.generator, nn.Linear)) == 1
    assert len(layers(model.generator, nn.ConvTranspose2d)) == 4
    assert len(layers(model.features, nn.Conv2d)) == 4
    assert [type(layer) for layer in model.discriminator.children()] == [nn.Linear]
    assert len(model.classifier.blocks) == 6
    assert len(layers(model.classifier, nn.Conv2d)) == 12 + 2, "and those that widen shortcuts"
    assert len(layers(small(reduction=16).classifier, nn.Conv2d)) == 12


@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    norm=st.sampled_from(["weight-standardised", "group", "batch"]),
    m=st.integers(2, 4),
    reduction=st.sampled_from([4, 16]),
)
@settings(max_examples=25, deadline=None)
def test_images_of_any_size_are_classified(height: int, width: int, norm: str, m: int, reduction: int) -> None:
    model = small(norm=norm, num_classes=m, reduction=reduction).eval()
    maps = model.features(torch.rand(2, 1, height, width))
    if reduction == 4:
        assert maps.shape == (2, 8, -(-height // 4), -(-width // 4))
    else:
        assert maps.shape == (2, 32, height // 16, width // 16)
    assert model(torch.rand(2, 1, height, width)).shape == (2, m)


@pytest.mark.parametrize("size", [16, 32, 48])
@pytest.mark.parametrize("width", [4, 12])
@pytest.mark.parametrize("gan", [True, False])
@pytest.mark.parametrize("reduction", [4, 16])
def test_patches_of_any_allowed_size_are_judged(size: int, width: int, gan: bool, reduction: int) -> None:
    model = small(patch_size=size, width=width, generator_width=width, gan=gan, num_classes=3, reduction=reduction)
    judged = model.discriminator(model.features(torch.rand(5, 1, size, size)))
    assert judged.class_logits.shape == (5, 3)
    assert model.discriminator.neurons.out_features == 3 + gan
    if not gan:
        assert model.generator is None
        assert judged.real_logit is None
        return
    assert judged.real_logit.shape == (5,)
    fakes = model.generator(model.generator.sample_noise(5, torch.Generator()))
    assert fakes.shape == (5, 1, size, size)
    assert fakes.abs().max() < 1


def test_noise_is_uniform_from_minus_one_to_one() -> None:
    noise = small(latent_size=50).generator.sample_noise(400, torch.Generator().manual_seed(0))
    assert noise.shape == (400, 50)
    assert noise.abs().max() <= 1
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1 / math.sqrt(3), abs=0.01)


def test_group_norm_keeps_samples_apart() -> None:
    model = small()
    patches = torch.rand(4, 1, 32, 32)
    together = model.features(patches)
    alone = torch.cat([model.features(patch[None]) for patch in patches])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_an_untrained_model_is_undecided() -> None:
    model = small(width=16)
    probabilities = model(torch.rand(4, 1, 64, 48) * 2 - 1).softmax(dim=1)
    assert (probabilities - 0.5).abs().max() < 0.25
    fakes = model.generator(model.generator.sample_noise(16, torch.Generator()))
    assert fakes.abs().mean() < 0.3


def test_every_parameter_has_a_gradient() -> None:
    model = small()
    fakes = model.generator(model.generator.sample_noise(3, torch.Generator()))
    judged = model.discriminator(model.features(fakes))
    (model(torch.rand(3, 1, 64, 64))[:, 0].sum() + judged.real_logit.sum() + judged.class_logits[:, 0].sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


def test_frozen_statistics_normalise_by_the_batch_but_record_nothing() -> None:
    layer = nn.BatchNorm2d(2)
    inputs = torch.rand(8, 2, 4, 4) * 3 + 5
    with frozen_statistics(layer):
        outputs = layer(inputs)
    assert outputs.mean().abs() < 1e-5
    assert layer.running_mean.tolist() == [0.0, 0.0]
    layer(inputs)
    assert layer.running_mean.min() > 0.1
