"""Algorithm 1 of the paper: its three gradient steps and their order.

Each gradient step has an optimizer of its own, so theta_f is in two of them and has two sets of Adam moments. Losses
are returned as tensors on the device: nothing here waits for an accelerator.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diagram_ray.config import TrainingConfig
from diagram_ray.models import DiaGRAM, PatchLogits
from diagram_ray.models.norm import frozen_statistics
from diagram_ray.training.gradient_step import Descent, Losses
from diagram_ray.training.losses import adversarial_loss, generator_loss, image_loss, instance_loss, patch_loss
from diagram_ray.training.optimizers import EagerAdamW, EagerSGD


@dataclass(frozen=True)
class InnerBatch:
    """The minibatches of one inner step, m patches and random vectors and n images: this process's share of them."""

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
    dropout: Tensor | None = None
    """Of `classifier.sample_dropout`, (n, 8 * width); None: E draws what it needs."""
    m: int | None = None
    """Patches in the shares of all processes together; None: there is no other process."""
    n: int | None = None
    """Images in the shares of all processes together."""


class Optimizers:
    """One optimizer for each gradient step: no `generator` without the GAN, only `classifier` without `multi_task`.

    Parameters that need no gradient, those of frozen layers, are in none of them.
    """

    def __init__(self, model: DiaGRAM, config: TrainingConfig) -> None:
        rates = config.learning_rate
        self.discriminator = self.generator = None
        self.classifier = _optimizer(model.features, model.classifier, config, rates.classifier)
        if config.multi_task:
            self.discriminator = _optimizer(model.features, model.discriminator, config, rates.discriminator)
            if model.generator is not None:
                self.generator = _optimizer(None, model.generator, config, rates.generator)

    def named(self) -> dict[str, Optimizer]:
        """The optimizers there are, by the name of their learning rate."""
        all_three = {"discriminator": self.discriminator, "classifier": self.classifier, "generator": self.generator}
        return {name: optimizer for name, optimizer in all_three.items() if optimizer is not None}

    def scale_learning_rates(self, factor: float) -> None:
        """Sets each learning rate to `factor` times its configured value."""
        for optimizer in self.named().values():
            for group in optimizer.param_groups:
                group["lr"] = factor * group["initial_lr"]


def iterate(
    model: DiaGRAM,
    optimizers: Optimizers,
    batches: Iterable[InnerBatch],
    noise: Tensor | None,
    descent: Descent | None = None,
) -> Iterator[Losses]:
    """One training iteration of Algorithm 1: an inner step for each of the k `batches`, then G's step with `noise`.

    Yields the losses of each gradient step after it was taken; in a group of processes, this one's parts of them.
    `batches` may draw each minibatch when it is needed. `noise` (m, latent size) is this process's share of as many
    random vectors as an inner step has.
    """
    descent, m = descent or Descent(), None
    for batch in batches:
        m = batch.m
        if optimizers.discriminator is not None:
            yield update_discriminator(model, optimizers.discriminator, batch, descent)
        yield update_classifier(model, optimizers.classifier, batch, descent)
    if noise is not None and optimizers.generator is not None:
        yield update_generator(model, optimizers.generator, noise, m, descent)


def update_discriminator(model: DiaGRAM, optimizer: Optimizer, batch: InnerBatch, descent: Descent) -> Losses:
    """Descends (theta_f, theta_d) on the mean of L_d + L_c; on L_c alone without the GAN."""

    def losses(part: slice) -> Losses:
        fakes = None
        if model.generator is not None and batch.noise is not None:
            with torch.no_grad():
                fakes = model.generator(batch.noise[part])
        real, fake = _judge(model, batch.patches[part], fakes)
        found = {"patch": patch_loss(real.class_logits, batch.patch_labels[part], m)}
        if real.real_logit is not None and fake is not None and fake.real_logit is not None:
            found["adversarial"] = adversarial_loss(real.real_logit, fake.real_logit, m)
        return found

    m = len(batch.patches) if batch.m is None else batch.m
    names = ("patch", "adversarial") if model.generator is not None else ("patch",)
    return descent.step("discriminator", optimizer, len(batch.patches), names, losses)


def update_classifier(model: DiaGRAM, optimizer: Optimizer, batch: InnerBatch, descent: Descent) -> Losses:
    """Descends (theta_f, theta_e) on the mean of L_i; of a multi-instance network, on that of its own loss."""

    def losses(part: slice) -> Losses:
        dropout = batch.dropout[part] if batch.dropout is not None else None
        images, labels = batch.images[part], batch.image_labels[part]
        if model.config.classifier != "multi-instance":
            return {"image": image_loss(model(images, dropout), labels, n)}
        local = model.classifier.local_logits(model.features(images), dropout)
        return {"image": instance_loss(local, labels, model.config.multi_instance, n)}

    n = len(batch.images) if batch.n is None else batch.n
    return descent.step("classifier", optimizer, len(batch.images), ("image",), losses)


def update_generator(model: DiaGRAM, optimizer: Optimizer, noise: Tensor, m: int | None, descent: Descent) -> Losses:
    """Descends theta_g on the mean of L_g. The gradient flows through D and F, which neither move nor keep any."""
    generator = model.generator
    assert generator is not None  # noqa: S101 - there is a generator where there is its optimizer

    def losses(part: slice) -> Losses:
        with frozen_statistics(model.features):
            judged: PatchLogits = model.discriminator(model.features(generator(noise[part])))
        assert judged.real_logit is not None  # noqa: S101
        return {"generator": generator_loss(judged.real_logit, count)}

    count = len(noise) if m is None else m
    return descent.step("generator", optimizer, len(noise), ("generator",), losses)


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


def _optimizer(features: nn.Module | None, network: nn.Module, config: TrainingConfig, rate: float) -> Optimizer:
    """Adam or plain SGD, with decoupled weight decay (without momentum, SGD's penalty is the decoupled one).

    `features` has a group of its own where its learning rate differs from that of the network after it.
    """
    of_features, others = _trained(features) if features else [], _trained(network)
    groups = [(of_features + others, rate)]
    if config.features_rate != 1.0:
        groups = [(of_features, rate * config.features_rate), (others, rate)]
    described = [{"params": params, "lr": own, "initial_lr": own} for params, own in groups if params]
    optimizer: Optimizer
    if config.optimizer == "sgd":
        optimizer = EagerSGD(described, weight_decay=config.weight_decay)
    else:
        # On CPUs `fused` goes through memory as it lies: a gradient or moment that lay otherwise than its weight would
        # be mixed up without a word. Autograd lays gradients as the weights lie, and checkpoints keep the moments so.
        optimizer = EagerAdamW(described, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    if config.clip_norm is not None:
        optimizer.register_step_pre_hook(partial(_clip, config.clip_norm))
    return optimizer


def _trained(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _clip(norm: float, optimizer: Optimizer, *_: object) -> None:
    """Scales the whole gradient of one optimizer down to `norm`; here, because by now it is complete."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, norm)
