"""Pixels to tensors, and the augmentation of whole batches on the device (paper Sect. 3).

Random numbers come from a CPU generator, so they are the same on every device.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diagram_ray.config import AugmentConfig

FULL = 65535.0


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on `device`, without waiting for an accelerator's earlier work."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def to_tensor(pixels: NDArray[np.uint16], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images or patches (B, H, W) of 0..65535 as (B, 1, H, W) in [-1, 1].

    `pixels` must be writable, as the copy is that NumPy makes when it is given indices.
    """
    values = to_device(torch.from_numpy(pixels), device).to(dtype)
    return values.mul_(2.0 / FULL).sub_(1.0).unsqueeze(1)


def draw_transforms(count: int, size: tuple[int, int], config: AugmentConfig, random: torch.Generator) -> Tensor:
    """`count` random affine maps (count, 2, 3) from output to input coordinates, as `affine_grid` takes them.

    Rotation by up to `rotation` degrees, mirror with probability 1/2, size changed by up to `scale`, shift by up to
    `shift` of the height and width; each uniform. `size` is (H, W): a rotation must be one in pixels.
    """
    height, width = size
    draws = torch.rand(count, 5, generator=random) * 2.0 - 1.0
    angle = draws[:, 0] * math.radians(config.rotation)
    flip = torch.where(draws[:, 1] < 0.0, -1.0, 1.0) if config.mirror else torch.ones(count)
    zoom = 1.0 / (1.0 + draws[:, 2] * config.scale)
    cos, sin = angle.cos() * zoom, angle.sin() * zoom
    shift = draws[:, 3:] * 2.0 * config.shift
    across = torch.stack([cos * flip, -sin * (height / width) * flip, shift[:, 0]], dim=1)
    down = torch.stack([sin * (width / height), cos, shift[:, 1]], dim=1)
    return torch.stack([across, down], dim=1)


def transform(pixels: Tensor, maps: Tensor) -> Tensor:
    """`pixels` (B, 1, H, W) in [-1, 1] through affine maps (B, 2, 3), bilinear; what comes from outside is -1."""
    # grid_sample fills with zeros, so background is brought to zero and back.
    return F.grid_sample(pixels + 1.0, _grid(maps, *pixels.shape[2:]), align_corners=False).sub_(1.0)


def _grid(maps: Tensor, height: int, width: int) -> Tensor:
    """`F.affine_grid` without align_corners, in an eighth of its time on CPUs: x and y are apart in memory."""
    down = torch.arange(1 - height, height, 2, device=maps.device).to(maps.dtype) / height
    across = torch.arange(1 - width, width, 2, device=maps.device).to(maps.dtype) / width
    of_columns = maps[:, :, 0, None] * across
    of_rows = maps[:, :, 1, None] * down + maps[:, :, 2, None]
    return (of_columns[:, :, None, :] + of_rows[:, :, :, None]).permute(0, 2, 3, 1)
