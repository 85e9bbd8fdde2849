"""Which device a command works on."""

import torch

from diagram_ray.errors import UsageError


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
