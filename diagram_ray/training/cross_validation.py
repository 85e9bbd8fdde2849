"""One configuration on all folds of a cross-validation, trained side by side.

The folds advance in lock-step, so that after every epoch there is a figure for each of them, and a configuration can
be judged, stopped, saved and continued at any such point.
"""

import io
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.dataset import Fold, TrainingData
from diagram_ray.data.splits import Splits
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import accuracy, auc
from diagram_ray.evaluation.predictions import check_predictions
from diagram_ray.results import Measurement, write_atomic
from diagram_ray.training.loop import Trainer, fit_to_data
from diagram_ray.training.model_store import card_for, write_models

STATE_FILE = "cross_validation.pt"
_DAMAGED = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, pickle.UnpicklingError)


@dataclass
class _FoldRun:
    """One fold under way: its model, the last epoch's scores of its test images, and the time it took."""

    fold: Fold
    trainer: Trainer
    scores: NDArray[np.float64]
    seconds: float = 0.0


class CrossValidation:
    """`config` on the folds of `splits`. A fold's model is made when the fold is first advanced.

    The model never sees its test fold; the scores are those of the last epoch, never of the best one.
    """

    def __init__(
        self, config: ExperimentConfig, data: TrainingData, splits: Splits, device: torch.device | str = "cpu"
    ) -> None:
        self.config = fit_to_data(config, data)
        self.data = data
        self.splits = splits
        self.device = device
        self._runs: dict[int, _FoldRun] = {}

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Brings the first `folds` folds to `epochs` epochs (counted from the beginning), one epoch a round.

        Yields after each round the curve rows of the folds it advanced: `fold, epoch, loss_adversarial, loss_patch,
        loss_image, loss_generator, auc, accuracy, seconds`. Folds that are behind catch up first. Raises Diverged,
        and LeakageError or DataError for a fold that cannot be trained.
        """
        runs = [self._run(number) for number in range(folds)]
        while (done := min(run.trainer.epoch for run in runs)) < epochs:
            yield [self._advance(run) for run in runs if run.trainer.epoch == done]

    def measure(self, folds: int) -> Measurement:
        """What the first `folds` folds scored after the epochs they have done, which are as many in each."""
        runs = [self._runs[number] for number in range(folds)]
        epochs = {run.trainer.epoch for run in runs}
        if len(epochs) != 1:
            raise ValueError(f"the folds have done different numbers of epochs: {sorted(epochs)}")
        return Measurement(
            folds=folds,
            epochs=epochs.pop(),
            fold_auc=tuple(auc(self._test_labels(run), run.scores) for run in runs),
            fold_accuracy=tuple(accuracy(self._test_labels(run), run.scores) for run in runs),
            seconds=sum(run.seconds for run in self._runs.values()),
        )

    def predictions(self) -> pa.Table:
        """Out-of-fold scores of all folds: `fold, image_id, patient_id, label, score`, each image exactly once."""
        runs = [self._runs[number] for number in range(self.splits.n_folds)]
        chosen = np.concatenate([run.fold.test_images for run in runs])
        table = pa.table(
            {
                "fold": np.repeat([run.fold.number for run in runs], [len(run.scores) for run in runs]).astype(
                    np.int32
                ),
                "image_id": self.data.image_ids[chosen].tolist(),
                "patient_id": self.data.patient_ids[chosen].tolist(),
                "label": self.data.labels[chosen].astype(np.int64),
                "score": np.concatenate([run.scores for run in runs]),
            }
        )
        check_predictions(table, self.data.image_ids, self.data.patient_ids)
        return table

    def export(self, folder: Path) -> None:
        """Writes the folds' models as a model folder: config.yaml and fold-K.safetensors."""
        models = {f"fold-{number}": run.trainer.model for number, run in sorted(self._runs.items())}
        write_models(folder, card_for(self.config, self.data), models)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from here bit by bit; tensors and plain values only."""
        folds = {
            number: {
                "trainer": run.trainer.state_dict(),
                "scores": torch.from_numpy(run.scores),
                "seconds": run.seconds,
            }
            for number, run in self._runs.items()
        }
        return {"config": self.config.model_dump_json(), "fingerprint": self.data.fingerprint, "folds": folds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from `state`. Raises DataError if it is of another configuration or dataset."""
        if state["config"] != self.config.model_dump_json():
            raise DataError("the saved state belongs to another configuration")
        if state["fingerprint"] != self.data.fingerprint:
            raise DataError(f"the saved state belongs to dataset {state['fingerprint']}, not {self.data.fingerprint}")
        self._runs.clear()
        for number, saved in state["folds"].items():
            run = self._run(number)
            run.trainer.load_state_dict(saved["trainer"])
            run.scores = saved["scores"].numpy()
            run.seconds = saved["seconds"]

    def save(self, folder: Path) -> None:
        """Writes the state into `folder`; a reader sees the state before or this one."""
        buffer = io.BytesIO()
        torch.save(self.state_dict(), buffer)
        write_atomic(folder / STATE_FILE, buffer.getvalue())

    def load_state(self, folder: Path) -> None:
        """Goes on from what `save` wrote. Raises DataError if it is missing, damaged or of another configuration."""
        path = folder / STATE_FILE
        try:
            self.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        except _DAMAGED as error:
            raise DataError(f"{path}: cannot be read: {error}") from None

    def _run(self, number: int) -> _FoldRun:
        if number not in self._runs:
            fold = self.splits.fold(self.data, number)
            trainer = Trainer(self.config, self.data, fold.train_images, fold.train_patches, number, self.device)
            self._runs[number] = _FoldRun(fold, trainer, np.empty(0))
        return self._runs[number]

    def _advance(self, run: _FoldRun) -> dict[str, Any]:
        started = time.perf_counter()
        row = run.trainer.advance()
        run.scores = run.trainer.score(run.fold.test_images)
        seconds = time.perf_counter() - started
        run.seconds += seconds
        labels = self._test_labels(run)
        return row | {"auc": auc(labels, run.scores), "accuracy": accuracy(labels, run.scores), "seconds": seconds}

    def _test_labels(self, run: _FoldRun) -> NDArray[np.int64]:
        return self.data.labels[run.fold.test_images]
