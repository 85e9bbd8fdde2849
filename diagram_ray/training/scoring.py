"""Class probabilities of images under a trained model."""

import numpy as np
import torch
from numpy.typing import NDArray

from diagram_ray.models import DiaGRAM
from diagram_ray.training.augment import to_tensor

BATCH = 32


def probabilities(model: DiaGRAM, images: NDArray[np.uint16], chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """P(y | I), Eq. 3, of the `chosen` of `images` (N, H, W): (len(chosen), m) float64.

    The model is put into eval mode. Not a number where the model's weights are not.
    """
    device = next(model.parameters()).device
    model.eval()
    with torch.inference_mode():
        parts = [
            model(to_tensor(images[chosen[start : start + BATCH]], device)).double().softmax(dim=1)
            for start in range(0, len(chosen), BATCH)
        ]
    if not parts:
        return np.empty((0, model.config.num_classes))
    scores: NDArray[np.float64] = torch.cat(parts).cpu().numpy()
    return scores
