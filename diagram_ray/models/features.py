"""The feature extraction network F (paper Sect. 2.2): shared by patches, generated patches and whole images."""

from itertools import pairwise

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.norm import convolution, norm_layer, standardised_pixels

REDUCTION = 16
"""F's maps are this many times smaller than its input."""
SLOPE = 0.2


class FeatureExtractor(nn.Module):
    """Four 4×4 convolutions of stride 2, each followed by a leaky ReLU; layers 2 to 4 are normalised.

    The first layer is not: standardised filters there made F learn the grain of made-up training images by
    heart (bright disks in noise); on real films the two have not been compared.

    (B, 1, H, W) in [-1, 1] -> (B, 8 * width, H // 16, W // 16). H and W are at least 16.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w = config.width
        layers: list[nn.Module] = []
        for into, out in pairwise((1, w, 2 * w, 4 * w, 8 * w)):
            first = into == 1
            # Filters of mean 0 do not see an even bright area, only grain and edges: the first layer's are as they are.
            layer = nn.Conv2d(1, w, 4, 2, 1) if first else convolution(config.norm, into, out, side=4, stride=2)
            nn.init.kaiming_normal_(layer.weight, a=SLOPE)
            normalised = [] if first else [norm_layer(config.norm, out)]
            layers += [layer, *normalised, nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*layers)
        self.pixels = config.pixels

    def first(self, count: int) -> nn.Sequential:
        """The first `count` of the four layers, each a convolution with what follows it."""
        ends = [place + 1 for place, layer in enumerate(self.layers) if isinstance(layer, nn.LeakyReLU)]
        return nn.Sequential(*list(self.layers)[: ends[count - 1] if count else 0])

    def forward(self, pixels: Tensor) -> Tensor:
        """The feature maps of images or patches."""
        maps: Tensor = self.layers(standardised_pixels(pixels) if self.pixels == "breast" else pixels)
        return maps
