"""The state of a training run as the files of a checkpoint (`training.checkpoints.manifest`), and back."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from diagram_ray.errors import DataError
from diagram_ray.training.checkpoints.manifest import REST, WEIGHTS

MODEL = "model"
"""A mapping of tensors under this key of a state, at any depth, is a model's weights."""

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
    """The bytes that the tensors in a state take."""
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
