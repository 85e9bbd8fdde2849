"""Normalisation layers, and the one thing batch normalisation needs to work with two kinds of input."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from torch import nn

Norm = Literal["group", "batch"]

GROUPS = 8


def norm_layer(norm: Norm, channels: int) -> nn.Module:
    """A normalisation layer over (B, channels, H, W). GroupNorm takes 8 groups, or as many of them as divide."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Batch norm in `module` goes on normalising by the batch, but does not record its statistics.

    F sees patches, generated patches and whole images, whose statistics differ; only whole images are scored in eval
    mode. So patches pass through F inside this block and the running statistics describe images alone.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
