"""A network's names and shapes before it has weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from diagram_ray.config import ModelConfig
from diagram_ray.models.diagram import DiaGRAM


class _Undrawn(TorchFunctionMode):
    """No first weights are drawn: on the device "meta" that would import PyTorch's compiler, two seconds of it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (nn.init.normal_, Tensor.normal_):
            return (*args, *kwargs.values())[0]
        return func(*args, **kwargs)


def outline(config: ModelConfig) -> DiaGRAM:
    """The networks of `config` on the device "meta": they take no memory, however large, and no random numbers."""
    with torch.device("meta"), _Undrawn():
        return DiaGRAM(config)
