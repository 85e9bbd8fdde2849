"""A transcription of the equations of the paper's Algorithm 1 that shares no code with the package.

It keeps the parameters in a dict, spells out every layer, takes probabilities from an explicit softmax and sigmoid,
sums over S_C, S_z and S_I one sample at a time, and has its own SGD and Adam.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from diagram_ray.config import LearningRates, ModelConfig, TrainingConfig
from diagram_ray.models import DiaGRAM
from diagram_ray.training.algorithm1 import Optimizers
from diagram_ray.training.objectives import InnerBatch

M, N, LATENT = 3, 2, 5
RATES = {"discriminator": 0.002, "classifier": 0.003, "generator": 0.005}
BETAS = (0.5, 0.99)
DECAY = 0.1


# --- the paper, transcribed -----------------------------------------------------------------------------------------


@dataclass
class Paper:
    theta: dict[str, Tensor]
    norm: str
    pixels: str
    reduction: int
    gan: bool
    optimizer: str
    moments: dict[str, dict[str, tuple[Tensor, Tensor, int]]] = field(default_factory=dict)

    def filters(self, name: str) -> Tensor:
        """The weights of a convolution of F or E, each filter standardised where that is asked for."""
        weight = self.theta[f"{name}.weight"]
        if self.norm != "weight-standardised" or name == "features.layers.0":
            return weight
        fan_in = weight[0].numel()
        each = []
        for w in weight:
            centred = w - w.sum() / fan_in
            each.append(centred / torch.sqrt((centred**2).sum() / fan_in + 1e-10) / fan_in**0.5)
        return torch.stack(each)

    def standardise(self, x: Tensor) -> Tensor:
        """Mean 0 and variance 1 of each sample's pixels above -1; the others are 0."""
        each = []
        for sample in x:
            breast = sample[sample > -1]
            mean = breast.sum() / len(breast)
            sd = torch.sqrt(((breast - mean) ** 2).sum() / len(breast) + 1e-4)
            each.append(torch.where(sample > -1, (sample - mean) / sd, 0))
        return torch.stack(each)

    def normalise(self, x: Tensor, name: str) -> Tensor:
        b, c, h, w = x.shape
        if self.norm == "batch":
            mean = x.mean(dim=(0, 2, 3), keepdim=True)
            variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
            y = (x - mean) / torch.sqrt(variance + 1e-5)
        else:
            groups = max(g for g in (1, 2, 4, 8) if c % g == 0)
            x = x.reshape(b, groups, -1)
            mean = x.mean(dim=2, keepdim=True)
            variance = ((x - mean) ** 2).mean(dim=2, keepdim=True)
            y = ((x - mean) / torch.sqrt(variance + 1e-5)).reshape(b, c, h, w)
        return y * self.theta[f"{name}.weight"].reshape(1, c, 1, 1) + self.theta[f"{name}.bias"].reshape(1, c, 1, 1)

    def generate(self, z: Tensor) -> Tensor:
        x = z @ self.theta["generator.start.weight"].T + self.theta["generator.start.bias"]
        x = x.reshape(len(z), -1, 2, 2)
        for place in (0, 3, 6, 9):
            x = self.normalise(x, f"generator.layers.{place}").clamp(min=0)
            bias = self.theta.get(f"generator.layers.{place + 2}.bias")
            x = F.conv_transpose2d(x, self.theta[f"generator.layers.{place + 2}.weight"], bias, stride=2, padding=1)
        return (torch.exp(2 * x) - 1) / (torch.exp(2 * x) + 1)

    def features(self, x: Tensor) -> Tensor:
        if self.pixels == "breast":
            x = self.standardise(x)
        strides = (2, 1, 2, 1) if self.reduction == 4 else (2, 2, 2, 2)
        places = ((0, 1), (3, 4), (6, 7), (9, 10)) if self.reduction == 4 else ((0, None), (2, 3), (5, 6), (8, 9))
        for stride, (place, norm) in zip(strides, places, strict=True):
            bias = self.theta.get(f"features.layers.{place}.bias")
            x = F.conv2d(x, self.filters(f"features.layers.{place}"), bias, stride=stride, padding=1)
            if norm is not None:
                x = self.normalise(x, f"features.layers.{norm}")
            x = torch.where(x > 0, x, 0.2 * x)
        return x

    def discriminate(self, maps: Tensor) -> Tensor:
        weight, bias = self.theta["discriminator.neurons.weight"], self.theta["discriminator.neurons.bias"]
        return maps.reshape(len(maps), -1) @ weight.T + bias

    def classify(self, x: Tensor) -> Tensor:
        for block, stride in enumerate((2 if self.reduction == 4 else 1, 1, 2, 1, 2, 1)):
            name = f"classifier.blocks.{block}"
            y = F.conv2d(x, self.filters(f"{name}.first"), stride=stride, padding=1)
            y = self.normalise(y, f"{name}.first_norm").clamp(min=0)
            y = self.normalise(F.conv2d(y, self.filters(f"{name}.second"), padding=1), f"{name}.second_norm")
            x = x if stride == 1 else halve(x)
            if y.shape[1] != x.shape[1]:
                x = self.normalise(F.conv2d(x, self.filters(f"{name}.widen.0")), f"{name}.widen.1")
            x = (y + x).clamp(min=0)
        pooled = x.mean(dim=3).mean(dim=2)
        return softmax(pooled @ self.theta["classifier.output.weight"].T + self.theta["classifier.output.bias"])

    def loss_d_and_c(self, batch: InnerBatch) -> Tensor:
        real = self.discriminate(self.features(batch.patches))
        total = torch.zeros((), dtype=torch.float64)
        for neurons, label in zip(real, batch.patch_labels, strict=True):
            total = total - torch.log(softmax(neurons[None, :2])[0, label])
        if self.gan:
            fake = self.discriminate(self.features(self.generate(batch.noise)))
            for neurons in real:
                total = total - torch.log(sigmoid(neurons[2]))
            for neurons in fake:
                total = total - torch.log(1 - sigmoid(neurons[2]))
        return total / M

    def loss_i(self, batch: InnerBatch) -> Tensor:
        probabilities = self.classify(self.features(batch.images))
        losses = [-torch.log(p[label]) for p, label in zip(probabilities, batch.image_labels, strict=True)]
        return sum(losses, torch.zeros((), dtype=torch.float64)) / N

    def loss_g(self, noise: Tensor) -> Tensor:
        losses = [-torch.log(sigmoid(neurons[2])) for neurons in self.discriminate(self.features(self.generate(noise)))]
        return sum(losses, torch.zeros((), dtype=torch.float64)) / M

    def descend(self, step: str, networks: tuple[str, ...], loss: Tensor) -> None:
        names = [name for name in self.theta if name.split(".")[0] in networks]
        gradients = torch.autograd.grad(loss, [self.theta[name] for name in names])
        for name, gradient in zip(names, gradients, strict=True):
            with torch.no_grad():
                new = self.moved(step, name, gradient)
            self.theta[name] = new.requires_grad_()

    def moved(self, step: str, name: str, gradient: Tensor) -> Tensor:
        rate, theta = RATES[step], self.theta[name] * (1 - RATES[step] * DECAY)
        if self.optimizer == "sgd":
            return theta - rate * gradient
        zero = torch.zeros_like(theta)
        first, second, t = self.moments.setdefault(step, {}).get(name, (zero, zero, 0))
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient**2
        self.moments[step][name] = (first, second, t + 1)
        first_hat, second_hat = first / (1 - BETAS[0] ** (t + 1)), second / (1 - BETAS[1] ** (t + 1))
        return theta - rate * first_hat / (torch.sqrt(second_hat) + 1e-8)

    def iteration(self, batches: list[InnerBatch], noise: Tensor | None) -> None:
        for batch in batches:
            self.descend("discriminator", ("features", "discriminator"), self.loss_d_and_c(batch))
            self.descend("classifier", ("features", "classifier"), self.loss_i(batch))
        if self.gan:
            self.descend("generator", ("generator",), self.loss_g(noise))


def softmax(x: Tensor) -> Tensor:
    return torch.exp(x) / torch.exp(x).sum(dim=1, keepdim=True)


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def halve(x: Tensor) -> Tensor:
    """Means of 2×2 squares; at an odd edge, of what there is of the square."""
    rows = [x[:, :, i : i + 2].mean(dim=2) for i in range(0, x.shape[2], 2)]
    x = torch.stack(rows, dim=2)
    return torch.stack([x[:, :, :, j : j + 2].mean(dim=3) for j in range(0, x.shape[3], 2)], dim=3)


# --- the comparison -------------------------------------------------------------------------------------------------


def make(
    norm: str = "weight-standardised", gan: bool = True, optimizer: str = "adam"
) -> tuple[DiaGRAM, Optimizers, Paper]:
    torch.manual_seed(0)
    pixels, reduction = ("breast", 4) if norm == "weight-standardised" else ("range", 16)
    settings = {"norm": norm, "pixels": pixels, "reduction": reduction, "gan": gan}
    config = ModelConfig(width=4, generator_width=4, latent_size=LATENT, **settings)
    model = DiaGRAM(config).double()
    with torch.no_grad():  # away from the initial values, where some gradients are zero
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    training = TrainingConfig(
        optimizer=optimizer, learning_rate=LearningRates(**RATES), betas=BETAS, weight_decay=DECAY, k=1
    )
    theta = {name: value.detach().clone().requires_grad_() for name, value in model.named_parameters()}
    return model, Optimizers(model, training), Paper(theta, **settings, optimizer=optimizer)


def draw(k: int, gan: bool) -> tuple[list[InnerBatch], Tensor | None]:
    random = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random, dtype=torch.float64) * 2 - 1

    def images() -> Tensor:
        """A third of them is background."""
        pixels = uniform(N, 1, 80, 48)
        pixels[..., 32:] = -1.0
        return pixels

    batches = [
        InnerBatch(
            patches=uniform(M, 1, 32, 32),
            patch_labels=torch.tensor([0, 1, 1]),
            noise=uniform(M, LATENT) if gan else None,
            images=images(),
            image_labels=torch.tensor([1, 0]),
        )
        for _ in range(k)
    ]
    return batches, uniform(M, LATENT) if gan else None
