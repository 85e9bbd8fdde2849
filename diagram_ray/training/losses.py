"""The four losses (paper Eqs. 4 to 7), from logits, as means over a minibatch.

P(r = 1 | x) is the sigmoid of x's real logit and P(r = 0 | x) that of its negative. The logarithm is taken of the
logit directly, so the losses and their gradients are finite for any finite logit.
"""

import torch.nn.functional as F
from torch import Tensor


def generator_loss(fake_logit: Tensor) -> Tensor:
    """Eq. 4: -log P(r = 1 | G(z)), the mean over z. `fake_logit` (m,)."""
    return -F.logsigmoid(fake_logit).mean()


def adversarial_loss(real_logit: Tensor, fake_logit: Tensor) -> Tensor:
    """Eq. 5: -[log P(r = 1 | C) + log P(r = 0 | G(z))], the mean over C plus the mean over z. Logits (m,)."""
    return -(F.logsigmoid(real_logit).mean() + F.logsigmoid(-fake_logit).mean())


def patch_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 6: cross-entropy of patches, the mean over C. Logits (m, classes), labels (m,) int64."""
    return F.cross_entropy(class_logits, labels)


def image_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 7: cross-entropy of images, the mean over I. Logits (n, classes), labels (n,) int64."""
    return F.cross_entropy(logits, labels)
