"""The four losses (paper Eqs. 4 to 7), from logits, as means over a minibatch.

P(r = 1 | x) is the sigmoid of x's real logit and P(r = 0 | x) that of its negative. The logarithm is taken of the
logit directly, so the losses and their gradients are finite for any finite logit.

Where the logits are a part of the minibatch only, `count` is the number of samples in all of it: the loss is then the
part's share of the mean, and the shares of all parts add up to it.
"""

import torch.nn.functional as F
from torch import Tensor


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


def _mean(values: Tensor, count: int | None) -> Tensor:
    return values.sum() / (len(values) if count is None else count)
