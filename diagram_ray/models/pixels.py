"""Where pixels become maps, and maps pixels: the first layer of F and the last one of G, 4×4 kernels of stride 2.

On CPUs PyTorch is slow where a convolution has a single channel at its end: the first layer's gradient for its input
and the last layer's output take three to six times as long as what is done here in their place, the same sums as a
matrix product whose columns are added up (`col2im`). Everything else, and other devices, are PyTorch's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE, STRIDE, PADDING = 4, 2, 1
TAPS = SIDE * SIDE

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class FromPixels(nn.Conv2d):
    """(B, 1, H, W) -> (B, channels, H // 2, W // 2)."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels, SIDE, STRIDE, PADDING)

    def forward(self, pixels: Tensor) -> Tensor:
        """The maps of pixels."""
        if _by_hand(pixels) and pixels.requires_grad:
            maps: Tensor = _FromPixels.apply(pixels, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return maps
        return super().forward(pixels)


class ToPixels(nn.ConvTranspose2d):
    """(B, channels, H, W) -> (B, 1, 2 * H, 2 * W)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 1, SIDE, STRIDE, PADDING)

    def forward(self, maps: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The pixels of maps."""
        if _by_hand(maps):
            pixels: Tensor = _ToPixels.apply(maps, self.weight, self.bias)  # type: ignore[no-untyped-call]
            return pixels
        return super().forward(maps, output_size)


def _by_hand(maps: Tensor) -> bool:
    return maps.device.type == "cpu" and not torch.compiler.is_compiling()


class _FromPixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, pixels: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(pixels, weight)
        return F.conv2d(pixels, weight, bias, STRIDE, PADDING)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        pixels, weight = ctx.saved_tensors
        of_pixels, *wanted = ctx.needs_input_grad
        _, of_weight, of_bias = _gradients(slope, pixels, weight, [False, *wanted]) if any(wanted) else [None] * 3
        return _spread(slope, weight, pixels.shape[2:]) if of_pixels else None, of_weight, of_bias


class _ToPixels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return _spread(maps, weight, [STRIDE * side for side in maps.shape[2:]]).add_(bias)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> Gradients:
        maps, weight = ctx.saved_tensors
        return _gradients(slope, maps, weight, ctx.needs_input_grad, transposed=True)


def _spread(maps: Tensor, weight: Tensor, size: Sequence[int]) -> Tensor:
    """The transposed convolution of maps (B, C, h, w) with `weight` (C, 1, 4, 4): pixels (B, 1, *size)."""
    count, channels, height, width = maps.shape
    columns = maps.permute(0, 2, 3, 1).reshape(-1, channels) @ weight.reshape(channels, TAPS)
    columns = columns.view(count, height * width, TAPS).transpose(1, 2)
    return F.fold(columns, tuple(size), SIDE, padding=PADDING, stride=STRIDE)


def _gradients(
    slope: Tensor, maps: Tensor, weight: Tensor, wanted: Sequence[bool], transposed: bool = False
) -> Gradients:
    """PyTorch's, for the maps, the weight and the bias as far as they are `wanted`."""
    biases, strides, paddings = [slope.shape[1]], [STRIDE] * 2, [PADDING] * 2
    found: Gradients = torch.ops.aten.convolution_backward(
        slope, maps, weight, biases, strides, paddings, [1, 1], transposed, [0, 0], 1, wanted
    )
    return found
