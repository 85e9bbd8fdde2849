"""What the three gradient steps of Algorithm 1 descend: the losses of a part of a minibatch, by their names.

Losses are returned as tensors on the device: nothing here waits for an accelerator.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from diagram_ray.models import DiaGRAM, PatchLogits
from diagram_ray.models.norm import frozen_statistics
from diagram_ray.training.losses import adversarial_loss, generator_loss, image_loss, instance_loss, patch_loss


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


def discriminator_losses(model: DiaGRAM, batch: InnerBatch, part: slice) -> dict[str, Tensor]:
    """L_c of a part of the patches, and with the GAN L_d: theta_f and theta_d descend their sum."""
    m = len(batch.patches) if batch.m is None else batch.m
    fakes = None
    if model.generator is not None and batch.noise is not None:
        with torch.no_grad():
            fakes = model.generator(batch.noise[part])
    real, fake = _judge(model, batch.patches[part], fakes)
    losses = {"patch": patch_loss(real.class_logits, batch.patch_labels[part], m)}
    if real.real_logit is not None and fake is not None and fake.real_logit is not None:
        losses["adversarial"] = adversarial_loss(real.real_logit, fake.real_logit, m)
    return losses


def classifier_losses(model: DiaGRAM, batch: InnerBatch, part: slice) -> dict[str, Tensor]:
    """L_i of a part of the images, or a multi-instance network's own loss: theta_f and theta_e descend it."""
    n = len(batch.images) if batch.n is None else batch.n
    dropout = batch.dropout[part] if batch.dropout is not None else None
    images, labels = batch.images[part], batch.image_labels[part]
    if model.config.classifier != "multi-instance":
        return {"image": image_loss(model(images, dropout), labels, n)}
    local = model.classifier.local_logits(model.features(images), dropout)
    return {"image": instance_loss(local, labels, model.config.multi_instance, n)}


def generator_losses(model: DiaGRAM, noise: Tensor, m: int | None, part: slice) -> dict[str, Tensor]:
    """L_g of a part of the `noise`, of `m` random vectors in all processes: theta_g descends it.

    The gradient flows through D and F, which neither move nor keep any.
    """
    assert model.generator is not None  # noqa: S101 - there is a generator where there is its optimizer
    with frozen_statistics(model.features):
        judged: PatchLogits = model.discriminator(model.features(model.generator(noise[part])))
    assert judged.real_logit is not None  # noqa: S101
    return {"generator": generator_loss(judged.real_logit, len(noise) if m is None else m)}


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
