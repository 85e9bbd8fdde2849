"""The residual block of E, and of the residual network that F may be the beginning of."""

import torch.nn.functional as F
from torch import Tensor, nn

from diagram_ray.models.norm import Norm, convolution, norm_layer


class ResidualBlock(nn.Module):
    """Two normalised 3×3 convolutions with a shortcut (He et al., CVPR 2016; paper Fig. 1b).

    (B, into, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)). Where the block halves the map, so does its
    shortcut, by averaging; where the channels change, a normalised 1×1 convolution brings it to their number.
    """

    def __init__(self, into: int, out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.stride = stride
        self.first = convolution(norm, into, out, side=3, stride=stride)
        self.first_norm = norm_layer(norm, out)
        self.second = convolution(norm, out, out, side=3)
        self.second_norm = norm_layer(norm, out)
        layers = [self.first, self.second]
        self.widen = None
        if into != out:
            layers.append(convolution(norm, into, out, side=1))
            self.widen = nn.Sequential(layers[-1], norm_layer(norm, out))
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, maps: Tensor) -> Tensor:
        """The maps that the block makes of `maps` (B, C, h, w)."""
        inner = F.relu(self.first_norm(self.first(maps)))
        inner = self.second_norm(self.second(inner))
        shortcut = maps if self.stride == 1 else F.avg_pool2d(maps, self.stride, ceil_mode=True)
        if self.widen is not None:
            shortcut = self.widen(shortcut)
        return F.relu(inner + shortcut)


def levels(width: int, norm: Norm) -> tuple[list[list[nn.Module]], int]:
    """The layers of a residual network at 1/2, 1/4, 1/8 and 1/16 of the image, and the channels they end in.

    A convolution, whose filters are not standardised, as in the paper's F; then two blocks at each of 1/4, 1/8 and
    1/16: `width` channels, and twice as many at each.
    """
    stem = nn.Conv2d(1, width, 4, 2, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, nonlinearity="relu")
    parts: list[list[nn.Module]] = [[stem, norm_layer(norm, width), nn.ReLU()]]
    for level in range(3):
        into = width * 2**level
        parts.append([ResidualBlock(into, 2 * into, 2, norm), ResidualBlock(2 * into, 2 * into, 1, norm)])
    return parts, 8 * width


def rest(channels: int, norm: Norm) -> list[nn.Module]:
    """The layers after those of `levels`, at 1/32."""
    return [ResidualBlock(channels, channels, 2, norm), ResidualBlock(channels, channels, 1, norm)]
