"""One trial's work on one worker, a round at a time. Knows nothing of Ray, so a test can run it.

What a trial leaves is complete on the disk, or in the object store, before the driver hears of it, and a worker that
takes over from one that died goes on from the last rung.
"""

import dataclasses
import errno
import json
import logging
import time
from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from diagram_ray.config import ExperimentConfig
from diagram_ray.errors import CheckpointError, DiagramError, StoreError
from diagram_ray.results import Measurement
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.messages import TrialReport
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.storage.paths import Place
from diagram_ray.study.trial_files import TrialFiles, write_scores
from diagram_ray.training.checkpoints.store import CheckpointStore

log = logging.getLogger("diagram_ray")

SAVE_EVERY = 120.0
"""Seconds between checkpoints within a rung: so much work a crash can cost."""
KEEP_LAST = 2
"""Checkpoints: one more than is needed, for the case that the newest is damaged."""
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class CrossValidationLike(Protocol):
    """What a trial needs of `training.cross_validation.CrossValidation`."""

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Trains the first `folds` folds up to `epochs`, an epoch of each at a time; yields their curve rows."""

    def measure(self, folds: int) -> Measurement:
        """What the first `folds` folds score now."""

    def scores(self, folds: int) -> NDArray[np.float64]:
        """The scores of the first `folds` folds' test images, one fold after the other, by image id."""

    def predictions(self) -> pa.Table:
        """Out-of-fold scores of all images."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of, so that this may go on from it."""

    def state_dict(self) -> dict[str, Any]:
        """The state of all folds: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the state back."""

    def export(self, folder: Place) -> None:
        """Writes config.yaml and the folds' weights."""


class TrialRun:
    """Runs trial `number` from its last checkpoint, or from the start; `step` does one round.

    When this machine is `draining`, every round is saved.
    """

    def __init__(
        self,
        number: int,
        config: ExperimentConfig,
        ladder: Ladder,
        files: TrialFiles,
        make: Callable[[ExperimentConfig], CrossValidationLike],
        draining: Callable[[], bool] = lambda: False,
    ) -> None:
        self._number = number
        self._config = config
        self._ladder = ladder
        self._files = files
        self._make = make
        self._draining = draining
        self._begun_at = 0
        self._curves: list[dict[str, Any]] = []
        self._rounds = self._work()

    def step(self) -> TrialReport:
        """The next round. A failure of any kind is a result too: it ends this trial, not the study.

        But where nothing can be written any more, all trials would fail: there the study ends, to be resumed.
        """
        began = time.monotonic()
        try:
            this_round = next(self._rounds)
            return dataclasses.replace(this_round, begun_at=self._begun_at, seconds=time.monotonic() - began)
        except Exception as error:
            log.debug("trial %d failed", self._number, exc_info=error)
            return self._failed(error)

    def _failed(self, error: Exception) -> TrialReport:
        if not cannot_write(error) and self._curves:
            try:
                self._write_curves()
            except Exception as second:
                error = second
        if cannot_write(error):
            return TrialReport(self._number, 0, 0, len(self._curves), storage_failure=reason_of(error))
        return TrialReport(self._number, 0, 0, len(self._curves), failed=reason_of(error))

    def close(self) -> None:
        """Ends the trial's work here, wherever it stands, once a checkpoint that is being written is whole."""
        try:
            self._rounds.close()
        except CheckpointError as error:
            log.warning("trial %d: %s", self._number, error)

    def _work(self) -> Generator[TrialReport]:
        if self._files.measurement.is_file():
            self._begun_at = self._ladder.rungs[-1].fold_epochs
            yield self._reached(self._ladder.top, _read_measurement(self._files.measurement))
            return
        validation = self._make(self._config)
        place = self._files.checkpoints
        with CheckpointStore(place, validation.identity, keep_last=KEEP_LAST, every=SAVE_EVERY) as store:
            self._restore(validation, store)
            for rung, point in enumerate(self._ladder.rungs):
                # Right at a rung it is not known whether the driver has heard of it: it is told (again).
                if point.fold_epochs >= len(self._curves):
                    for rows in validation.advance(point.folds, point.epochs):
                        yield self._finish_epoch(validation, point.folds, rows, store)
                    yield self._finish_rung(validation, rung, store)

    def _finish_epoch(
        self, validation: CrossValidationLike, folds: int, rows: list[dict[str, Any]], store: CheckpointStore
    ) -> TrialReport:
        """Keeps the curve rows of an epoch, and saves where that is due or this machine is leaving."""
        self._curves += rows
        scores = [row["auc"] for row in rows]
        epoch = max(row["epoch"] for row in rows)
        draining = self._draining()
        if draining or store.due:
            self._save(validation, store)
        if draining:
            store.wait()
        auc, fitted = sum(scores) / len(scores), self._training_auc({row["fold"] for row in rows})
        return TrialReport(self._number, folds, epoch, len(self._curves), auc, draining=draining, training_auc=fitted)

    def _finish_rung(self, validation: CrossValidationLike, rung: int, store: CheckpointStore) -> TrialReport:
        """Writes what the rung leaves; in an order in which a crash anywhere costs no finished work.

        Nothing is being written any more when the driver hears of the rung: it may remove the trial's checkpoints.
        """
        folds = self._ladder.rungs[rung].folds
        training_auc = self._training_auc(range(folds))
        measurement = dataclasses.replace(validation.measure(folds), training_auc=training_auc)
        write_scores(self._files.scores(rung), validation.scores(folds))
        if rung < self._ladder.top:
            self._save(validation, store)
            store.wait()
        else:
            store.wait()
            self._write_curves()
            write_table(self._files.predictions, validation.predictions())
            validation.export(self._files.models)
            write_atomic(self._files.measurement, json.dumps(dataclasses.asdict(measurement)))
        return self._reached(rung, measurement)

    def _save(self, validation: CrossValidationLike, store: CheckpointStore) -> None:
        """A checkpoint's position is the fold-epochs it holds."""
        self._write_curves()
        store.save(len(self._curves), {"curves": list(self._curves), "validation": validation.state_dict()})

    def _write_curves(self) -> None:
        write_table(self._files.curves, pa.Table.from_pylist(self._curves))

    def _restore(self, validation: CrossValidationLike, store: CheckpointStore) -> None:
        """The trial as it was last saved. Checkpoints that cannot be read cost their work, not the trial."""
        saved = store.load()
        if saved is not None:
            validation.load_state_dict(saved[1]["validation"])
            self._curves = saved[1]["curves"]
            self._begun_at = len(self._curves)

    def _training_auc(self, folds: Collection[int]) -> float | None:
        """Mean over `folds`, each after the last epoch that it was trained; None where none was measured."""
        rows = [row for row in self._curves if row["fold"] in folds and row.get("training_auc") is not None]
        last = {row["fold"]: row["training_auc"] for row in rows}
        return sum(last.values()) / len(last) if last else None

    def _reached(self, rung: int, measurement: Measurement) -> TrialReport:
        point = self._ladder.rungs[rung]
        auc, fitted = measurement.auc_mean, measurement.training_auc
        done = point.fold_epochs
        return TrialReport(self._number, point.folds, point.epochs, done, auc, rung, measurement, training_auc=fitted)


def _read_measurement(path: Place) -> Measurement:
    values = json.loads(path.read_text(encoding="utf-8"))
    return Measurement(
        **{**values, "fold_auc": tuple(values["fold_auc"]), "fold_accuracy": tuple(values["fold_accuracy"])}
    )


def reason_of(error: Exception) -> str:
    """The reason for a trial's failure, as one line for the table of trials."""
    if isinstance(error, DiagramError):
        return str(error)
    from diagram_ray.training.gradient_step import is_out_of_memory  # PyTorch, which a driver need not load

    text = " ".join(str(error).split())
    if is_out_of_memory(error):
        return f"out of memory: {text[:300]}"
    return f"{type(error).__name__}: {text[:300]}"


def cannot_write(error: Exception) -> bool:
    """Whether an error says that nothing can be written any more, so that all other work would fail as well."""
    return isinstance(error, CheckpointError | StoreError) or (isinstance(error, OSError) and error.errno in NO_SPACE)
