"""Transfer learning (paper Sect. 2.4): F and E start with the weights of a model that was trained on other mammograms.

The weights come from a model folder of `train`, from a study (its best/), or from one .safetensors file in either.
Fold k starts with the weights of the source's fold k where the source has as many models as there are folds; a source
with one model starts every fold. G and D start anew. Images may have another size; E's output layer is made anew where
the classes have other names.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from diagram_ray.config import FROM_WEIGHTS, ExperimentConfig, flatten, override
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.errors import ConfigError, LeakageError, UsageError
from diagram_ray.storage.paths import Place, reached
from diagram_ray.training.checkpoints.model_folder import (
    ModelCard,
    model_files,
    read_card,
    read_model,
    read_patients,
)
from diagram_ray.training.early_stopping import set_aside

log = logging.getLogger("diagram_ray")

FINE_TUNING = {"model.gan": False, "training.multi_task": False, "training.epochs": 20}
"""Supervised, for 20 epochs (paper Sect. 3)."""
KEPT = ("features.", "classifier.")
OUTPUT = "classifier.output."

Weights = Mapping[str, Tensor]


def starting_config(source: str | Place) -> ExperimentConfig:
    """The configuration of fine-tuning, before anything else is set: the source's model, supervised, 20 epochs.

    Raises DataError if there is no model at `source`.
    """
    model = read_card(_folder(reached(source))).experiment.model
    values = {f"model.{key}": value for key, value in flatten(model).items()}
    return override(ExperimentConfig(), values | FINE_TUNING, str(source))


def starting_config_to_come() -> ExperimentConfig:
    """The same of weights that are still to be made, with the default model."""
    return override(ExperimentConfig(), FINE_TUNING, "fine-tuning")


@dataclass(frozen=True)
class InitialWeights:
    """The weights that the folds of a training start with."""

    source: str
    card: ModelCard
    folds: tuple[Weights, ...]
    """One for all folds, or one for each."""
    patients: tuple[frozenset[str] | None, ...]
    """Whom they have seen; None if that is not known. As many as `folds`."""

    def of_fold(self, fold: int) -> Weights:
        """The weights that fold `fold` starts with, by their names in the model."""
        return self.folds[fold if len(self.folds) > 1 else 0]

    def seen_by(self, fold: int) -> frozenset[str] | None:
        """The patients, by hashed id; None if they are not known."""
        return self.patients[fold if len(self.patients) > 1 else 0]

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of all datasets that the weights have been trained on, the latest last."""
        return (*self.card.initial, self.card.fingerprint)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all weights."""
        digest = hashlib.sha256()
        for weights in self.folds:
            for name in sorted(weights):
                digest.update(name.encode() + weights[name].cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The source of the first weights, as a study or a model records it."""
        return {"source": self.source, "fingerprints": list(self.fingerprints), "weights": self.digest}


def read_initial(
    source: str | Place,
    config: ExperimentConfig,
    data: TrainingData,
    splits: Splits | None = None,
    fold: int | None = None,
) -> InitialWeights:
    """The weights at `source` for a training on `data`: all folds of `splits`, its fold `fold`, or all data.

    Raises ConfigError if the model of `config` cannot take them, UsageError if the source has models of several folds
    that do not correspond to the folds of the training, LeakageError if a patient that is to be tested, or validated
    on, may have been seen by the weights.
    """
    place = reached(source)
    card = read_card(_folder(place))
    _check_model(config, card, str(source))
    files = _choose([place] if place.is_file() else model_files(place), str(source), splits, fold)
    wanted = range(splits.n_folds) if splits is not None and fold is None else [fold or 0]
    for number in wanted:
        file = files[number if len(files) > 1 else 0]
        _check_unseen(file, card, _held_out(config, data, splits, number), data, number)
    if card.classes != data.classes:
        log.info(
            "%s: was trained for the classes %s; E's output layer is made anew for %s",
            source, ", ".join(card.classes), ", ".join(data.classes),
        )  # fmt: skip
    folds = tuple(_of_classifier(file, keep_output=card.classes == data.classes) for file in files)
    return InitialWeights(str(source), card, folds, tuple(read_patients(file) for file in files))


def seen_patients(data: TrainingData, fold: Fold, initial: InitialWeights | None) -> frozenset[str] | None:
    """The patients that a model has seen when it was trained on `fold`'s training part; None if not all are known."""
    before = initial.seen_by(fold.number) if initial is not None else frozenset()
    if before is None:
        return None
    images, patches = data.patient_ids[fold.train_images], data.patch_patient_ids[fold.train_patches]
    return before | set(images.tolist()) | set(patches.tolist())


def _folder(place: Place) -> Place:
    return place.parent if place.is_file() else place


def _choose(files: list[Place], source: str, splits: Splits | None, fold: int | None) -> list[Place]:
    """One file for all folds, or one for each fold."""
    if len(files) == 1 or (splits is not None and len(files) == splits.n_folds):
        return files
    wanted = f"{splits.n_folds} folds" if splits is not None else "one model of all the data"
    raise UsageError(
        f"init_from {source}: has the models of {len(files)} folds, and {wanted} are to be trained; name one of them, "
        f"for example {files[0]}"
    )


def _check_model(config: ExperimentConfig, card: ModelCard, source: str) -> None:
    for key in FROM_WEIGHTS:
        theirs, ours = getattr(card.experiment.model, key), getattr(config.model, key)
        if theirs != ours:
            raise ConfigError(
                f"init_from {source}: its weights are of a model with model.{key} = {theirs!r}, and model.{key} = "
                f"{ours!r} was asked for; leave model.{key} out, so that it is taken from there"
            )


def _held_out(config: ExperimentConfig, data: TrainingData, splits: Splits | None, fold: int) -> set[str]:
    """The patients whose images measure the fold, or choose its epoch."""
    images, patches = np.arange(len(data.images)), np.arange(len(data.patches))
    tested = images[:0]
    if splits is not None:
        cut = splits.fold(data, fold)
        images, patches, tested = cut.train_images, cut.train_patches, cut.test_images
    training = config.training
    validated = set_aside(data, images, patches, training.validation_part, training.seed, fold).validation
    return set(data.patient_ids[np.concatenate([tested, validated])].tolist())


def _check_unseen(file: Place, card: ModelCard, held_out: set[str], data: TrainingData, fold: int) -> None:
    """Raises LeakageError if the weights may have seen a patient on whom the fold is measured."""
    seen = read_patients(file)
    if seen is not None and (both := held_out & seen):
        raise LeakageError(
            f"init_from {file}: fold {fold}: these weights were trained on {len(both)} of the {len(held_out)} patients "
            f"who test or validate the fold, for example {min(both)}; start with weights of other patients, or of a "
            "study with the same folds. If they are other people with the same id, prepare one dataset with another "
            "--key"
        )
    if seen is None and held_out and data.fingerprint in (card.fingerprint, *card.initial):
        raise LeakageError(
            f"init_from {file}: fold {fold}: these weights were trained on the same dataset, {data.fingerprint}, and "
            "nothing says on which of its patients; start with weights of another dataset, or of a study with the same "
            "folds"
        )


def _of_classifier(file: Place, keep_output: bool) -> dict[str, Tensor]:
    """F's and E's weights in a file."""
    return {
        name: value
        for name, value in read_model(file).state_dict().items()
        if name.startswith(KEPT) and (keep_output or not name.startswith(OUTPUT))
    }
