"""How the learning rates change over the epochs."""

import math

from diagram_ray.config import TrainingConfig


def rate_factor(config: TrainingConfig, epoch: int) -> float:
    """What the configured learning rates are multiplied with in an epoch, counted from 0.

    Warm-up rises in equal steps: with `warmup_epochs` of 3 the factors are 1/4, 2/4, 3/4 and then the schedule's first.
    The schedule has the epochs that are left; a cosine falls from 1 and would be 0 after `epochs`.
    """
    if epoch < config.warmup_epochs:
        return (epoch + 1) / (config.warmup_epochs + 1)
    if config.schedule == "constant":
        return 1.0
    done = (epoch - config.warmup_epochs) / (config.epochs - config.warmup_epochs)
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
