"""One training from beginning to end in a folder that can be watched and resumed: what `train` does.

train.yaml             what was asked for: written first
tensorboard/           event files
generated/             pictures of G's patches, one each few epochs
checkpoints/           while the training is under way
curves.parquet         one row an epoch
splits.json, predictions.parquet   of a training on one fold: the scores of its test images
model.safetensors, patients.json, config.yaml   the model; written last, so a folder with config.yaml is finished
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.evaluation.metrics import accuracy, auc
from diagram_ray.evaluation.predictions import FoldPredictions, predictions_table
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.storage.paths import Place
from diagram_ray.training.batches import Purpose, seed_for
from diagram_ray.training.checkpoints.model_folder import card_for, put_models
from diagram_ray.training.checkpoints.run_identity import identity_of
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.inference.sample_grid import patches_from, picture
from diagram_ray.training.runs.tensorboard import Board
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.transfer import InitialWeights, seen_patients

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Task:
    """What is trained on."""

    config: ExperimentConfig
    data: TrainingData
    splits: Splits | None = None
    fold: int | None = None
    """Of `splits`; its images are the test part. None: all data are trained on."""
    initial: InitialWeights | None = None

    def cut(self) -> Fold:
        """The training part and the test part, which is empty without a fold."""
        if self.splits is not None and self.fold is not None:
            return self.splits.fold(self.data, self.fold)
        images, patches = np.arange(len(self.data.images)), np.arange(len(self.data.patches))
        return Fold(0, images, patches, images[:0])


@dataclass(frozen=True)
class Outputs:
    """Where the training writes, and how often."""

    folder: Place
    checkpoints: str
    """A folder or a URI."""
    save_every: float
    """Seconds between checkpoints."""
    picture_every: int
    """Epochs between pictures of generated patches; 0: none."""


class TrainingRun:
    """A training; it goes on from its checkpoint if there is one. Raises what `Trainer` and the store raise."""

    def __init__(self, task: Task, outputs: Outputs, device: torch.device | str = "cpu") -> None:
        self.task, self.outputs = task, outputs
        self.fold = task.cut()
        initial = task.initial.of_fold(self.fold.number) if task.initial else None
        images, patches = self.fold.train_images, self.fold.train_patches
        self.trainer = Trainer(task.config, task.data, images, patches, self.fold.number, device, initial=initial)
        self.curves: list[dict[str, Any]] = []

    @property
    def finished(self) -> bool:
        """All epochs are done, or the training has stopped early."""
        return self.trainer.stopped or self.trainer.epoch >= self.trainer.config.training.epochs

    def go(self, report_row: Callable[[Row], None], stopping: Callable[[], bool]) -> bool:
        """Trains to the end; `report_row` gets each epoch's curve row. False if `stopping` ended it after some epoch.

        Either way what was done is kept. Raises Diverged, and CheckpointError if checkpoints cannot be written.
        """
        outputs = self.outputs
        with CheckpointStore(outputs.checkpoints, self._identity(), keep_last=2, every=outputs.save_every) as store:
            self._restore(store)
            with Board(outputs.folder / "tensorboard", self.trainer.epoch + 1) as board:
                while not self.finished and not stopping():
                    self._epoch(board, report_row)
                    if store.due:
                        self._save(store)
            if not self.finished:
                if self.curves:
                    self._save(store)
                return False
            self._finish()
            store.clear()
        return True

    def test_scores(self) -> dict[str, float]:
        """AUC and accuracy on the fold's test images; empty without a fold."""
        if not len(self.fold.test_images):
            return {}
        labels, scores = self.task.data.labels[self.fold.test_images], self.trainer.score(self.fold.test_images)
        return {"auc": auc(labels, scores), "accuracy": accuracy(labels, scores)}

    def _epoch(self, board: Board, report_row: Callable[[Row], None]) -> None:
        row = self.trainer.advance()
        self.curves.append(row)
        board.add({**row, **{f"rate_{name}": rate for name, rate in self.trainer.rates.items()}})
        every = self.outputs.picture_every
        if every and (row["epoch"] % every == 0 or self.finished) and self.trainer.model.generator is not None:
            self._draw(row["epoch"])
        report_row(row)

    def _draw(self, epoch: int) -> None:
        seed = seed_for(self.trainer.config.training.seed, self.fold.number, Purpose.PICTURE)
        generated = patches_from(self.trainer.current, seed)
        real = self.task.data.patches[self.fold.train_patches[:16]]
        write_atomic(self.outputs.folder / "generated" / f"epoch-{epoch:04d}.png", picture(real, generated))

    def _save(self, store: CheckpointStore) -> None:
        self._write_curves()
        state = {"trainer": self.trainer.state_dict(), "curves": list(self.curves)}
        store.save(self.trainer.epoch, state)

    def _restore(self, store: CheckpointStore) -> None:
        saved = store.load()
        if saved is not None:
            self.trainer.load_state_dict(saved[1]["trainer"])
            self.curves = saved[1]["curves"]

    def _finish(self) -> None:
        """Writes the results; what makes the folder a model folder comes last."""
        task, folder = self.task, self.outputs.folder
        self._write_curves()
        if len(self.fold.test_images):
            tested = self.fold.test_images
            part = FoldPredictions(self.fold.number, tested, self.trainer.score(tested))
            write_table(folder / "predictions.parquet", predictions_table(task.data, [part]))
        started = (task.initial.fingerprints, task.initial.card) if task.initial else ()
        seen = {"model": seen_patients(task.data, self.fold, task.initial)}
        put_models(folder, card_for(self.trainer.config, task.data, *started), {"model": self.trainer.result}, seen)

    def _write_curves(self) -> None:
        write_table(self.outputs.folder / "curves.parquet", pa.Table.from_pylist(self.curves))

    def _identity(self) -> dict[str, Any]:
        task = self.task
        initial = task.initial.digest if task.initial else None
        return identity_of(self.trainer.config, task.data, task.splits, fold=task.fold, initial=initial)
