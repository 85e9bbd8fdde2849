"""The feature extraction network F (paper Sect. 2.2): shared by patches, generated patches and whole images.

Which convolutions it has is `model.features`: the paper's four layers, or the beginning of another network. The paper's
reduce a 32×32 patch to 8×8 maps, or to 2×2 with `model.reduction: 16`, as the other networks do.
"""

from itertools import accumulate, pairwise

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models import efficientnet, residual
from diagram_ray.models.norm import convolution, norm_layer, standardised_pixels

SLOPE = 0.2

Levels = tuple[list[list[nn.Module]], int]
"""Layers, in four parts, and the channels they end in."""


class FeatureExtractor(nn.Module):
    """Four levels of layers.

    (B, 1, H, W) in [-1, 1] -> (B, channels, H / reduction, W / reduction), for sides that are multiples of `reduction`;
    others are rounded up, by the paper's layers that reduce by 16 down. H and W are at least 16.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        levels, self.channels = _levels(config)
        self.layers = nn.Sequential(*(layer for level in levels for layer in level))
        self._ends = [0, *accumulate(map(len, levels))]
        self.pixels = config.pixels

    def first(self, count: int) -> nn.Sequential:
        """The first `count` of the four levels; of the paper's F, its first `count` layers."""
        return nn.Sequential(*list(self.layers)[: self._ends[count]])

    def forward(self, pixels: Tensor) -> Tensor:
        """The feature maps of images or patches."""
        maps: Tensor = self.layers(standardised_pixels(pixels) if self.pixels == "breast" else pixels)
        return maps


def _levels(config: ModelConfig) -> Levels:
    if config.features == "paper":
        return _of_the_paper(config)
    if config.features == "residual":
        return residual.levels(config.width, config.norm)
    parts, channels = efficientnet.levels(config.features, None if config.pretrained else config.norm)
    return [[level] for level in parts], channels


def reduction(config: ModelConfig) -> int:
    """How many times smaller than its input F's maps are."""
    return config.reduction if config.features == "paper" else 16


def _of_the_paper(config: ModelConfig) -> Levels:
    """Four convolutions, each followed by a normalisation and a leaky ReLU.

    The filters of the first layer are not standardised: filters of mean 0 do not see an even bright area, only grain
    and edges. They made F learn the grain of made-up training images (bright disks in noise) by heart.
    """
    w, fine = config.width, config.reduction == 4
    side, strides = (3, (2, 1, 2, 1)) if fine else (4, (2, 2, 2, 2))
    channels = (w, w, 2 * w, 2 * w) if fine else (w, 2 * w, 4 * w, 8 * w)
    levels: list[list[nn.Module]] = []
    for stride, (into, out) in zip(strides, pairwise((1, *channels)), strict=True):
        first = into == 1
        layer = (
            nn.Conv2d(1, w, side, 2, 1, bias=not fine) if first else convolution(config.norm, into, out, side, stride)
        )
        nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        normalised = [] if first and not fine else [norm_layer(config.norm, out)]
        levels.append([layer, *normalised, nn.LeakyReLU(SLOPE)])
    return levels, channels[-1]
