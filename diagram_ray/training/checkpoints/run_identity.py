"""What a training run is: which of its checkpoints it may go on from. Without PyTorch, which a driver need not load."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from diagram_ray.config import ExperimentConfig, flatten, override
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import MismatchError
from diagram_ray.training.pretrained.weights_file import weights_file

SHOWN = 3
"""Differences that are named; more are counted."""

Identity = Mapping[str, Any]
"""Name -> plain value of all that must be the same when a run goes on."""


def fit_to_data(config: ExperimentConfig, data: TrainingData) -> ExperimentConfig:
    """`config` with the number of classes and the patch size that the data have. Raises ConfigError."""
    sizes = {"model.num_classes": len(data.classes), "model.patch_size": data.patches.shape[-1]}
    return override(config, sizes, "dataset")


def identity_of(config: ExperimentConfig, data: TrainingData, splits: Splits | None, **more: Any) -> dict[str, Any]:
    """What a run is: every setting, the dataset with its question, the splits, and `more` that decides the result.

    The labels are part of it, because a question other than the dataset's own (or the control's shuffled labels) has
    the same fingerprint. So is the file of pretrained weights, which a name alone does not tell.
    """
    folds = None if splits is None else hashlib.sha256(splits.to_json().encode()).hexdigest()
    labels = hashlib.sha256(data.labels.tobytes() + data.patch_labels.tobytes()).hexdigest()
    if config.model.pretrained and more.get("initial") is None:
        more["pretrained_weights"] = weights_file(config.model.features, config.model.pretrained).digest
    return {**flatten(config), "dataset": data.fingerprint, "labels": labels, "splits": folds, **more}


def check_identity(saved: Identity, mine: Identity, where: str) -> None:
    """Raises MismatchError, naming what differs with both values, unless the two are equal."""
    ours = json.loads(json.dumps(dict(mine)))  # as it would have been read back
    keys = [key for key in {**ours, **saved} if key not in ours or key not in saved or ours[key] != saved[key]]
    if keys:
        named = "; ".join(f"{key} is {_shown(saved, key)} there and {_shown(ours, key)} here" for key in keys[:SHOWN])
        more = f"; and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
        raise MismatchError(f"{where}: a checkpoint of another run: {named}{more}")


def _shown(identity: Identity, key: str) -> str:
    return repr(identity[key]) if key in identity else "not given"
