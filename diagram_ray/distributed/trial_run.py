"""One trial's work on one worker, a round at a time. Knows nothing of Ray, so a test can run it.

What a trial leaves is complete on the disk before the driver hears of it, and a worker that takes over from one that
died goes on from the last rung.
"""

import dataclasses
import json
import logging
import shutil
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
        validation, done = self._restore()
        if done is not None:
            yield self._reached(done, validation.measure(self._ladder.rungs[done].folds))
        for rung in range(0 if done is None else done + 1, self._ladder.top + 1):
            yield from self._climb(validation, rung)
            yield self._finish_rung(validation, rung)

    def _climb(self, validation: Validation, rung: int) -> Iterator[Round]:
        point = self._ladder.rungs[rung]
        for rows in validation.advance(point.folds, point.epochs):
            self._curves += rows
            scores = [row["auc"] for row in rows]
            epoch = max(row["epoch"] for row in rows)
            yield Round(self._number, point.folds, epoch, len(self._curves), sum(scores) / len(scores))

    def _finish_rung(self, validation: Validation, rung: int) -> Round:
        """Writes what the rung leaves; in an order in which a crash anywhere costs no finished work."""
        measurement = validation.measure(self._ladder.rungs[rung].folds)
        self._write_curves()
        if rung == self._ladder.top:
            write_table(self._files.predictions, validation.predictions())
            validation.export(self._files.models)
            write_atomic(self._files.measurement, json.dumps(dataclasses.asdict(measurement)))
        else:
            validation.save(self._files.checkpoints / f"rung-{rung}")
            for older in range(rung):
                shutil.rmtree(self._files.checkpoints / f"rung-{older}", ignore_errors=True)
        return self._reached(rung, measurement)

    def _write_curves(self) -> None:
        write_table(self._files.curves, pa.Table.from_pylist(self._curves))

    def _restore(self) -> tuple[Validation, int | None]:
        """A validation and the rung it stands at. One that cannot be read costs its work, not its trial."""
        for rung in range(self._ladder.top - 1, -1, -1):
            folder = self._files.checkpoints / f"rung-{rung}"
            if folder.is_dir() and self._files.curves.is_file():
                try:
                    validation = self._make(self._config)
                    validation.load_state(folder)
                    self._curves = self._curves_until(rung)
                    return validation, rung
                except (DiagramError, OSError, ValueError, KeyError) as error:
                    log.warning("%s: cannot be read, trial %d starts anew: %s", folder, self._number, error)
        return self._make(self._config), None

    def _curves_until(self, rung: int) -> list[dict[str, Any]]:
        """The rows up to a rung: the file may be ahead of the checkpoint."""
        point = self._ladder.rungs[rung]
        rows: list[dict[str, Any]] = pq.read_table(self._files.curves).to_pylist()
        return [row for row in rows if row["fold"] < point.folds and row["epoch"] <= point.epochs]

    def _reached(self, rung: int, measurement: Measurement) -> Round:
        point = self._ladder.rungs[rung]
        trained = point.folds * point.epochs
        return Round(self._number, point.folds, point.epochs, trained, measurement.auc_mean, rung, measurement)


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
