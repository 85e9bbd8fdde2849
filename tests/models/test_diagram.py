"""Every F with every E: shapes, samples that do not look at each other, heatmaps, sizes."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from diagram_ray.config import ExperimentConfig, ModelConfig, override
from diagram_ray.errors import ConfigError
from diagram_ray.models import DiaGRAM, outline
from diagram_ray.models.classifier import MultiInstanceClassifier

FEATURES = {"paper": 8, "residual": 32, "efficientnet-lite0": 112, "efficientnet-lite2": 120}
"""And the channels that F ends in, at a width of 4."""
CELLS = {"paper": 64, "backbone": 32, "linear": 16, "multi-instance": 16}
"""Of F that reduces by 16."""
ALL = list(itertools.product(FEATURES, CELLS))


def make(features: str, classifier: str = "paper", **more: object) -> DiaGRAM:
    torch.manual_seed(0)
    changes = {"features": features, "classifier": classifier, "width": 4, "generator_width": 4, "latent_size": 6}
    made = DiaGRAM(ModelConfig.model_validate(changes | more))
    nn.init.normal_(made.classifier.output.weight)
    return made


def pixels(count: int, height: int, width: int) -> Tensor:
    """In [-1, 1], with a black margin."""
    drawn = torch.rand(count, 1, height, width) * 2 - 1
    drawn[..., width // 2 :] = -1.0
    return drawn


@pytest.mark.parametrize(("features", "classifier"), ALL)
def test_every_network_classifies_images_and_patches_and_judges_them(features: str, classifier: str) -> None:
    model = make(features, classifier)
    reduction = 4 if features == "paper" else 16
    assert model.features(pixels(1, 96, 64)).shape == (1, FEATURES[features], 96 // reduction, 64 // reduction)
    assert model(pixels(3, 96, 64)).shape == (3, 2)
    assert model(pixels(1, 17, 45)).shape == (1, 2)
    assert model.generator is not None
    fakes = model.generator(model.generator.sample_noise(3, torch.Generator()))
    judged = model.discriminator(model.features(fakes))
    assert (judged.class_logits.shape, judged.real_logit.shape) == ((3, 2), (3,))
    judged.real_logit.sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in model.generator.parameters())


@pytest.mark.parametrize(("features", "classifier"), ALL)
@pytest.mark.parametrize("pretrained", [False, True])
def test_samples_do_not_look_at_each_other(features: str, classifier: str, pretrained: bool) -> None:
    if pretrained and not features.startswith("efficientnet"):
        with pytest.raises(ValueError, match=f"and model.features is '{features}'"):
            make(features, classifier, pretrained=True)
        return
    model = make(features, classifier, pretrained=pretrained).double().train()
    images = pixels(3, 64, 48).double()
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-10)
    assert together.std() > 0


@pytest.mark.parametrize(("features", "classifier"), ALL)
def test_local_logits_stand_for_cells_and_make_up_the_images_logits(features: str, classifier: str) -> None:
    model = make(features, classifier).eval()
    images = pixels(3, 192, 128)
    local, logits = model.classifier.local_logits(model.features(images)), model(images)
    cell = CELLS[classifier]
    if features == "paper":
        cell = 32 if classifier in ("paper", "backbone") else 4
    assert model.classifier.cell == cell
    assert local.shape == (3, 2, 192 // cell, 128 // cell)
    if classifier == "multi-instance":
        for image, found in zip(local, logits, strict=True):
            odds = image[1] - image[0]
            row, column = divmod(int(odds.argmax()), odds.shape[1])
            assert torch.equal(found, image[:, row, column])
    else:
        torch.testing.assert_close(local.mean(dim=(2, 3)), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("features", "classifier"), ALL)
def test_an_outline_has_the_parts_of_the_network_and_the_numbers_are_the_same_again(
    features: str, classifier: str
) -> None:
    model, again, drawn = make(features, classifier), make(features, classifier), outline
    state = model.state_dict()
    assert {name: value.shape for name, value in drawn(model.config).state_dict().items()} == {
        name: value.shape for name, value in state.items()
    }
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())


@pytest.mark.parametrize("features", list(FEATURES))
def test_the_first_levels_are_those_that_halve_the_maps(features: str) -> None:
    model = make(features)
    maps = torch.rand(1, 1, 64, 64)
    sides = (64, 32, 32, 16, 16) if features == "paper" else (64, 32, 16, 8, 4)
    for count, side in enumerate(sides):
        assert model.features.first(count)(maps).shape[2:] == (side, side)
    everything = list(model.features.first(4).parameters())
    assert [id(weight) for weight in everything] == [id(weight) for weight in model.features.parameters()]


def test_dropout_that_was_drawn_falls_on_a_multi_instance_networks_channels() -> None:
    model = make("paper", "multi-instance", dropout=0.5).train()
    assert isinstance(model.classifier, MultiInstanceClassifier)
    images = pixels(4, 64, 64)
    drawn = model.classifier.sample_dropout(4, torch.Generator().manual_seed(0))
    maps = model.features(images) * drawn[:, :, None, None]
    torch.testing.assert_close(model(images, drawn), model.eval().classifier(maps))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.features": "resnet"}, "model.features: 'resnet' is not allowed"),
        ({"model.classifier": "multi-instance", "model.num_classes": 3}, "multi-instance is for two classes"),
        ({"model.pretrained": True}, "EfficientNet-Lite 0 to 2, and model.features is 'paper'"),
        (
            {"model.features": "efficientnet-lite0", "model.pretrained": "weights.safetensors"},
            "must be true, false, or an absolute path",
        ),
    ],
)
def test_what_cannot_be_is_told(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(ExperimentConfig(), changes, "test")
