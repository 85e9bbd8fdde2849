"""How a gradient step is taken: over several processes, and in as many passes as the memory allows.

The loss of a minibatch is a sum over its samples, divided by their number in all processes. So it may be computed for
a few samples at a time (a micro-batch), the gradients added up, and the result is the same.

A process that runs out of memory repeats its own share in smaller micro-batches. How it splits its share changes
nothing for the others, which wait for its gradients a little longer; there is nothing to agree upon. A process that
fails even with one sample goes on with gradients of zero until the end of the epoch, where all are told, so that
nobody waits for it. Beside other folds a step is first repeated alone, in the same micro-batches: the numbers shall not
depend on what is trained beside it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from diagram_ray.errors import OutOfMemory
from diagram_ray.training.parallel.fold_threads import FoldThread
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup

Losses = dict[str, Tensor]
LossesOf = Callable[[slice], Losses]
"""Samples of this process's share -> their part of each loss."""
SIGNS = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on a GPU or in the machine."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | OutOfMemory):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


class GradientStep:
    """Takes the gradient steps of an epoch, in this process and those of `group` together.

    `thread`: where they are taken. `fitting`: kind of step -> samples that fit into memory, as far as it is known; what
    is learnt is written into it. `splits`: a minibatch may be computed in parts; not with batch norm, which normalises
    by the whole of it. `autocast`: what the losses are computed in. `begin` is called at the start of each step.
    """

    def __init__(
        self,
        group: ProcessGroup = SINGLE_PROCESS,
        thread: FoldThread | None = None,
        fitting: dict[str, int] | None = None,
        splits: bool = True,
        autocast: AbstractContextManager[Any] | None = None,
        begin: Callable[[], None] = lambda: None,
    ) -> None:
        self.failure = ""
        """Why this process contributes nothing any more."""
        self._group = group
        self._thread = thread or FoldThread()
        self._fitting = {} if fitting is None else fitting
        self._splits = splits
        self._autocast = autocast or nullcontext()
        self._begin = begin

    def step(self, kind: str, optimizer: Optimizer, count: int, losses: Iterable[str], losses_of: LossesOf) -> Losses:
        """One step of `optimizer` on the sum of `losses` over the `count` samples of this process and all others'.

        `kind` names steps that need the same memory a sample. Gradients reach the optimizer's parameters only, and are
        dropped after the step. Returns this process's part of each loss. Raises OutOfMemory where it is alone.
        """
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._begin()
        total, alone = Losses(), not self._thread.has_others
        while count and not self.failure:
            try:
                with self._thread.alone() if alone else self._thread.beside():
                    total = self._pass(parameters, count, self._fitting.get(kind, count), losses_of)
                break
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                message = " ".join(str(error).split())[:300]
            # Out here the exception is gone, and with it the tensors of the pass that failed.
            _free(parameters)
            if alone:
                self._halve(kind, count, message)
            alone = True
        self._group.sum_gradients(parameters)
        optimizer.step()
        optimizer.zero_grad()
        return total or {name: parameters[0].new_zeros(()) for name in losses}

    def check(self) -> None:
        """Raises OutOfMemory in all processes if one of them ran out of memory. All call it, where none waits."""
        if messages := [message for message in self._group.exchange(self.failure) if message]:
            raise OutOfMemory(messages[0])

    def _pass(self, parameters: Sequence[nn.Parameter], count: int, size: int, losses_of: LossesOf) -> Losses:
        """Once through the samples, `size` at a time: the sum of each loss, with its gradients in `parameters`."""
        total: Losses = {}
        for start in range(0, count, size):
            with self._autocast:
                losses = losses_of(slice(start, min(start + size, count)))
            torch.stack(list(losses.values())).sum().backward(inputs=parameters)  # type: ignore[no-untyped-call]
            total = {name: total[name] + loss.detach() if total else loss.detach() for name, loss in losses.items()}
        return total

    def _halve(self, kind: str, count: int, message: str) -> None:
        """Halves the micro-batches of a step that did not fit; where they cannot be halved, the process has failed."""
        size = min(self._fitting.get(kind, count), count)
        if self._splits and size > 1:
            self._fitting[kind] = (size + 1) // 2
            return
        why = "with one sample at a time" if self._splits else "and model.norm = batch needs the minibatch as a whole"
        self.failure = f"out of memory in the {kind} step, {why}: {message}"
        if self._group.world_size == 1:
            raise OutOfMemory(self.failure)


def _free(parameters: Sequence[nn.Parameter]) -> None:
    """Drops the gradients of a pass that failed, and gives the memory back that it took."""
    for parameter in parameters:
        parameter.grad = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
