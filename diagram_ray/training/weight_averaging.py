"""The exponential moving average of a model's weights (Polyak and Juditsky 1992, in its exponential form)."""

import copy
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn

from diagram_ray.models import DiaGRAM


class Average:
    """A copy of a model whose weights follow it: average <- decay * average + (1 - decay) * weights.

    The first weights are random and say nothing, so the decay starts low: (1 + t) / (10 + t) after t updates, until
    that reaches `decay`. Running statistics of batch norm are the model's own.
    """

    def __init__(self, model: DiaGRAM, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: DiaGRAM, updates: int) -> None:
        """Takes in the weights of `model`; `updates` have been made before this one."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        averages, weights = list(self.model.parameters()), [value.detach() for value in model.parameters()]
        get_ema_multi_avg_fn(decay)(averages, weights, None)  # type: ignore[no-untyped-call]
        for own, other in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(other)

    def state_dict(self) -> dict[str, Any]:
        """The averaged weights, as the model's state."""
        return {"model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.model.load_state_dict(state["model"])
