"""Class probabilities of images under a trained model."""

import numpy as np
import torch
from numpy.typing import NDArray

from diagram_ray.models import DiaGRAM
from diagram_ray.training.augment import to_tensor
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup, share

BATCH = 32


def probabilities(
    model: DiaGRAM, images: NDArray[np.uint16], chosen: NDArray[np.intp], group: ProcessGroup = SINGLE_PROCESS
) -> NDArray[np.float64]:
    """P(y | I), Eq. 3, of the `chosen` of `images` (N, H, W): (len(chosen), m) float64, in all processes of `group`.

    Each process computes its share. The model is put into eval mode. Not a number where the model's weights are not.
    """
    weights = next(model.parameters())
    own = share(len(chosen), group)
    predicted = torch.zeros(len(chosen), model.config.num_classes, dtype=torch.float64, device=weights.device)
    model.eval()
    with torch.inference_mode():
        for start in range(own.start, own.stop, BATCH):
            part = slice(start, min(start + BATCH, own.stop))
            pixels = to_tensor(images[chosen[part]], weights.device, weights.dtype)
            predicted[part] = model(pixels).double().softmax(dim=1)
        scores: NDArray[np.float64] = group.sum(predicted).cpu().numpy()
    return scores
