"""One configuration on all folds of a cross-validation, trained side by side.

The folds advance in lock-step, so that after every epoch there is a figure for each of them, and a configuration can
be judged, stopped, saved and continued at any such point.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.errors import DataError, DiagramError
from diagram_ray.evaluation.metrics import accuracy, auc
from diagram_ray.evaluation.predictions import check_predictions
from diagram_ray.models import DiaGRAM, outline
from diagram_ray.results import Measurement
from diagram_ray.storage.paths import Place
from diagram_ray.training.checkpoints.model_folder import card_for, write_models
from diagram_ray.training.checkpoints.run_identity import fit_to_data, identity_of
from diagram_ray.training.checkpoints.serialisation import bytes_of, copied
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.compiling import forget_compiled
from diagram_ray.training.device import deterministic
from diagram_ray.training.parallel.fold_packing import packing_for
from diagram_ray.training.parallel.fold_teams import SOLO, Crew
from diagram_ray.training.parallel.fold_threads import Lane
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.transfer import InitialWeights, seen_patients

T = TypeVar("T")


@dataclass
class _FoldRun:
    """One fold under way: the epochs done, and the scores of its test images after the last of them."""

    fold: Fold
    trainer: Trainer | None = None
    """None before the first epoch, and where another team trains the fold."""
    epoch: int = 0
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True)
class _Found:
    """What a team tells the others of an epoch of a fold."""

    row: dict[str, Any]
    scores: NDArray[np.float64]
    workers: int
    team: int


class CrossValidation:
    """`config` on the folds of `splits`. A fold's model is made when the fold is first advanced.

    The model never sees its test fold; the scores are those of the last epoch, or of the best one on a validation part
    of the training fold, never of the best one on the test fold. `initial` are weights that the folds start with.

    The processes of `crew` train one cross-validation: each makes its own with the same arguments and they call the
    same methods in the same order. What a method returns, all get, unless it says otherwise.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        data: TrainingData,
        splits: Splits,
        device: torch.device | str = "cpu",
        initial: InitialWeights | None = None,
        crew: Crew = SOLO,
    ) -> None:
        self.config = fit_to_data(config, data)
        self.data = data
        self.splits = splits
        self.device = device
        self.initial = initial
        self.crew = crew
        self._runs: dict[int, _FoldRun] = {}
        self._seconds = self._worker_seconds = 0.0
        forget_compiled(self.config.training.compile)
        self._packing = packing_for(crew, splits.n_folds, self.config, torch.device(device))

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
        while rows := self.advance_once(folds, epochs):
            yield rows

    def advance_once(self, folds: int, epochs: int) -> list[dict[str, Any]]:
        """One round of `advance`; no rows if the folds have done their epochs."""
        runs = [self._run(number) for number in range(folds)]
        done = min(run.epoch for run in runs)
        return self._round([run for run in runs if run.epoch == done]) if done < epochs else []

    def advance_fold(self, number: int, epochs: int) -> Iterator[dict[str, Any]]:
        """Brings one fold alone to `epochs` epochs; yields its curve rows. It becomes what it becomes beside others."""
        run = self._run(number)
        while run.epoch < epochs:
            yield from self._round([run])

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

    def export(self, folder: Place) -> None:
        """Writes the folds' models as a model folder: config.yaml and fold-K.safetensors. The first process writes."""
        weights = self._of_all_folds(lambda trainer: copied(trainer.result.state_dict()))
        if self.crew.world.rank == 0:
            models = {f"fold-{number}": self._model(weights[number]) for number in sorted(weights)}
            folds = {f"fold-{number}": run.fold for number, run in sorted(self._runs.items())}
            seen = {name: seen_patients(self.data, fold, self.initial) for name, fold in folds.items()}
            started = (self.initial.fingerprints, self.initial.card) if self.initial else ()
            write_models(folder, card_for(self.config, self.data, *started), models, seen)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from here bit by bit, given the same `identity`; tensors and plain values only.

        Only the first process gets the states of all folds. Any number of processes may go on from them.
        """
        trainers = self._of_all_folds(lambda trainer: trainer.state_dict())
        folds = {
            number: {"trainer": state, "scores": torch.from_numpy(self._runs[number].scores)}
            for number, state in trainers.items()
        }
        return {"folds": folds, "seconds": self._seconds, "worker_seconds": self._worker_seconds}

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Goes on from what `state_dict` of a cross-validation of the same `identity` returned.

        The first process's state counts; the others may be given None.
        """
        first = self.crew.world.from_first
        folds = state["folds"] if state else {}
        numbers, self._seconds, self._worker_seconds = first(
            (sorted(folds), state["seconds"], state["worker_seconds"]) if state else ([], 0.0, 0.0)
        )
        self._runs.clear()
        for number in numbers:
            saved: dict[str, Any] = first(folds[number] if state else {})  # one fold's at a time: they may be large
            run = self._run(number)
            run.epoch, run.scores = int(saved["trainer"]["epoch"]), saved["scores"].numpy()
            if self.crew.has(number):
                self._trainer(run).load_state_dict(saved["trainer"])

    def save(self, folder: Path) -> None:
        """Writes the state as a checkpoint into `folder`. Raises CheckpointError if that fails."""
        state = self.state_dict()
        if self.crew.world.rank == 0:
            with CheckpointStore(folder, self.identity) as store:
                store.save(sum(run.epoch for run in self._runs.values()), state)

    def load_state(self, folder: Path) -> None:
        """Goes on from what `save` wrote. Raises DataError if there is none, MismatchError if it is of another run."""
        found = CheckpointStore(folder, self.identity).load()
        if found is None:
            raise DataError(f"{folder}: no checkpoint is there that can be read")
        self.load_state_dict(found[1])

    def _run(self, number: int) -> _FoldRun:
        if number not in self._runs:
            self._runs[number] = _FoldRun(self.splits.fold(self.data, number))
        return self._runs[number]

    def _trainer(self, run: _FoldRun) -> Trainer:
        """Made when it is first needed."""
        if run.trainer is None:
            fold = run.fold
            initial = self.initial.of_fold(fold.number) if self.initial else None
            part = fold.train_images, fold.train_patches, fold.number
            run.trainer = Trainer(self.config, self.data, *part, self.device, initial=initial, context=self.crew.team)
        return run.trainer

    def _round(self, runs: list[_FoldRun]) -> list[dict[str, Any]]:
        """One epoch of each of these folds. What fails in one team is raised in all processes."""
        found: list[_Found] = []
        failure: DiagramError | None = None
        try:
            found = self._advance_mine([run for run in runs if self.crew.has(run.fold.number)])
        except DiagramError as error:
            failure = error
        told = self.crew.world.exchange((found if self.crew.speaks else [], failure))
        if failures := [theirs for _, theirs in told if theirs is not None]:
            raise failure or failures[0]
        return self._noted([each for theirs, _ in told for each in theirs])

    def _advance_mine(self, runs: list[_FoldRun]) -> list[_Found]:
        """The folds of this process, side by side or one after another: the results are the same."""
        for run in runs:
            self._trainer(run)  # first of all, because initial weights come from PyTorch's one generator
        with deterministic(self.config.training.deterministic):  # a switch of the whole process
            made = self._packing.each(
                runs, lambda run: self.crew.place(run.fold.number), self._advance, lambda run: _kept_by(run.trainer)
            )
        for found, seconds in made:
            found.row["seconds"] = seconds
        return [found for found, _ in made]

    def _advance(self, run: _FoldRun, lane: Lane) -> _Found:
        trainer, tested = self._trainer(run), run.fold.test_images
        row = trainer.advance(lane)
        scores = trainer.score(tested)
        labels = self.data.labels[tested]
        row |= {"auc": auc(labels, scores), "accuracy": accuracy(labels, scores)}
        return _Found(row, scores, self.crew.team.world_size, self.crew.number)

    def _noted(self, found: list[_Found]) -> list[dict[str, Any]]:
        """Takes in what all teams found. The curve rows in the order of the folds."""
        teams: dict[int, float] = {}
        for each in found:
            run, seconds = self._runs[each.row["fold"]], each.row["seconds"]
            run.epoch, run.scores = each.row["epoch"], each.scores
            teams[each.team] = teams.get(each.team, 0.0) + seconds
            self._worker_seconds += seconds * each.workers
        self._seconds += max(teams.values())
        return sorted((each.row for each in found), key=lambda row: int(row["fold"]))

    def _of_all_folds(self, take: Callable[[Trainer], T]) -> dict[int, T]:
        """Fold -> what `take` takes of its trainer; complete in the first process only."""
        mine = {number: take(run.trainer) for number, run in self._runs.items() if run.trainer is not None}
        if self.crew.teams == 1:
            return mine
        told = self.crew.world.to_first(copied(mine) if self.crew.speaks else {})
        return dict(sorted(item for theirs in told for item in theirs.items()))

    def _model(self, weights: dict[str, torch.Tensor]) -> DiaGRAM:
        model = outline(self.config.model)
        model.load_state_dict(weights, assign=True)
        return model

    def _test_labels(self, run: _FoldRun) -> NDArray[np.int64]:
        return self.data.labels[run.fold.test_images]


def _kept_by(trainer: Trainer | None) -> int | None:
    """Bytes that a trainer has between epochs; None if its training has stopped early."""
    return None if trainer is None or trainer.stopped else bytes_of(trainer.state_dict())
