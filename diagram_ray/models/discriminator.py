"""The discriminator network D (paper Sect. 2.2, Eqs. 1 and 2)."""

from typing import NamedTuple

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.features import reduction


class PatchLogits(NamedTuple):
    """What D says of patches, before the softmax and the sigmoid."""

    class_logits: Tensor
    """The logits of the classes, (B, m); their softmax is P(y = i | C), Eq. 1."""
    real_logit: Tensor | None
    """The logit of a patch's being real, (B,); its sigmoid is P(r = 1 | x), Eq. 2. None without the GAN."""


class Discriminator(nn.Module):
    """A single fully connected layer over a patch's feature maps: m class neurons and, with the GAN, one real/fake.

    F's maps (B, channels, s // reduction, s // reduction) -> PatchLogits.
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        inputs = channels * (config.patch_size // reduction(config)) ** 2
        self.neurons = nn.Linear(inputs, config.num_classes + config.gan)
        nn.init.normal_(self.neurons.weight, std=0.02)
        nn.init.zeros_(self.neurons.bias)

    def forward(self, maps: Tensor) -> PatchLogits:
        """The logits of patches' feature maps."""
        # The losses take the logarithm of small differences: not in half precision, where autocast is on.
        logits = self.neurons(maps.flatten(1)).to(self.neurons.weight.dtype)
        has_real = logits.shape[1] > self.num_classes
        return PatchLogits(logits[:, : self.num_classes], logits[:, -1] if has_real else None)
