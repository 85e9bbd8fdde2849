"""The files of a checkpoint, and checkpoint.json among them. Without PyTorch, which a driver need not load.

weights.safetensors   the weights of all models in the state
state.pt              the rest, optimizers and position: tensors and plain values, read without running any code
checkpoint.json       configuration, dataset and splits, and size and SHA-256 of the two above: written last
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from diagram_ray.errors import DataError

FORMAT_VERSION = 1
WEIGHTS, REST, MANIFEST = "weights.safetensors", "state.pt", "checkpoint.json"


@dataclass(frozen=True)
class Manifest:
    """The content of checkpoint.json, which makes a folder a checkpoint."""

    position: int
    """How far the run was, in whatever it counts."""
    identity: dict[str, Any]
    files: dict[str, tuple[int, str]]
    """Name -> size in bytes and SHA-256."""

    def to_json(self) -> bytes:
        """The content of checkpoint.json as bytes."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1).encode()


def read_manifest(content: bytes, where: str) -> Manifest:
    """The manifest in a file's content. Raises DataError naming `where` if it is damaged or of another format."""
    try:
        fields = json.loads(content)
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise DataError(f"{where}: format_version {version!r}; this program reads {FORMAT_VERSION}")
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in fields["files"].items()}
        return Manifest(int(fields["position"]), dict(fields["identity"]), files)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{where}: damaged: {type(error).__name__}: {error}") from None


def describe(files: Mapping[str, bytes]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file."""
    return {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}
