"""The extended classification network E (paper Sect. 2.2, Eq. 3)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.features import REDUCTION
from diagram_ray.models.norm import convolution, norm_layer

STRIDES = (1, 1, 2, 1, 2, 1)
"""Of the six residual blocks. Two halvings: E's last maps are 1/64 of the image, a few per breast."""
CELL = REDUCTION * math.prod(STRIDES)
"""Pixels of an image, along each side, that one position of E's last maps stands for."""


class ResidualBlock(nn.Module):
    """Two normalised 3×3 convolutions with a shortcut (He et al., CVPR 2016; paper Fig. 1b).

    (B, C, H, W) -> (B, C, ceil(H / stride), ceil(W / stride)). Where the block halves the map, so does its shortcut,
    by averaging: the channels stay the same, so it needs no parameters.
    """

    def __init__(self, channels: int, stride: int, config: ModelConfig) -> None:
        super().__init__()
        self.stride = stride
        self.first = convolution(config.norm, channels, channels, side=3, stride=stride)
        self.first_norm = norm_layer(config.norm, channels)
        self.second = convolution(config.norm, channels, channels, side=3)
        self.second_norm = norm_layer(config.norm, channels)
        for layer in (self.first, self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, maps: Tensor) -> Tensor:
        """The block's maps."""
        inner = F.relu(self.first_norm(self.first(maps)))
        inner = self.second_norm(self.second(inner))
        shortcut = maps if self.stride == 1 else F.avg_pool2d(maps, self.stride, ceil_mode=True)
        return F.relu(inner + shortcut)


class ExtendedClassifier(nn.Module):
    """Six residual blocks, global average pooling, dropout and the output layer.

    (B, 8 * width, H, W) -> (B, m) logits, for any H and W; their softmax is P(y = i | I).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = 8 * config.width
        self.blocks = nn.Sequential(*(ResidualBlock(channels, stride, config) for stride in STRIDES))
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(channels, config.num_classes)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, maps: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The logits of images' feature maps; with the `dropout` drawn before, if it is given."""
        pooled = self.blocks(maps).mean(dim=(2, 3))
        logits: Tensor = self.output(self.dropout(pooled) if dropout is None else pooled * dropout)
        return logits.to(self.output.weight.dtype)  # the losses need it, where autocast is on

    def local_logits(self, maps: Tensor) -> Tensor:
        """The class activation maps with the bias (Zhou et al., CVPR 2016, Eqs. 1 and 2): (B, m, h, w).

        At each position, the logits of an image that looked everywhere as it does there. Pooling and the output layer
        are linear, so the mean over the positions is the image's logits.
        """
        logits = F.conv2d(self.blocks(maps), self.output.weight[:, :, None, None], self.output.bias)
        return logits.to(self.output.weight.dtype)

    def sample_dropout(self, count: int, random: torch.Generator) -> Tensor | None:
        """What the inputs of the output layer are multiplied with, for `count` images: (count, 8 * width) on the CPU.

        None without dropout.
        """
        kept = 1.0 - self.dropout.p
        if kept == 1.0:
            return None
        return torch.empty(count, self.output.in_features).bernoulli_(kept, generator=random).div_(kept)
