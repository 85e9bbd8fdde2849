"""The feature extraction network F (paper Sect. 2.2): shared by patches, generated patches and whole images.

Which convolutions it has is `model.features`: the paper's four layers, or the beginning of another network. All of them
halve the maps four times, so a 32×32 patch becomes 2×2 maps, and an image maps of 1/16.
"""

from itertools import accumulate, pairwise

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models import efficientnet, residual
from diagram_ray.models.norm import convolution, norm_layer, standardised_pixels

REDUCTION = 16
"""F's maps are this many times smaller than its input."""
SLOPE = 0.2

Levels = tuple[list[list[nn.Module]], int]
"""Layers at 1/2, 1/4, 1/8 and 1/16 of the image, and the channels they end in."""


class FeatureExtractor(nn.Module):
    """Four levels of layers, each of which halves the maps.

    (B, 1, H, W) in [-1, 1] -> (B, channels, H / 16, W / 16), for sides that are multiples of 16; of others the paper's
    layers round down and the other networks up. H and W are at least 16.
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
    made, channels = efficientnet.levels(config.features, None if config.pretrained else config.norm)
    return [[level] for level in made], channels


def _of_the_paper(config: ModelConfig) -> Levels:
    """Four 4×4 convolutions of stride 2, each followed by a leaky ReLU; layers 2 to 4 are normalised.

    The first layer is not: standardised filters there made F learn the grain of its training images by heart.
    """
    w = config.width
    levels: list[list[nn.Module]] = []
    for into, out in pairwise((1, w, 2 * w, 4 * w, 8 * w)):
        first = into == 1
        # Filters of mean 0 do not see an even bright area, only grain and edges: the first layer's are as they are.
        layer = nn.Conv2d(1, w, 4, 2, 1) if first else convolution(config.norm, into, out, side=4, stride=2)
        nn.init.kaiming_normal_(layer.weight, a=SLOPE)
        normalised = [] if first else [norm_layer(config.norm, out)]
        levels.append([layer, *normalised, nn.LeakyReLU(SLOPE)])
    return levels, 8 * w
