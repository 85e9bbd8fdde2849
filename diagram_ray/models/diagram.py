"""DiaGRAM (paper Fig. 1a): G, F, D and E put together."""

from torch import Tensor, nn

from diagram_ray.config import ModelConfig
from diagram_ray.models.classifier import make_classifier
from diagram_ray.models.discriminator import Discriminator
from diagram_ray.models.features import FeatureExtractor
from diagram_ray.models.generator import Generator


class DiaGRAM(nn.Module):
    """The four networks. F and E classify images; F and D classify patches; G, F and D are a GAN.

    Other networks for whole images are an F and an E too, trained without D and G.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config) if config.gan else None
        self.features = FeatureExtractor(config)
        self.discriminator = Discriminator(config, self.features.channels)
        self.classifier = make_classifier(config, self.features.channels)

    def forward(self, images: Tensor, dropout: Tensor | None = None) -> Tensor:
        """Class logits (B, m) of images (B, 1, H, W) in [-1, 1], H and W at least 16.

        `dropout`, of `classifier.sample_dropout`, takes the place of what a model in train mode would draw.
        """
        logits: Tensor = self.classifier(self.features(images), dropout)
        return logits
