"""A picture of what G makes, beside real patches, to be looked at while it learns."""

import io

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from diagram_ray.models import DiaGRAM
from diagram_ray.training.augment import FULL

COLUMNS = 8
REAL_ROWS, GENERATED_ROWS = 2, 6
ZOOM = 3
GAP = 2
"""Pixels between patches; the gap between real and generated ones is four times as high."""
PAPER = 96


def patches_from(model: DiaGRAM, seed: int) -> NDArray[np.uint8]:
    """Generated patches (48, s, s), 0 to 255, always of the same random vectors for one `seed`.

    The model is put into eval mode. It must have a generator.
    """
    generator = model.generator
    assert generator is not None  # noqa: S101 - callers ask first
    model.eval()
    noise = generator.sample_noise(COLUMNS * GENERATED_ROWS, torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        patches = generator(noise.to(generator.start.weight.device))[:, 0].float().cpu().numpy()
    return np.asarray(np.rint((patches + 1.0) * 127.5), dtype=np.uint8)


def picture(real: NDArray[np.uint16], generated: NDArray[np.uint8]) -> bytes:
    """A PNG: two rows of `real` patches (N, s, s), and below them six rows of `generated` ones."""
    above = _grid(np.asarray(np.rint(real[: COLUMNS * REAL_ROWS] * (255.0 / FULL)), dtype=np.uint8))
    below = _grid(generated)
    rule = np.full((3 * GAP, below.shape[1]), PAPER, dtype=np.uint8)
    above = np.pad(above, ((0, 0), (0, below.shape[1] - above.shape[1])), constant_values=PAPER)
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate([above, rule, below])).save(buffer, format="PNG")
    return buffer.getvalue()


def _grid(patches: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Patches (N, s, s) in rows of eight, each pixel three wide."""
    columns = min(COLUMNS, max(1, len(patches)))
    side = patches.shape[1] * ZOOM + GAP
    grid = np.full((-(-len(patches) // columns) * side + GAP, columns * side + GAP), PAPER, dtype=np.uint8)
    for number, patch in enumerate(patches):
        top, left = (GAP + place * side for place in divmod(number, columns))
        large = patch.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        grid[top : top + len(large), left : left + len(large)] = large
    return grid
