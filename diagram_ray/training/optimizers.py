"""PyTorch's optimizers without its compiler.

The first optimizer of a process imports `torch._dynamo`, on behalf of those who compile it: 1.5 seconds and 70 MiB in
each worker. Here steps are never compiled, whatever `training.compile` says of the networks.
"""

import math
from inspect import unwrap
from typing import TypeVar

import torch
from torch.optim import SGD, AdamW, Optimizer

from diagram_ray.config import TrainingConfig

T = TypeVar("T", bound=Optimizer)

_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""What PyTorch wraps in a function that keeps the compiler out, and imports it to do so."""


def _uncompiled(optimizer: type[T]) -> type[T]:
    """`optimizer` with its methods as they were written; `step` records no gradients, as ever."""
    methods = {name: unwrap(getattr(optimizer, name)) for name in _GUARDED}
    return type(optimizer.__name__, (optimizer,), methods | {"step": torch.no_grad()(unwrap(optimizer.step))})


EagerAdamW = _uncompiled(AdamW)
EagerSGD = _uncompiled(SGD)


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
