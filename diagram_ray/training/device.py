"""Which device a command works on, and how exactly."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diagram_ray.errors import ConfigError, UsageError


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """What networks are trained in on `device` by `training.precision`. It may be entered any number of times."""
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half(device, precision))


def is_half(device: torch.device, precision: str) -> bool:
    """Whether networks are trained in bfloat16. Raises ConfigError on a CPU, where gradients cannot be relied upon.

    Measured with PyTorch 2.13: faster by a quarter to two fifths with AMX, but the weights' gradients of small
    convolutions become NaN now and then, depending on what the memory held before.
    """
    if precision == "bfloat16" and device.type == "cpu":
        raise ConfigError("training.precision: bfloat16 is for GPUs only; allowed on a CPU are auto and float32")
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside the block, if it is `wanted`, PyTorch takes no algorithm whose result differs from run to run."""
    if not wanted:  # to tell PyTorch so would import its compiler
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    # Without it cuBLAS is refused; PyTorch reads it at each call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def choose_device(name: str) -> torch.device:
    """The device called `name`: 'cpu', 'cuda', 'cuda:1', or 'auto' for a GPU where there is one. Raises UsageError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"--device {name}: allowed are auto, cpu, cuda and cuda:NUMBER") from None
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {name}: allowed are auto, cpu, cuda and cuda:NUMBER")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: PyTorch sees {torch.cuda.device_count()} GPUs here")
    return device
