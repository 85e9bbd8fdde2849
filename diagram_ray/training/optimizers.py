"""PyTorch's optimizers without its compiler.

The first optimizer of a process imports `torch._dynamo`, on behalf of those who compile it: 1.5 seconds and 70 MiB in
each worker. Here steps are never compiled, whatever `training.compile` says of the networks.
"""

from inspect import unwrap
from typing import TypeVar

import torch
from torch.optim import SGD, AdamW, Optimizer

T = TypeVar("T", bound=Optimizer)

_GUARDED = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
"""What PyTorch wraps in a function that keeps the compiler out, and imports it to do so."""


def _uncompiled(optimizer: type[T]) -> type[T]:
    """`optimizer` with its methods as they were written; `step` records no gradients, as ever."""
    methods = {name: unwrap(getattr(optimizer, name)) for name in _GUARDED}
    return type(optimizer.__name__, (optimizer,), methods | {"step": torch.no_grad()(unwrap(optimizer.step))})


EagerAdamW = _uncompiled(AdamW)
EagerSGD = _uncompiled(SGD)
