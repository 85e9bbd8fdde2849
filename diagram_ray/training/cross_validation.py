"""One configuration on all folds of a cross-validation, trained one fold after another.

The folds advance in lock-step, so that after every epoch there is a figure for each of them, and a configuration can
be judged, stopped, saved and continued at any such point. `training.parallel.parallel_cross_validation` trains the same
folds side by side, in threads and in several processes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.evaluation.metrics import accuracy, auc
from diagram_ray.evaluation.predictions import FoldPredictions, check_predictions, predictions_table
from diagram_ray.models import DiaGRAM, outline
from diagram_ray.results import Measurement
from diagram_ray.storage.paths import Place
from diagram_ray.training.checkpoints.model_folder import card_for, write_models
from diagram_ray.training.checkpoints.run_identity import fit_to_data, identity_of
from diagram_ray.training.checkpoints.serialisation import copied
from diagram_ray.training.compiling import forget_compiled
from diagram_ray.training.device import deterministic
from diagram_ray.training.parallel.fold_threads import FoldThread
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.transfer import InitialWeights, seen_patients

T = TypeVar("T")
Weights = dict[str, torch.Tensor]


@dataclass
class FoldRun:
    """One fold under way: the epochs done, and the scores of its test images after the last of them."""

    fold: Fold
    trainer: Trainer | None = None
    """None before the first epoch, and where another process trains the fold."""
    epoch: int = 0
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class FoldResult:
    """What one epoch of a fold gave."""

    row: dict[str, Any]
    """The curve row."""
    scores: NDArray[np.float64]
    """The scores of the fold's test images, by image id."""


class CrossValidation:
    """`config` on the folds of `splits`. A fold's model is made when the fold is first advanced.

    The model never sees its test fold; the scores are those of the last epoch, or of the best one on a validation part
    of the training fold, never of the best one on the test fold. `initial` are weights that the folds start with.
    """

    _group: ProcessGroup = SINGLE_PROCESS
    """The processes that share each fold's minibatches."""

    def __init__(
        self,
        config: ExperimentConfig,
        data: TrainingData,
        splits: Splits,
        device: torch.device | str = "cpu",
        initial: InitialWeights | None = None,
    ) -> None:
        self.config = fit_to_data(config, data)
        self.data = data
        self.splits = splits
        self.device = device
        self.initial = initial
        self._runs: dict[int, FoldRun] = {}
        self._seconds = self._worker_seconds = 0.0
        forget_compiled(self.config.training.compile)

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of, so that this cross-validation may go on from it."""
        return identity_of(self.config, self.data, self.splits, initial=self.initial and self.initial.digest)

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Brings the first `folds` folds to `epochs` epochs (counted from the beginning), one epoch a round.

        Yields after each round the curve rows of the folds it advanced: `fold, epoch, loss_adversarial, loss_patch,
        loss_image, loss_generator, gan_loss_ratio, gan_diversity, training_auc, auc, accuracy, seconds`. `auc` is on
        the test images, `training_auc` on some training images. Folds that are behind catch up first. Raises Diverged,
        Collapsed, and LeakageError or DataError for a fold that cannot be trained.
        """
        return self._rounds([self._run(number) for number in range(folds)], epochs)

    def advance_once(self, folds: int, epochs: int) -> list[dict[str, Any]]:
        """One round of `advance`; no rows if the folds have done their epochs."""
        return next(self.advance(folds, epochs), [])

    def advance_fold(self, number: int, epochs: int) -> Iterator[dict[str, Any]]:
        """Brings one fold alone to `epochs` epochs; yields its curve rows. It becomes what it becomes beside others."""
        return (row for rows in self._rounds([self._run(number)], epochs) for row in rows)

    def _rounds(self, runs: Sequence[FoldRun], epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Brings the folds to `epochs` epochs: those that are behind train one a round. Yields their curve rows."""
        while behind := folds_behind(runs, epochs):
            for run in behind:
                self._trainer(run)  # one that cannot be trained fails before others are
            with deterministic(self.config.training.deterministic):
                results = list(map(self._train_epoch, behind))
            seconds = sum(result.row["seconds"] for result in results)
            yield self._take_in(results, seconds, seconds)

    def _train_epoch(self, run: FoldRun, thread: FoldThread | None = None) -> FoldResult:
        """Trains a fold for one epoch, in `thread`, and scores its test images."""
        started = time.perf_counter()
        trainer, tested = self._trainer(run), run.fold.test_images
        row = trainer.advance(thread)
        scores, labels = trainer.score(tested), self.data.labels[tested]
        row |= {"auc": auc(labels, scores), "accuracy": accuracy(labels, scores)}
        return FoldResult(row | {"seconds": time.perf_counter() - started}, scores)

    def _take_in(self, results: list[FoldResult], seconds: float, worker_seconds: float) -> list[dict[str, Any]]:
        """Notes what a round gave, and the time that it took. Returns the curve rows in the order of the folds."""
        for result in results:
            run = self._runs[result.row["fold"]]
            run.epoch, run.scores = result.row["epoch"], result.scores
        self._seconds += seconds
        self._worker_seconds += worker_seconds
        return sorted((result.row for result in results), key=lambda row: int(row["fold"]))

    def fold_scores(self, number: int) -> NDArray[np.float64]:
        """(n,) of the test images of a fold as they stand, by image id."""
        return self._runs[number].scores

    def measure(self, folds: int) -> Measurement:
        """What the first `folds` folds scored after the epochs they have done, which are as many in each."""
        runs = [self._runs[number] for number in range(folds)]
        epochs = {run.epoch for run in runs}
        if len(epochs) != 1:
            raise ValueError(f"the folds have done different numbers of epochs: {sorted(epochs)}")
        return Measurement(
            folds=folds,
            epochs=epochs.pop(),
            fold_auc=tuple(auc(self._test_labels(run), run.scores) for run in runs),
            fold_accuracy=tuple(accuracy(self._test_labels(run), run.scores) for run in runs),
            seconds=self._seconds,
            worker_seconds=self._worker_seconds,
        )

    def scores(self, folds: int) -> NDArray[np.float64]:
        """(n,) of the test images of the first `folds` folds as they stand, one fold after the other, by image id."""
        return np.concatenate([self.fold_scores(number) for number in range(folds)])

    def predictions(self) -> pa.Table:
        """Out-of-fold scores of all folds: `fold, image_id, patient_id, label, score`, each image exactly once."""
        runs = [self._runs[number] for number in range(self.splits.n_folds)]
        parts = [FoldPredictions(run.fold.number, run.fold.test_images, run.scores) for run in runs]
        table = predictions_table(self.data, parts)
        check_predictions(table, self.data.image_ids, self.data.patient_ids)
        return table

    def export(self, folder: Place) -> None:
        """Writes the folds' models as a model folder: config.yaml and fold-K.safetensors."""
        self._write_models(folder, self._of_all_folds(copied_weights))

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from here bit by bit, given the same `identity`; tensors and plain values only."""
        folds = {
            number: {"trainer": state, "scores": torch.from_numpy(self._runs[number].scores)}
            for number, state in self._of_all_folds(Trainer.state_dict).items()
        }
        return {"folds": folds, "seconds": self._seconds, "worker_seconds": self._worker_seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from what `state_dict` of a cross-validation of the same `identity` returned."""
        self._seconds, self._worker_seconds = state["seconds"], state["worker_seconds"]
        self._runs.clear()
        for number, saved in sorted(state["folds"].items()):
            self._trainer(self._restored(number, saved)).load_state_dict(saved["trainer"])

    def _run(self, number: int) -> FoldRun:
        if number not in self._runs:
            self._runs[number] = FoldRun(self.splits.fold(self.data, number))
        return self._runs[number]

    def _restored(self, number: int, saved: dict[str, Any]) -> FoldRun:
        """A fold with the epochs and the scores that were `saved` of it."""
        run = self._run(number)
        run.epoch, run.scores = int(saved["trainer"]["epoch"]), saved["scores"].numpy()
        return run

    def _trainer(self, run: FoldRun) -> Trainer:
        """The trainer of a fold, made when it is first needed."""
        if run.trainer is None:
            fold = run.fold
            initial = self.initial.of_fold(fold.number) if self.initial else None
            part = fold.train_images, fold.train_patches, fold.number
            run.trainer = Trainer(self.config, self.data, *part, self.device, initial=initial, group=self._group)
        return run.trainer

    def _of_all_folds(self, take: Callable[[Trainer], T]) -> dict[int, T]:
        """Fold -> what `take` takes of its trainer."""
        return {number: take(run.trainer) for number, run in self._runs.items() if run.trainer is not None}

    def _write_models(self, folder: Place, weights: dict[int, Weights]) -> None:
        models = {f"fold-{number}": self._model(weights[number]) for number in sorted(weights)}
        folds = {f"fold-{number}": run.fold for number, run in sorted(self._runs.items())}
        seen = {name: seen_patients(self.data, fold, self.initial) for name, fold in folds.items()}
        started = (self.initial.fingerprints, self.initial.card) if self.initial else ()
        write_models(folder, card_for(self.config, self.data, *started), models, seen)

    def _model(self, weights: Weights) -> DiaGRAM:
        model = outline(self.config.model)
        model.load_state_dict(weights, assign=True)
        return model

    def _test_labels(self, run: FoldRun) -> NDArray[np.int64]:
        return self.data.labels[run.fold.test_images]


def folds_behind(runs: Sequence[FoldRun], epochs: int) -> list[FoldRun]:
    """The folds that have done the fewest epochs; none if all have done `epochs`."""
    done = min(run.epoch for run in runs)
    return [run for run in runs if run.epoch == done] if done < epochs else []


def copied_weights(trainer: Trainer) -> Weights:
    """A copy of the weights of the model that a trainer has made."""
    weights: Weights = copied(trainer.result.state_dict())
    return weights
