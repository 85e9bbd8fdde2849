"""`training.compile`: training through PyTorch's compiler.

Measured on CPUs only, where it is slower (benchmarks/RESULTS.md), so nothing is compiled unless it is asked for.
"""

import copy
import importlib.util
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from diagram_ray.errors import ConfigError
from diagram_ray.models import DiaGRAM

MODES = {"default": "default", "cuda-graphs": "reduce-overhead"}
"""Values of `training.compile` -> modes of `torch.compile`."""
DO_WITHOUT = "training.compile: none trains without a compiler"


def for_training(model: DiaGRAM, how: str) -> DiaGRAM:
    """`model`, or its twin whose networks are compiled when they are first called, with the very same weights.

    `model` itself stays as it is, for scoring, for its copies and for the names of its weights. `how` is
    `training.compile`. Raises ConfigError where the model's device has no compiler, or no CUDA graphs.
    """
    if how == "none":
        return model
    check_compiler(how, next(model.parameters()).device)
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    twin = copy.deepcopy(model, shared)
    for network in twin.children():
        network.forward = torch.compile(network.forward, mode=MODES[how])
    return twin


def start_of_step(how: str) -> Callable[[], None]:
    """A function to call when a gradient step starts: CUDA graphs may then use the last step's memory again."""
    return torch.compiler.cudagraph_mark_step_begin if how == "cuda-graphs" else lambda: None


def forget_compiled(how: str) -> None:
    """Before a new configuration: PyTorch keeps eight forms of a function at most, and compiles no more after them."""
    if how != "none":
        torch.compiler.reset()


@contextmanager
def compiling(how: str) -> Iterator[None]:
    """Around training: a ConfigError in the place of what PyTorch's compiler raises, and none of its own warnings."""
    if how == "none":
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # takes a second, so not where nothing is compiled

    try:
        with warnings.catch_warnings():
            # The compiler looks at the gradient of all its inputs, generated patches too, which have none.
            warnings.filterwarnings("ignore", "The .grad attribute of a Tensor that is not a leaf", UserWarning)
            yield
    except TorchDynamoException as error:
        message = " ".join(str(error).split())[:300]
        raise ConfigError(f"training.compile: {how}: PyTorch could not compile: {message}; {DO_WITHOUT}") from None


def check_compiler(how: str, device: torch.device) -> None:
    """Raises ConfigError if networks on `device` cannot be compiled as `training.compile: how` asks for."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ConfigError(
                f"training.compile: {how}: Triton is not installed, by which PyTorch compiles; {DO_WITHOUT}"
            )
        return
    if how == "cuda-graphs":
        raise ConfigError("training.compile: cuda-graphs is for GPUs only; allowed on a CPU are none and default")
    name = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(name) is None:
        raise ConfigError(
            f"training.compile: {how}: there is no C++ compiler {name!r} here (the variable CXX names another); "
            f"{DO_WITHOUT}"
        )
