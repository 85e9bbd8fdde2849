"""The generator network G (paper Sect. 2.2)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.norm import norm_layer

DOUBLINGS = 4


class Generator(nn.Module):
    """One fully connected and four transposed convolution layers.

    z (B, n) with entries in [-1, 1] -> patches (B, 1, s, s) in (-1, 1). The fully connected layer makes maps of s / 16,
    and each transposed convolution doubles them (8g -> 4g -> 2g -> g -> 1 channels).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        g = config.generator_width
        self.side = config.patch_size // 2**DOUBLINGS
        self.latent_size = config.latent_size
        self.start = nn.Linear(config.latent_size, 8 * g * self.side**2)
        layers: list[nn.Module] = []
        for into, out in pairwise((8 * g, 4 * g, 2 * g, g, 1)):
            layers += [norm_layer(config.norm, into), nn.ReLU()]
            layers.append(nn.ConvTranspose2d(into, out, kernel_size=4, stride=2, padding=1, bias=out == 1))
        self.layers = nn.Sequential(*layers, nn.Tanh())
        self._initialise()

    def _initialise(self) -> None:
        """Small normal weights, as Radford et al. (ICLR 2016): G starts with nearly uniform grey patches."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, noise: Tensor) -> Tensor:
        """Patches made from random vectors."""
        maps = self.start(noise).unflatten(1, (-1, self.side, self.side))
        patches: Tensor = self.layers(maps)
        return patches

    def sample_noise(self, count: int, random: torch.Generator) -> Tensor:
        """Noise: `count` vectors z ~ U[-1, 1]^n, on the CPU: (count, n)."""
        return torch.rand(count, self.latent_size, generator=random) * 2.0 - 1.0
