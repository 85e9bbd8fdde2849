"""One trial's work on one worker, a round at a time. Knows nothing of Ray, so a test can run it.

What a trial leaves is complete on the disk before the driver hears of it, and a worker that takes over from one that
died goes on from the last rung.
"""

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.config import ExperimentConfig
from diagram_ray.errors import DiagramError
from diagram_ray.results import Measurement, write_atomic
from diagram_ray.search.fidelity import Ladder
from diagram_ray.search.files import TrialFiles
from diagram_ray.search.study_state import Round
from diagram_ray.search.tables import write_table

log = logging.getLogger("diagram_ray")

SAVE_EVERY = 120.0
"""Seconds between checkpoints within a rung: so much work a crash can cost."""


class Validation(Protocol):
    """What a trial needs of `training.cross_validation.CrossValidation`."""

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Trains the first `folds` folds up to `epochs`, an epoch of each at a time; yields their curve rows."""

    def measure(self, folds: int) -> Measurement:
        """What the first `folds` folds score now."""

    def predictions(self) -> pa.Table:
        """Out-of-fold scores of all images."""

    def save(self, folder: Path) -> None:
        """Writes the state of all folds, atomically."""

    def load_state(self, folder: Path) -> None:
        """Takes the state back from `folder`."""

    def export(self, folder: Path) -> None:
        """Writes config.yaml and the folds' weights."""


class TrialRun:
    """Runs trial `number` from its last checkpoint, or from the start; `step` does one round."""

    def __init__(
        self,
        number: int,
        config: ExperimentConfig,
        ladder: Ladder,
        files: TrialFiles,
        make: Callable[[ExperimentConfig], Validation],
    ) -> None:
        self._number = number
        self._config = config
        self._ladder = ladder
        self._files = files
        self._make = make
        self._curves: list[dict[str, Any]] = []
        self._saved = time.monotonic()
        self._rounds = self._work()

    def step(self) -> Round:
        """The next round. A failure of any kind is a result too: it ends this trial, not the study."""
        try:
            return next(self._rounds)
        except Exception as error:
            log.debug("trial %d failed", self._number, exc_info=error)
            if self._curves:
                self._write_curves()
            return Round(self._number, 0, 0, len(self._curves), failed=_reason(error))

    def _work(self) -> Iterator[Round]:
        if self._files.measurement.is_file():
            yield self._reached(self._ladder.top, _read_measurement(self._files.measurement))
            return
        validation = self._restore()
        for rung, point in enumerate(self._ladder.rungs):
            # Right at a rung it is not known whether the driver has heard of it: it is told (again).
            if point.fold_epochs >= len(self._curves):
                yield from self._climb(validation, rung)
                yield self._finish_rung(validation, rung)

    def _climb(self, validation: Validation, rung: int) -> Iterator[Round]:
        point = self._ladder.rungs[rung]
        for rows in validation.advance(point.folds, point.epochs):
            self._curves += rows
            scores = [row["auc"] for row in rows]
            epoch = max(row["epoch"] for row in rows)
            if time.monotonic() - self._saved > SAVE_EVERY:
                self._save(validation)
            yield Round(self._number, point.folds, epoch, len(self._curves), sum(scores) / len(scores))

    def _finish_rung(self, validation: Validation, rung: int) -> Round:
        """Writes what the rung leaves; in an order in which a crash anywhere costs no finished work."""
        measurement = validation.measure(self._ladder.rungs[rung].folds)
        if rung < self._ladder.top:
            self._save(validation)
        else:
            self._write_curves()
            write_table(self._files.predictions, validation.predictions())
            validation.export(self._files.models)
            write_atomic(self._files.measurement, json.dumps(dataclasses.asdict(measurement)))
        return self._reached(rung, measurement)

    def _save(self, validation: Validation) -> None:
        """Checkpoints are named by the fold-epochs they hold; only the last is kept."""
        folder = self._files.checkpoints / f"{len(self._curves):06d}"
        if not folder.is_dir():
            self._write_curves()
            validation.save(folder)
        for other in self._files.checkpoints.iterdir():
            if other != folder:
                shutil.rmtree(other, ignore_errors=True)
        self._saved = time.monotonic()

    def _write_curves(self) -> None:
        write_table(self._files.curves, pa.Table.from_pylist(self._curves))

    def _restore(self) -> Validation:
        """The trial as it was last saved. A checkpoint that cannot be read costs its work, not the trial."""
        folders = self._files.checkpoints.iterdir() if self._files.checkpoints.is_dir() else iter(())
        for folder in sorted((folder for folder in folders if folder.name.isdigit()), reverse=True):
            try:
                validation = self._make(self._config)
                validation.load_state(folder)
                # The file may be ahead of the checkpoint.
                self._curves = pq.read_table(self._files.curves).to_pylist()[: int(folder.name)]
                return validation
            except (DiagramError, OSError, ValueError, KeyError) as error:
                log.warning("%s: cannot be read, trial %d starts anew: %s", folder, self._number, error)
                shutil.rmtree(folder, ignore_errors=True)
        return self._make(self._config)

    def _reached(self, rung: int, measurement: Measurement) -> Round:
        point = self._ladder.rungs[rung]
        return Round(
            self._number, point.folds, point.epochs, point.fold_epochs, measurement.auc_mean, rung, measurement
        )


def _read_measurement(path: Path) -> Measurement:
    values = json.loads(path.read_text(encoding="utf-8"))
    return Measurement(
        **{**values, "fold_auc": tuple(values["fold_auc"]), "fold_accuracy": tuple(values["fold_accuracy"])}
    )


def _reason(error: Exception) -> str:
    """One line for the table of trials."""
    if isinstance(error, DiagramError):
        return str(error)
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return f"out of memory: {text[:300]}"
    return f"{type(error).__name__}: {text[:300]}"
