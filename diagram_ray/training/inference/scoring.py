"""Class probabilities of images under a trained model, and the table of those of a training's test images."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from diagram_ray.data.training_data import Fold, TrainingData
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
    mine = share(len(chosen), group)
    found = torch.zeros(len(chosen), model.config.num_classes, dtype=torch.float64, device=weights.device)
    model.eval()
    with torch.inference_mode():
        for start in range(mine.start, mine.stop, BATCH):
            part = slice(start, min(start + BATCH, mine.stop))
            pixels = to_tensor(images[chosen[part]], weights.device, weights.dtype)
            found[part] = model(pixels).double().softmax(dim=1)
        scores: NDArray[np.float64] = group.sum(found).cpu().numpy()
    return scores


def prediction_table(data: TrainingData, folds: Sequence[Fold], scores: Sequence[NDArray[np.float64]]) -> pa.Table:
    """`fold, image_id, patient_id, label, score` of the folds' test images; `scores` has an array for each fold."""
    tested = np.concatenate([fold.test_images for fold in folds])
    numbers = np.repeat([fold.number for fold in folds], [len(of_fold) for of_fold in scores])
    return pa.table(
        {
            "fold": numbers.astype(np.int32),
            "image_id": data.image_ids[tested].tolist(),
            "patient_id": data.patient_ids[tested].tolist(),
            "label": data.labels[tested].astype(np.int64),
            "score": np.concatenate(scores),
        }
    )
