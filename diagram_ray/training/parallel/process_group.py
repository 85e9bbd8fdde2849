"""The processes that train one model together: what each of them has to know of the others.

Every process holds the whole model, draws what the whole minibatch needs, and works on its share of it. Losses are
divided by the size of the whole minibatch, so gradients are summed over the processes, never averaged.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


class SingleProcess:
    """The group of a process that trains by itself."""

    rank = 0
    world_size = 1

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Nothing has to be done: this process's gradients are the sum."""

    def sum(self, values: Tensor) -> Tensor:
        """The sum is `values` itself."""
        return values

    def exchange(self, value: T) -> list[T]:
        """The values of all processes, of which this is the only one."""
        return [value]

    def from_first(self, value: T) -> T:
        """The first process's value is `value` itself."""
        return value

    def to_first(self, value: T) -> list[T]:
        """The values of all processes, of which this is the only one."""
        return [value]


SINGLE_PROCESS = SingleProcess()


class DistributedGroup:
    """The processes of a torch.distributed group; None: all that called `init_process_group`.

    All of them must call the same methods in the same order. Tensors go over the backend of their own device,
    everything else is pickled and goes over that of the CPU: with GPUs the backend is "cpu:gloo,cuda:nccl".
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = dist.get_rank(group)
        self.world_size = dist.get_world_size(group)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Puts the sum over all processes in the place of each gradient; a missing gradient counts as zero.

        One reduction takes all gradients together: many small ones would wait for the network each.
        """
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat, group=self._group)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for parameter, gradient, part in zip(parameters, gradients, parts, strict=True):
            parameter.grad = gradient.copy_(part.view_as(gradient))

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a small tensor over all processes, the same bits in each of them, on the tensor's device."""
        total = values.clone()
        dist.all_reduce(total, group=self._group)
        return total

    def exchange(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks."""
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value, group=self._group)
        return values

    def from_first(self, value: T) -> T:
        """The value of the process of rank 0."""
        values = [value]
        dist.broadcast_object_list(values, group=self._group, group_src=0)
        return values[0]

    def to_first(self, value: T) -> list[T]:
        """The values of all processes in the order of their ranks, for the one of rank 0; for others none."""
        values: list[Any] = [None] * self.world_size if self.rank == 0 else []
        dist.gather_object(value, values or None, group=self._group, group_dst=0)
        return values


ProcessGroup = SingleProcess | DistributedGroup
"""One process among `world_size`, of which it is the one of number `rank`, counted from 0."""


def share(count: int, group: ProcessGroup) -> slice:
    """The samples, of `count`, that are this process's: contiguous, and as many in each process, give or take one.

    With fewer samples than processes some have none.
    """
    return slice(count * group.rank // group.world_size, count * (group.rank + 1) // group.world_size)
