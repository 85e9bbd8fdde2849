"""A convolution of pictures of one channel, in a form that hardware is quick at."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvFromOne(nn.Conv2d):
    """`nn.Conv2d(1, out_channels, kernel_size=4, stride=2, padding=1)`: the same parameters, the same result.

    (B, 1, H, W) -> (B, out_channels, H // 2, W // 2), channels last. A stride of two over one channel is a stride of
    one over four: each 2×2 square becomes the four channels of one place, the 4×4 kernel a 2×2 kernel. The sums are the
    same in another order. On CPUs the plain form's weight gradient takes twice as long, and so does its input's.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__(1, out_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        """The maps."""
        height, width = pixels.shape[2:]
        # Of an odd height the last row is the last that a kernel meets: it needs no padding. So with the width.
        padded = F.pad(pixels, (1, 1 - width % 2, 1, 1 - height % 2))
        squares, kernels = (
            F.pixel_unshuffle(whole, 2).contiguous(memory_format=torch.channels_last)
            for whole in (padded, self.weight)
        )
        return F.conv2d(squares, kernels, self.bias)
