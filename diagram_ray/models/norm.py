"""How the networks are normalised: standardised weights, normalisation layers, and the scale of the pixels."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Norm = Literal["weight-standardised", "group", "batch"]

GROUPS = 8
SMALLEST_VARIANCE = 1e-10
"""Added to a filter's variance: a filter of equal weights becomes 0, not undefined."""
SMALLEST_PIXEL_VARIANCE = 1e-4
"""Added to the variance of pixels, which lie in [-1, 1]: the noise of an even patch is not blown up."""


class StandardisedConv2d(nn.Conv2d):
    """A convolution with each filter brought to mean 0 and variance 1 / fan-in by weight standardisation.

    Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight standardization". Such filters
    do not answer to what is the same everywhere, such as the black background of a mammogram.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """The maps that the convolution makes of `maps` (B, C, h, w)."""
        output: Tensor = self._conv_forward(maps, standardised_filters(self.weight), self.bias)
        return output


def standardised_filters(weight: Tensor) -> Tensor:
    """Filters (out, in, h, w), each with mean 0 and variance 1 / (in * h * w)."""
    last = weight.permute(0, 2, 3, 1)  # channels last, as the weights lie in memory
    rows = last.flatten(1)
    fan_in = rows.shape[1]
    rows = F.layer_norm(rows, (fan_in,), eps=SMALLEST_VARIANCE) / math.sqrt(fan_in)
    standardised: Tensor = rows.view(last.shape).permute(0, 3, 1, 2)
    return standardised


def convolution(norm: Norm, into: int, out: int, side: int, stride: int = 1) -> nn.Conv2d:
    """A convolution of `side` x `side` kernels, padded by half of that, as the normalisation after it wants it."""
    kind = StandardisedConv2d if norm == "weight-standardised" else nn.Conv2d
    return kind(into, out, side, stride=stride, padding=(side - 1) // 2, bias=False)


def standardised_pixels(pixels: Tensor) -> Tensor:
    """Images or patches (B, 1, H, W) in [-1, 1] with mean 0 and variance 1 over the breast, and 0 outside of it.

    Outside is what is -1 exactly, as the background of prepared images is. Each image or patch by itself.
    """
    breast = (pixels > -1.0).to(pixels.dtype)
    count = breast.sum(dim=(2, 3), keepdim=True).clamp(min=1.0)
    mean = (pixels * breast).sum(dim=(2, 3), keepdim=True) / count
    centred = (pixels - mean) * breast
    variance = centred.square().sum(dim=(2, 3), keepdim=True) / count
    return centred * (variance + SMALLEST_PIXEL_VARIANCE).rsqrt()


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
