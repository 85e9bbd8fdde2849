"""The files of a study's trials, and which of them are kept.

STUDY/trials/0007/        scores-0.npy (by rung), curves.parquet, predictions.parquet, models/: complete before the
                          ledger mentions them
STUDY/checkpoints/0007/   rung-1/: the state of all folds at the last rung; removed when the trial ends
"""

import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diagram_ray.errors import DataError, StoreError, one_line
from diagram_ray.results import Trial, TrialState, better
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, copy_folder, remove

MODEL = "config.yaml"
"""The file that is written last into a model folder."""


@dataclass(frozen=True)
class TrialFiles:
    """The places of a trial's files."""

    trial: Place
    checkpoints: Place

    @classmethod
    def of(cls, study: Place, number: int) -> "TrialFiles":
        """The files of trial `number` in a study folder."""
        return cls(study / "trials" / f"{number:04d}", study / "checkpoints" / f"{number:04d}")

    @property
    def curves(self) -> Place:
        """The file of curves: one row for each fold and epoch."""
        return self.trial / "curves.parquet"

    def scores(self, rung: int) -> Place:
        """The file of the scores of all images of the rung's folds."""
        return self.trial / f"scores-{rung}.npy"

    @property
    def predictions(self) -> Place:
        """The file of out-of-fold scores; of complete trials only."""
        return self.trial / "predictions.parquet"

    @property
    def models(self) -> Place:
        """The folder of the exported folds of a complete trial; kept for the best one only."""
        return self.trial / "models"

    @property
    def measurement(self) -> Place:
        """The file of the last rung's measurement: written last, so a worker that finds it has nothing left to do."""
        return self.trial / "measurement.json"


def write_scores(path: Place, scores: NDArray[np.float64]) -> None:
    """Writes a rung's (n,) scores."""
    content = io.BytesIO()
    np.save(content, scores, allow_pickle=False)
    write_atomic(path, content.getvalue())


def read_scores(path: Place) -> NDArray[np.float64]:
    """Reads the scores that `write_scores` wrote. Raises DataError."""
    try:
        scores = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        if scores.ndim != 1 or scores.dtype != np.float64:
            raise ValueError(f"holds {scores.shape} values of {scores.dtype}")
    except StoreError:
        raise
    except Exception as error:  # NumPy raises many kinds at damaged files
        raise DataError(f"{path}: cannot be read: {one_line(error)}") from None
    return np.asarray(scores)


class TrialCleanup:
    """Keeps the disk tidy: no checkpoints of trials that have ended, no models but the best trial's."""

    def __init__(self, folder: Place, trials: Mapping[int, Trial]) -> None:
        self._folder = folder
        self._best: Trial | None = None
        for trial in trials.values():
            if trial.state is not TrialState.RUNNING:
                self.ended(trial)

    def ended(self, trial: Trial) -> None:
        """Removes what is not needed any more after the end of `trial`."""
        files = TrialFiles.of(self._folder, trial.number)
        remove(files.checkpoints)
        loser: Trial | None = trial
        if trial.state is TrialState.COMPLETE and better(trial, self._best):
            self._best, loser = trial, self._best
        if loser is not None:
            remove(TrialFiles.of(self._folder, loser.number).models)


def copy_models(source: Place, target: Place) -> None:
    """Puts a copy of a model folder in the place of `target`: whole, or not at all. On a disk, files are linked."""
    if isinstance(source, StorePath) and isinstance(target, StorePath):
        copy_folder(source, target, MODEL)
    elif isinstance(source, Path) and isinstance(target, Path):
        _exchange(source, target)


def _exchange(source: Path, target: Path) -> None:
    half = target.with_name(f".{target.name}.new")
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(source, half, copy_function=_link)
    if target.exists():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        half.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        half.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
