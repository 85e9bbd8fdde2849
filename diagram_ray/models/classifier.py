"""The extended classification network E (paper Sect. 2.2, Eq. 3), and the others that may stand in its place.

Which layers it has is `model.classifier`: the paper's six residual blocks, the rest of the network that F is the
beginning of, or none before the output layer.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models import efficientnet, residual
from diagram_ray.models.features import reduction
from diagram_ray.models.residual import ResidualBlock

BLOCKS = {
    4: ((2, 2), (1, 2), (2, 4), (1, 4), (2, 4), (1, 4)),
    16: ((1, 1), (1, 1), (2, 1), (1, 1), (2, 1), (1, 1)),
}
"""The paper's six residual blocks, by the reduction of F: the stride, and the channels as a multiple of F's.

The last maps are 1/32 or 1/64 of the image."""


class ExtendedClassifier(nn.Module):
    """Blocks, global average pooling, dropout and the output layer.

    F's maps (B, channels, H, W) -> (B, m) logits, for any H and W; their softmax is P(y = i | I).
    """

    def __init__(self, config: ModelConfig, channels: int) -> None:
        super().__init__()
        self.blocks, ends, halvings = _blocks(config, channels)
        self.cell: int = reduction(config) * 2**halvings
        """Pixels of an image, along each side, that one position of the last maps stands for."""
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(ends, config.num_classes)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def forward(self, maps: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The logits of images' feature maps; with the `dropout` drawn before, if it is given."""
        pooled = self.blocks(maps).mean(dim=(2, 3))
        logits: Tensor = self.output(self.dropout(pooled) if dropout is None else pooled * dropout)
        return logits.to(self.output.weight.dtype)  # the losses need it, where autocast is on

    def local_logits(self, maps: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The class activation maps with the bias (Zhou et al., CVPR 2016, Eqs. 1 and 2): (B, m, h, w).

        At each position, the logits of an image that looked everywhere as it does there. Pooling and the output layer
        are linear, so the mean over the positions is the image's logits.
        """
        last = self.blocks(maps)
        if dropout is not None:
            last = last * dropout[:, :, None, None]
        logits = F.conv2d(last, self.output.weight[:, :, None, None], self.output.bias)
        return logits.to(self.output.weight.dtype)

    def sample_dropout(self, count: int, random: torch.Generator) -> Tensor | None:
        """What the inputs of the output layer are multiplied with, for `count` images: (count, channels) on the CPU.

        None without dropout.
        """
        kept = 1.0 - self.dropout.p
        if kept == 1.0:
            return None
        return torch.empty(count, self.output.in_features).bernoulli_(kept, generator=random).div_(kept)


class MultiInstanceClassifier(ExtendedClassifier):
    """The multi-instance network of Zhu et al. (MICCAI 2017): an image is as malignant as its most malignant position.

    One logistic regression on F's maps is applied at every position; the image's logits are those of the position
    where the last of two classes is likeliest. `training.losses.instance_loss` has the three ways to train it. In
    place of their AlexNet, F is what `model.features` says.
    """

    def forward(self, maps: Tensor, dropout: Tensor | None = None) -> Tensor:
        """The logits of images' feature maps; with the `dropout` drawn before, if it is given."""
        local = self.local_logits(maps, dropout).flatten(2)
        likeliest = (local[:, 1] - local[:, 0]).argmax(dim=1)
        return local.gather(2, likeliest[:, None, None].expand(-1, 2, 1)).squeeze(2)


def make_classifier(config: ModelConfig, channels: int) -> ExtendedClassifier:
    """E for maps of `channels`, as `model.classifier` says."""
    kind = MultiInstanceClassifier if config.classifier == "multi-instance" else ExtendedClassifier
    return kind(config, channels)


def _blocks(config: ModelConfig, channels: int) -> tuple[nn.Sequential, int, int]:
    """What stands before the pooling, the channels it ends in, and how often it halves the maps."""
    if config.classifier in ("linear", "multi-instance"):
        return nn.Sequential(), channels, 0
    if config.classifier == "backbone" and config.features == "residual":
        return nn.Sequential(*residual.rest(channels, config.norm)), channels, 1
    if config.classifier == "backbone" and config.features != "paper":
        return *efficientnet.rest(config.features, None if config.pretrained else config.norm), 1
    return _of_the_paper(config, channels)


def _of_the_paper(config: ModelConfig, channels: int) -> tuple[nn.Sequential, int, int]:
    strides, multiples = zip(*BLOCKS[reduction(config)], strict=True)
    widths = [channels, *(channels * multiple for multiple in multiples)]
    blocks = [
        ResidualBlock(into, out, stride, config.norm)
        for (into, out), stride in zip(pairwise(widths), strides, strict=True)
    ]
    return nn.Sequential(*blocks), widths[-1], strides.count(2)
