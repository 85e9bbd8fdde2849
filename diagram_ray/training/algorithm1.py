"""Algorithm 1 of the paper: its three gradient steps, their order and their optimizers.

Each gradient step has an optimizer of its own, so theta_f is in two of them and has two sets of Adam moments.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diagram_ray.config import TrainingConfig
from diagram_ray.models import DiaGRAM
from diagram_ray.training.gradient_step import GradientStep, Losses
from diagram_ray.training.objectives import InnerBatch, classifier_losses, discriminator_losses, generator_losses
from diagram_ray.training.optimizers import EagerAdamW, EagerSGD

WITH_GAN, WITHOUT_GAN = ("patch", "adversarial"), ("patch",)
"""The losses of the discriminator's step."""


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
    gradient_step: GradientStep | None = None,
) -> Iterator[Losses]:
    """One training iteration of Algorithm 1: an inner step for each of the k `batches`, then G's step with `noise`.

    Yields the losses of each gradient step after it was taken; in a group of processes, this one's parts of them.
    `batches` may draw each minibatch when it is needed. `noise` (m, latent size) is this process's share of as many
    random vectors as an inner step has.
    """
    take = (gradient_step or GradientStep()).step
    of_patches = WITHOUT_GAN if model.generator is None else WITH_GAN
    m = None
    for batch in batches:
        m = batch.m
        if optimizers.discriminator is not None:  # (theta_f, theta_d) on the mean of L_d + L_c
            objective = partial(discriminator_losses, model, batch)
            yield take("discriminator", optimizers.discriminator, len(batch.patches), of_patches, objective)
        # (theta_f, theta_e) on the mean of L_i
        objective = partial(classifier_losses, model, batch)
        yield take("classifier", optimizers.classifier, len(batch.images), ("image",), objective)
    if optimizers.generator is not None and noise is not None:  # theta_g on the mean of L_g
        objective = partial(generator_losses, model, noise, m)
        yield take("generator", optimizers.generator, len(noise), ("generator",), objective)


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
