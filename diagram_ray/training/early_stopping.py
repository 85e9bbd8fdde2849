"""Early stopping: a part of the training patients is set aside, and the epoch that scores best on it is kept.

The part is cut from the training images of a fold, so the fold's test images choose nothing.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.models import DiaGRAM
from diagram_ray.training.batches import Indices, Purpose, seed_for


@dataclass(frozen=True)
class Parts:
    """What is trained on and what is set aside, as indices into the data. No patient is in both."""

    images: Indices
    patches: Indices
    validation: Indices


def set_aside(data: TrainingData, images: Indices, patches: Indices, part: float, seed: int, fold: int) -> Parts:
    """Sets the patients of about `part` of the images' patients aside, with a share of every class.

    A patient is of the class of its last-class image, so that the rare positive images are assigned first. The same
    for the same (seed, fold). Raises DataError if a class would be missing on either side.
    """
    if not part:
        return Parts(images, patches, np.empty(0, dtype=np.intp))
    owners = data.patient_ids[images]
    classes: dict[str, int] = {}
    for patient, label in zip(owners.tolist(), data.labels[images].tolist(), strict=True):
        classes[patient] = max(label, classes.get(patient, 0))
    random = np.random.default_rng(seed_for(seed, fold, Purpose.VALIDATION))
    chosen: list[str] = []
    for label in sorted(set(classes.values())):
        patients = sorted(patient for patient, own in classes.items() if own == label)
        count = max(1, round(part * len(patients)))
        chosen += [patients[place] for place in random.permutation(len(patients))[:count]]
    apart = np.isin(owners, chosen)
    parts = Parts(images[~apart], patches[~np.isin(data.patch_patient_ids[patches], chosen)], images[apart])
    _check(data, parts, fold)
    return parts


def _check(data: TrainingData, parts: Parts, fold: int) -> None:
    for name, part in (("what is left to train on", parts.images), ("the validation part", parts.validation)):
        for label in set(range(len(data.classes))) - set(data.labels[part].tolist()):
            raise DataError(
                f"fold {fold}: {name} has no image of class {data.classes[label]!r}: too few patients for "
                "training.validation_part; set it to 0"
            )


@dataclass(frozen=True, order=True)
class ValidationScore:
    """How good an epoch is: AUC first; of equal ones, which small parts often give, the smaller loss."""

    auc: float
    negative_loss: float


def validation_score(labels: NDArray[np.int64], probabilities: NDArray[np.float64]) -> ValidationScore:
    """The score of class probabilities (N, m) of images with `labels` (N,)."""
    own = probabilities[np.arange(len(labels)), labels]
    loss = -np.log(np.maximum(own, np.finfo(np.float64).tiny)).mean()
    return ValidationScore(auc(labels == probabilities.shape[1] - 1, probabilities[:, -1]), -float(loss))


class BestEpoch:
    """The weights of the best epoch so far, the earliest of equals, and how long ago that was."""

    def __init__(self, model: DiaGRAM, patience: int | None) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.epoch = 0
        self.score = ValidationScore(-math.inf, -math.inf)
        self._patience = patience

    def see(self, epoch: int, score: ValidationScore, model: DiaGRAM) -> None:
        """Takes the weights of `model` after `epoch` epochs if they score better than those before."""
        if score > self.score:
            self.epoch, self.score = epoch, score
            self.model.load_state_dict(model.state_dict())

    def exhausted(self, epoch: int) -> bool:
        """Whether `patience` epochs have brought nothing better."""
        return self._patience is not None and self.epoch > 0 and epoch - self.epoch >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Weights, epoch and score."""
        score = [self.score.auc, self.score.negative_loss]
        return {"model": self.model.state_dict(), "epoch": self.epoch, "score": score}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.model.load_state_dict(state["model"])
        self.epoch, self.score = int(state["epoch"]), ValidationScore(*state["score"])
