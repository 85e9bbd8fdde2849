"""The scores of trained models on a labelled dataset whose patients none of them has seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.config import DataConfig, override
from diagram_ray.data.parquet.layout import read_info
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError, LeakageError, UsageError
from diagram_ray.evaluation.held_out import TrainingSide, sides_of
from diagram_ray.results import Study
from diagram_ray.storage.paths import Place
from diagram_ray.training.checkpoints.model_folder import ModelCard, model_files, read_patients
from diagram_ray.training.inference.predictor import Predictor

BATCH = 256
POSITIVE = 1
"""The output that is the score."""


def question_for(card: ModelCard, settings: Mapping[str, Any]) -> DataConfig:
    """The target and classes to ask a dataset for: the model's own, changed by `data.*` settings.

    Raises UsageError for another setting, ConfigError for a wrong value.
    """
    if other := [key for key in settings if not key.startswith("data.")]:
        raise UsageError(
            f"--set {other[0]}: a trained model has its settings; allowed are data.target and data.classes"
        )
    return override(card.experiment, settings, "--set").data


def read_labelled(dataset: str, question: DataConfig, models: Mapping[Place, ModelCard]) -> TrainingData:
    """The labelled images of a prepared dataset as all models need them.

    Raises DataError if they do not fit one, LeakageError if one was trained on a patient of them.
    """
    for model, card in models.items():
        _check_size(dataset, card, model)
    data = read_training_data(dataset, question)
    for model, card in models.items():
        _check_classes(dataset, data, question, card, model)
        _check_unseen(dataset, data, card, model)
    return data


def _check_size(dataset: str, card: ModelCard, model: Place) -> None:
    size = tuple(read_info(dataset).get("image_size", ()))
    if size != card.image_size:
        raise DataError(
            f"{dataset}: its images have the size {size}; {model} was trained on {card.image_size}: prepare them with "
            f"--image-size {card.image_size[0]}x{card.image_size[1]}"
        )


def _check_classes(dataset: str, data: TrainingData, question: DataConfig, card: ModelCard, model: Place) -> None:
    if data.classes != card.classes:
        groups = ", ".join(f'"{name}": [...]' for name in card.classes)
        raise DataError(
            f"{dataset}: its classes are {' and '.join(data.classes)}, and {model} tells {card.classes[0]} from "
            f"{card.classes[1]}; say which values of {question.target} are meant: --set 'data.classes={{{groups}}}'"
        )


def _check_unseen(dataset: str, data: TrainingData, card: ModelCard, model: Place) -> None:
    if data.fingerprint in (card.fingerprint, *card.initial):
        raise LeakageError(
            f"{dataset}: {model} was trained on this dataset; a study's own report says what it scores on images that "
            "its models have not seen"
        )
    known = [read_patients(file) or frozenset() for file in model_files(model)]
    if seen := sorted(frozenset().union(*known) & set(data.patient_ids.tolist())):
        count = len(np.unique(data.patient_ids))
        raise LeakageError(
            f"{dataset}: {model} was trained on {len(seen)} of its {count} patients, the first {seen[0]}; a model is "
            "evaluated on patients whom it has not seen"
        )


def is_known_whom(model: Place) -> bool:
    """Whether the model's folder says whom each of its networks was trained on."""
    return all(read_patients(file) is not None for file in model_files(model))


def training_side(model: Place) -> TrainingSide:
    """The best trial's out-of-fold predictions of a study; nothing of a model folder."""
    if not (model / "study.yaml").is_file():
        return TrainingSide()
    study = Study.load(model)
    table, images = study.predictions, study.images
    chosen = table[(table["trial"] == study.best["number"]) & (table["repeat"] == 0)]
    return TrainingSide(chosen, None if images is None else sides_of(images))


def score(predictor: Predictor, data: TrainingData) -> pd.DataFrame:
    """The scores `image_id, patient_id, label, score` of all images: the probability of the positive class."""
    starts = range(0, len(data.images), BATCH)
    parts = [predictor.predict_array(data.images[start : start + BATCH])[:, POSITIVE] for start in starts]
    return pd.DataFrame(
        {
            "image_id": data.image_ids,
            "patient_id": data.patient_ids,
            "label": data.labels,
            "score": np.concatenate(parts),
        }
    )
