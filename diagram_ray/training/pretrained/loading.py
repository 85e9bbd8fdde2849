"""Pretrained weights of the networks that F and E may be. Nothing is unpickled but tensors."""

import pickle
from collections.abc import Mapping
from functools import lru_cache

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from diagram_ray.errors import DataError, one_line
from diagram_ray.models import DiaGRAM
from diagram_ray.models.efficientnet import published_name
from diagram_ray.storage.paths import on_disk
from diagram_ray.training.pretrained.weights_file import WeightsFile, weights_file


def start_pretrained(model: DiaGRAM) -> None:
    """Gives F, and E as the rest of the same network, the weights of `model.pretrained`, if there are to be any.

    Raises what `load_pretrained` raises.
    """
    config = model.config
    if config.pretrained:
        load_pretrained(model.features.layers, 1, config.features, config.pretrained)
        if config.classifier == "backbone":
            load_pretrained(model.classifier.blocks, 0, config.features, config.pretrained)


def load_pretrained(part: nn.Module, depth: int, network: str, pretrained: bool | str) -> None:
    """Gives a part of `network`, of `levels` or `rest` in models/efficientnet.py, its pretrained weights.

    `depth` is the number of words before the block in the names of the part's tensors. The first convolution gets the
    sums of the colours' weights, so it says of grey what the published one says of grey in three channels. Tensors
    that no part has, as the output layer's for ImageNet's classes, are passed over. Raises ConfigError if there are no
    such weights, DataError if they are not this network's.
    """
    file = weights_file(network, pretrained)
    tensors = _read(file)
    part.load_state_dict(
        {name: _fitting(tensors, published_name(name, depth), own, file) for name, own in part.state_dict().items()}
    )


@lru_cache(maxsize=2)
def _read(file: WeightsFile) -> Mapping[str, Tensor]:
    try:
        with on_disk(file.place) as path:
            tensors = torch.load(path, map_location="cpu", weights_only=True) if file.packaged else load_file(path)
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise DataError(f"{file.place}: cannot be read as weights: {one_line(error)}") from None
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise DataError(f"{file.place}: is no table of tensors")
    return tensors


def _fitting(tensors: Mapping[str, Tensor], name: str, like: Tensor, file: WeightsFile) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None:
        raise DataError(f"{file.place}: has no {name!r}: these are not the weights of {file.source.partition(',')[0]}")
    if tensor.ndim == like.ndim == 4 and (tensor.shape[1], like.shape[1]) == (3, 1):
        tensor = tensor.sum(dim=1, keepdim=True)
    if tensor.shape != like.shape or not bool(torch.isfinite(tensor).all()):
        wanted = f"finite numbers of shape {list(like.shape)} were expected"
        raise DataError(f"{file.place}: {name}: {wanted}, and it has shape {list(tensor.shape)}")
    return tensor.to(like.dtype)
