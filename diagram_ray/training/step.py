"""Algorithm 1 of the paper: its three gradient steps and their order.

Each gradient step has an optimizer of its own, so theta_f is in two of them and has two sets of Adam moments. Losses
are returned as tensors on the device: nothing here waits for an accelerator.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from diagram_ray.config import TrainingConfig
from diagram_ray.models import DiaGRAM, PatchLogits
from diagram_ray.models.norm import frozen_statistics
from diagram_ray.training.losses import adversarial_loss, generator_loss, image_loss, patch_loss

Losses = dict[str, Tensor]


@dataclass(frozen=True)
class InnerBatch:
    """The minibatches of one inner step: m patches and random vectors, n images."""

    patches: Tensor
    """S_C (m, 1, s, s) in [-1, 1]."""
    patch_labels: Tensor
    """(m,) int64"""
    noise: Tensor | None
    """S_z (m, latent size); None without the GAN."""
    images: Tensor
    """S_I (n, 1, H, W) in [-1, 1]."""
    image_labels: Tensor
    """(n,) int64"""


class Optimizers:
    """One optimizer for each gradient step; `generator` is None without the GAN."""

    def __init__(self, model: DiaGRAM, config: TrainingConfig) -> None:
        rates = config.learning_rate
        self.config = config
        self.discriminator = _optimizer([model.features, model.discriminator], config, rates.discriminator)
        self.classifier = _optimizer([model.features, model.classifier], config, rates.classifier)
        self.generator = _optimizer([model.generator], config, rates.generator) if model.generator else None

    def named(self) -> dict[str, Optimizer]:
        """The optimizers there are, by the name of their learning rate."""
        all_three = {"discriminator": self.discriminator, "classifier": self.classifier, "generator": self.generator}
        return {name: optimizer for name, optimizer in all_three.items() if optimizer is not None}

    def scale_learning_rates(self, factor: float) -> None:
        """Sets each learning rate to `factor` times its configured value."""
        for name, optimizer in self.named().items():
            for group in optimizer.param_groups:
                group["lr"] = factor * getattr(self.config.learning_rate, name)


def iterate(
    model: DiaGRAM, optimizers: Optimizers, batches: Iterable[InnerBatch], noise: Tensor | None
) -> Iterator[Losses]:
    """One training iteration of Algorithm 1: an inner step for each of the k `batches`, then G's step with `noise`.

    Yields the losses of each gradient step after it was taken. `batches` may draw each minibatch when it is needed.
    """
    for batch in batches:
        yield update_discriminator(model, optimizers.discriminator, batch)
        yield update_classifier(model, optimizers.classifier, batch)
    if noise is not None and optimizers.generator is not None:
        yield update_generator(model, optimizers.generator, noise)


def update_discriminator(model: DiaGRAM, optimizer: Optimizer, batch: InnerBatch) -> Losses:
    """Descends (theta_f, theta_d) on the mean of L_d + L_c; on L_c alone without the GAN."""
    with torch.no_grad():
        fakes = model.generator(batch.noise) if model.generator is not None else None
    real, fake = _judge(model, batch.patches, fakes)
    losses = {"patch": patch_loss(real.class_logits, batch.patch_labels)}
    if real.real_logit is not None and fake is not None and fake.real_logit is not None:
        losses["adversarial"] = adversarial_loss(real.real_logit, fake.real_logit)
    return _descend(optimizer, losses)


def update_classifier(model: DiaGRAM, optimizer: Optimizer, batch: InnerBatch) -> Losses:
    """Descends (theta_f, theta_e) on the mean of L_i."""
    return _descend(optimizer, {"image": image_loss(model(batch.images), batch.image_labels)})


def update_generator(model: DiaGRAM, optimizer: Optimizer, noise: Tensor) -> Losses:
    """Descends theta_g on the mean of L_g. The gradient flows through D and F, which neither move nor keep any."""
    assert model.generator is not None  # noqa: S101 - there is a generator where there is its optimizer
    with frozen_statistics(model.features):
        judged: PatchLogits = model.discriminator(model.features(model.generator(noise)))
    assert judged.real_logit is not None  # noqa: S101
    return _descend(optimizer, {"generator": generator_loss(judged.real_logit)})


def _judge(model: DiaGRAM, patches: Tensor, fakes: Tensor | None) -> tuple[PatchLogits, PatchLogits | None]:
    """D's verdict on real and generated patches.

    In one pass where the normalisation keeps samples apart, for speed; batch norm would mix real with generated ones.
    """
    with frozen_statistics(model.features):
        if fakes is None:
            return model.discriminator(model.features(patches)), None
        if model.config.norm == "batch":
            return model.discriminator(model.features(patches)), model.discriminator(model.features(fakes))
        both: PatchLogits = model.discriminator(model.features(torch.cat([patches, fakes])))
    assert both.real_logit is not None  # noqa: S101
    m = len(patches)
    real = PatchLogits(both.class_logits[:m], both.real_logit[:m])
    return real, PatchLogits(both.class_logits[m:], both.real_logit[m:])


def _descend(optimizer: Optimizer, losses: Losses) -> Losses:
    """One step of `optimizer` on the sum of `losses`; gradients reach its parameters only, and are then dropped."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.stack(list(losses.values())).sum().backward(inputs=parameters)  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return {name: loss.detach() for name, loss in losses.items()}


def _optimizer(networks: list[nn.Module], config: TrainingConfig, learning_rate: float) -> Optimizer:
    """Adam or plain SGD, with decoupled weight decay (without momentum, SGD's penalty is the decoupled one)."""
    parameters = [parameter for network in networks for parameter in network.parameters()]
    if config.optimizer == "sgd":
        return SGD(parameters, lr=learning_rate, weight_decay=config.weight_decay)
    return AdamW(parameters, lr=learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True)
