"""How well a model fits the images that it is trained on, measured on a few of them after every epoch."""

import numpy as np

from diagram_ray.data.training_data import TrainingData
from diagram_ray.evaluation.metrics import auc
from diagram_ray.models import DiaGRAM
from diagram_ray.training.batches import Indices, Purpose, seed_for
from diagram_ray.training.inference.scoring import probabilities
from diagram_ray.training.parallel.process_group import ProcessGroup

PART = 10
"""One image in so many. An epoch spends three to five times as long on an image as it takes to score it, so this costs
2 to 3 % of an epoch."""
SMALLEST, LARGEST = 48, 128
"""Images, as far as there are so many: enough for an AUC with a standard error of 0.08 and of 0.05."""


class TrainingSample:
    """One in ten of a fold's training `images`, at least 48 and at most 128, as a function of (seed, fold).

    Half of them are positive, which is what the standard error of an AUC is smallest for, as far as there are so many.
    They are scored as test images are: without augmentation, in eval mode.
    """

    def __init__(self, data: TrainingData, images: Indices, seed: int, fold: int) -> None:
        self._pixels = data.images
        positive = data.labels[images] == len(data.classes) - 1
        half = min(LARGEST, max(SMALLEST, len(images) // PART)) // 2
        random = np.random.default_rng(seed_for(seed, fold, Purpose.TRAINING_SAMPLE))
        kinds = [random.permutation(images[positive == kind])[:half] for kind in (False, True)]
        self.images: Indices = np.concatenate(kinds)
        """As indices into the data, the negative ones first."""
        self.positive = np.repeat([False, True], [len(kind) for kind in kinds])
        """(n,)"""

    def auc(self, model: DiaGRAM, group: ProcessGroup) -> float | None:
        """The AUC of `model`, the same in all processes of `group`.

        None if all training images are of one kind, or if a score is not a number.
        """
        if self.positive.all() or not self.positive.any():
            return None
        scores = probabilities(model, self._pixels, self.images, group)[:, -1]
        return auc(self.positive, scores) if np.isfinite(scores).all() else None
