"""One checkpoint: the state of a training run as files, and what it is a state of.

weights.safetensors   the weights of all models in the state
state.pt              the rest, optimizers and position: tensors and plain values, read without running any code
checkpoint.json       configuration, dataset and splits, and size and SHA-256 of the two above: written last
"""

import hashlib
import io
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from diagram_ray.config import ExperimentConfig, flatten
from diagram_ray.data.dataset import TrainingData
from diagram_ray.data.splits import Splits
from diagram_ray.errors import DataError, MismatchError

FORMAT_VERSION = 1
WEIGHTS, REST, MANIFEST = "weights.safetensors", "state.pt", "checkpoint.json"
MODEL = "model"
"""A mapping of tensors under this key of a state, at any depth, is a model's weights."""
SHOWN = 3
"""Differences that are named; more are counted."""

Identity = Mapping[str, Any]
"""Name -> plain value of all that must be the same when a run goes on."""
State = Mapping[Any, Any]

DAMAGES = (
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
)


@dataclass(frozen=True)
class Manifest:
    """checkpoint.json"""

    position: int
    """How far the run was, in whatever it counts."""
    score: float | None
    """The higher, the better; None if it has none."""
    identity: dict[str, Any]
    files: dict[str, tuple[int, str]]
    """Name -> size in bytes and SHA-256."""

    def to_json(self) -> bytes:
        """The file's content."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=1).encode()


def read_manifest(content: bytes, where: str) -> Manifest:
    """From the file's content. Raises DataError naming `where` if it is damaged or of another format."""
    try:
        fields = json.loads(content)
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise DataError(f"{where}: format_version {version!r}; this program reads {FORMAT_VERSION}")
        files = {str(name): (int(size), str(digest)) for name, (size, digest) in fields["files"].items()}
        score = None if fields["score"] is None else float(fields["score"])
        return Manifest(int(fields["position"]), score, dict(fields["identity"]), files)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise DataError(f"{where}: damaged: {type(error).__name__}: {error}") from None


def identity_of(config: ExperimentConfig, data: TrainingData, splits: Splits | None, **more: Any) -> dict[str, Any]:
    """What a run is: every setting, the dataset with its question, the splits, and `more` that decides the result.

    The labels are part of it, because a question other than the dataset's own (or the control's shuffled labels) has
    the same fingerprint.
    """
    folds = None if splits is None else hashlib.sha256(splits.to_json().encode()).hexdigest()
    labels = hashlib.sha256(data.labels.tobytes() + data.patch_labels.tobytes()).hexdigest()
    return {**flatten(config), "dataset": data.fingerprint, "labels": labels, "splits": folds, **more}


def check_identity(saved: Identity, mine: Identity, where: str) -> None:
    """Raises MismatchError, naming what differs with both values, unless the two are equal."""
    ours = json.loads(json.dumps(dict(mine)))  # as it would have been read back
    keys = [key for key in {**ours, **saved} if key not in ours or key not in saved or ours[key] != saved[key]]
    if keys:
        named = "; ".join(f"{key} is {_shown(saved, key)} there and {_shown(ours, key)} here" for key in keys[:SHOWN])
        more = f"; and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        raise MismatchError(f"{where}: a checkpoint of another run: {named}{more}")


def _shown(identity: Identity, key: str) -> str:
    return repr(identity[key]) if key in identity else "not given"


def encode(state: State) -> dict[str, bytes]:
    """The files that hold `state`, a tree of mappings, lists, tensors and plain values."""
    weights: dict[str, Tensor] = {}
    rest = _without_weights(state, "", weights)
    buffer = io.BytesIO()
    torch.save(rest, buffer)
    return {WEIGHTS: safetensors.torch.save(weights), REST: buffer.getvalue()}


def decode(files: Mapping[str, bytes], where: str) -> Any:
    """The state in the files that `encode` made. Raises DataError naming `where` if they are damaged."""
    try:
        weights = safetensors.torch.load(files[WEIGHTS])
        rest = torch.load(io.BytesIO(files[REST]), map_location="cpu", weights_only=True)
        return _with_weights(rest, "", weights)
    except DAMAGES as error:
        raise DataError(f"{where}: damaged: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from None


def describe(files: Mapping[str, bytes]) -> dict[str, tuple[int, str]]:
    """Size and SHA-256 of each file."""
    return {name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in files.items()}


def copied(value: Any) -> Any:
    """A copy of a state on the CPU: training may go on while it is written."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(inner) for inner in value)
    return value


def bytes_of(value: Any) -> int:
    """Of the tensors in a state."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(bytes_of(inner) for inner in value.values())
    return sum(bytes_of(inner) for inner in value) if isinstance(value, list | tuple) else 0


def _without_weights(value: Any, path: str, weights: dict[str, Tensor]) -> Any:
    """`value` with the names of tensors in the place of models' weights, which go to `weights`."""
    if not isinstance(value, Mapping):
        return value
    inside = {}
    for key, inner in value.items():
        place = f"{path}{key}/"
        if key == MODEL:
            weights |= {place + name: tensor.contiguous() for name, tensor in inner.items()}
            inside[key] = list(inner)
        else:
            inside[key] = _without_weights(inner, place, weights)
    return inside


def _with_weights(value: Any, path: str, weights: Mapping[str, Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        key: {name: weights[f"{path}{key}/{name}"] for name in inner}
        if key == MODEL
        else _with_weights(inner, f"{path}{key}/", weights)
        for key, inner in value.items()
    }
