"""The four losses (paper Eqs. 4 to 7), and that of multi-instance networks, from logits, as means over a minibatch.

P(r = 1 | x) is the sigmoid of x's real logit and P(r = 0 | x) that of its negative. The logarithm is taken of the
logit directly, so the losses and their gradients are finite for any finite logit.

Where the logits are a part of the minibatch only, `count` is the number of samples in all of it: the loss is then the
part's share of the mean, and the shares of all parts add up to it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from diagram_ray.config import MultiInstanceConfig


def generator_loss(fake_logit: Tensor, count: int | None = None) -> Tensor:
    """Eq. 4: -log P(r = 1 | G(z)), the mean over z. `fake_logit` (m,)."""
    return -_mean(F.logsigmoid(fake_logit), count)


def adversarial_loss(real_logit: Tensor, fake_logit: Tensor, count: int | None = None) -> Tensor:
    """Eq. 5: -[log P(r = 1 | C) + log P(r = 0 | G(z))], the mean over C plus the mean over z. Logits (m,)."""
    return -(_mean(F.logsigmoid(real_logit), count) + _mean(F.logsigmoid(-fake_logit), count))


def patch_loss(class_logits: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
    """Eq. 6: cross-entropy of patches, the mean over C. Logits (m, classes), labels (m,) int64."""
    return F.cross_entropy(class_logits, labels, reduction="sum") / (len(labels) if count is None else count)


def image_loss(logits: Tensor, labels: Tensor, count: int | None = None) -> Tensor:
    """Eq. 7: cross-entropy of images, the mean over I. Logits (n, classes), labels (n,) int64."""
    return F.cross_entropy(logits, labels, reduction="sum") / (len(labels) if count is None else count)


def instance_loss(
    local_logits: Tensor, labels: Tensor, config: MultiInstanceConfig, count: int | None = None
) -> Tensor:
    """The losses of Zhu et al. (MICCAI 2017), by the positions' logits (n, 2, h, w); labels (n,) int64 of 0 and 1.

    With r the probabilities of class 1 at an image's P positions, the largest first, and y its label, the mean over
    the images of `max`: -log P(y), where P(1) is r_1; of `sparse`: that plus mu (r_1 + ... + r_P); of `assigned`: the
    cross-entropy, a mean over the positions, of which the first k have the label y and the others 0. Their penalty on
    the weights is `training.weight_decay`.
    """
    odds = local_logits[:, 1].flatten(1) - local_logits[:, 0].flatten(1)
    positive = labels.to(odds.dtype)[:, None]
    if config.rule == "assigned":
        ranked = odds.sort(dim=1, descending=True).values
        assigned = positive * (torch.arange(ranked.shape[1], device=odds.device) < config.positions)
        return _mean(F.binary_cross_entropy_with_logits(ranked, assigned, reduction="none").mean(dim=1), count)
    likeliest = odds.amax(dim=1, keepdim=True)
    losses = F.binary_cross_entropy_with_logits(likeliest, positive, reduction="none").squeeze(1)
    if config.rule == "sparse":
        losses = losses + config.sparsity * odds.sigmoid().sum(dim=1)
    return _mean(losses, count)


def _mean(values: Tensor, count: int | None) -> Tensor:
    return values.sum() / (len(values) if count is None else count)
