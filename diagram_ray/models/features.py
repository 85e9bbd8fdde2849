"""The feature extraction network F (paper Sect. 2.2): shared by patches, generated patches and whole images."""

from itertools import pairwise

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.norm import norm_layer
from diagram_ray.models.pixels import FromPixels

REDUCTION = 16
"""F's maps are this many times smaller than its input."""
SLOPE = 0.2


class FeatureExtractor(nn.Module):
    """Four 4×4 convolutions of stride 2, each followed by a leaky ReLU; layers 2 to 4 are normalised.

    (B, 1, H, W) in [-1, 1] -> (B, 8 * width, H // 16, W // 16). H and W are at least 16.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w = config.width
        layers: list[nn.Module] = []
        for into, out in pairwise((1, w, 2 * w, 4 * w, 8 * w)):
            first = into == 1
            convolution = FromPixels(out) if first else nn.Conv2d(into, out, 4, stride=2, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, a=SLOPE)
            normalised = [] if first else [norm_layer(config.norm, out)]
            layers += [convolution, *normalised, nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)

    def first(self, count: int) -> nn.Sequential:
        """The first `count` of the four layers, each a convolution with what follows it."""
        ends = [place + 1 for place, layer in enumerate(self.layers) if isinstance(layer, nn.LeakyReLU)]
        return nn.Sequential(*list(self.layers)[: ends[count - 1] if count else 0])

    def forward(self, pixels: Tensor) -> Tensor:
        """The feature maps of images or patches."""
        maps: Tensor = self.layers(pixels)
        return maps
