"""A stand-in for CrossValidation that trains in no time: its weights are a chain of hashes, so that a lost, a repeated
or a foreign epoch shows in every later score."""

import contextlib
import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diagram_ray.config import ExperimentConfig, flatten
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.work import cross_validation
from diagram_ray.errors import DiagramError
from diagram_ray.results import Measurement
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.training.runs.trial import CrossValidationLike


def tiny_data(patients: int = 12) -> TrainingData:
    rng = np.random.default_rng(0)
    ids = np.array([f"p{i:03d}" for i in range(patients)])
    labels = np.arange(patients) % 2
    return TrainingData(
        images=rng.integers(0, 65535, (patients, 32, 32)).astype(np.uint16),
        labels=labels.astype(np.int64),
        image_ids=np.array([f"i{i:03d}" for i in range(patients)]),
        patient_ids=ids,
        patches=rng.integers(0, 65535, (patients, 16, 16)).astype(np.uint16),
        patch_labels=labels.astype(np.int64),
        patch_patient_ids=ids,
        classes=("benign", "cancer"),
        fingerprint="f" * 64,
    )


def three_at_once(
    config: ExperimentConfig, data: TrainingData, splits: Splits, device: str, crew: Any
) -> CrossValidationLike:
    """The real training, which only a process that trains three folds side by side may ask for."""
    if (crew.at_once, crew.world.world_size) != (3, 1):
        raise DiagramError(f"{crew} is not one process with three folds at once")
    return cross_validation(config, data, splits, device, crew=crew)


def kind_of(data: TrainingData, splits: Splits) -> str:
    """What a training is for: the study's own folds, or something that follows the search."""
    usual = tiny_data()
    if not np.array_equal(data.labels, usual.labels):
        return "shuffled"
    if np.array_equal(data.patient_ids, data.image_ids):
        return "leaky"
    return "own" if splits.seed == 0 else "repeat"


class FakeValidation:
    """In the folder FAKE_FOLDER `log` collects the epochs trained; while there is a file `slow`, a round takes time:
    0.2 seconds times the number in it. A process that comes to the second epoch of a training of some kind (`kind_of`)
    kills itself: once if there is a file `die-KIND`, and always if there is a file `doomed-KIND`."""

    def __init__(self, config: ExperimentConfig, data: TrainingData, splits: Splits, device: str) -> None:
        self.config, self.data, self.splits = config, data, splits
        self.epochs = [0] * splits.n_folds
        usual = flatten(ExperimentConfig())
        own = [pair for pair in flatten(config).items() if pair[1] != usual[pair[0]]]  # new settings change nothing
        self.weights = [
            hashlib.sha256(f"{own} {fold} {data.labels}".encode()).hexdigest() for fold in range(splits.n_folds)
        ]

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        while (done := min(self.epochs[:folds])) < epochs:
            rows = [self._epoch(fold) for fold in range(folds) if self.epochs[fold] == done]
            self._rest()
            yield rows

    def advance_fold(self, number: int, epochs: int) -> Iterator[dict[str, Any]]:
        while self.epochs[number] < epochs:
            row = self._epoch(number)
            self._rest()
            yield row

    def _rest(self) -> None:
        slow = Path(os.environ.get("FAKE_FOLDER", "/nowhere")) / "slow"
        if slow.exists():
            time.sleep(np.random.default_rng().uniform(0.1, 0.3) * float(slow.read_text() or 1))

    def _epoch(self, fold: int) -> dict[str, Any]:
        self.epochs[fold] += 1
        self._die(Path(os.environ.get("FAKE_FOLDER", "/nowhere")))
        k = self.config.training.k
        if k == 13 and self.epochs[fold] == 2:
            raise DiagramError(f"fold {fold} diverged")
        if k == 14:
            raise MemoryError("400 GiB")
        if k == 15:
            os._exit(9)
        if k == 16:
            raise ValueError("k is 16")
        if "FAKE_FOLDER" in os.environ:
            with (Path(os.environ["FAKE_FOLDER"]) / "log").open("a") as file:
                file.write(f"{self.config.training.weight_decay} {fold} {self.epochs[fold]}\n")
        self.weights[fold] = hashlib.sha256(self.weights[fold].encode()).hexdigest()
        scores = {"training_auc": (1.0 + self._score(fold)) / 2.0, "auc": self._score(fold)}
        return {"fold": fold, "epoch": self.epochs[fold], **scores, "seconds": 0.01}

    def _die(self, folder: Path) -> None:
        kind = kind_of(self.data, self.splits)
        if max(self.epochs) == 2 and (folder / f"doomed-{kind}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            if max(self.epochs) == 2:
                (folder / f"die-{kind}").rename(folder / f"died-{kind}")  # the first process that comes to it alone
                os.kill(os.getpid(), signal.SIGKILL)

    def _score(self, fold: int) -> float:
        return int(self.weights[fold][:8], 16) / 16**8

    def measure(self, folds: int) -> Measurement:
        scores = tuple(self._score(fold) for fold in range(folds))
        fitted = sum((1.0 + score) / 2.0 for score in scores) / folds
        return Measurement(folds, max(self.epochs[:folds]), scores, scores, 0.0, training_auc=fitted)

    def scores(self, folds: int) -> np.ndarray:
        """Case scores that get better from epoch to epoch, by a rate of the configuration's own."""
        return np.concatenate([self.fold_scores(fold) for fold in range(folds)])

    def fold_scores(self, number: int) -> np.ndarray:
        rows = self.splits.fold(self.data, number).test_images
        noise = np.random.default_rng(int(self.weights[number][:8], 16)).standard_normal(len(rows))
        return noise + 0.4 * self.epochs[number] * self.data.labels[rows]

    def predictions(self) -> pa.Table:
        folds = [self.splits.patients[patient] for patient in self.data.patient_ids.tolist()]
        return pa.table(
            {
                "fold": pa.array(folds, pa.int32()),
                "image_id": self.data.image_ids,
                "patient_id": self.data.patient_ids,
                "label": self.data.labels,
                "score": [self._score(fold) for fold in folds],
            }
        )

    @property
    def identity(self) -> dict[str, Any]:
        return {"k": self.config.training.k}

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": list(self.epochs), "weights": list(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.epochs, self.weights = state["epochs"], state["weights"]

    def export(self, folder: Path) -> None:
        write_atomic(folder / "config.yaml", "x")
        for fold, weights in enumerate(self.weights):
            write_atomic(folder / f"fold-{fold}.safetensors", weights)
