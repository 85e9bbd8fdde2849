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

from diagram_ray.errors import DataError, told
from diagram_ray.results import Trial, TrialState, write_atomic


@dataclass(frozen=True)
class TrialFiles:
    """Where a trial keeps its files."""

    trial: Path
    checkpoints: Path

    @classmethod
    def of(cls, study: Path, number: int) -> "TrialFiles":
        """The files of trial `number` in a study folder."""
        return cls(study / "trials" / f"{number:04d}", study / "checkpoints" / f"{number:04d}")

    @property
    def curves(self) -> Path:
        """One row a (fold, epoch)."""
        return self.trial / "curves.parquet"

    def scores(self, rung: int) -> Path:
        """What all images of the rung's folds scored there."""
        return self.trial / f"scores-{rung}.npy"

    @property
    def predictions(self) -> Path:
        """Out-of-fold scores; of complete trials only."""
        return self.trial / "predictions.parquet"

    @property
    def models(self) -> Path:
        """Exported folds of a complete trial; kept for the best one only."""
        return self.trial / "models"

    @property
    def measurement(self) -> Path:
        """The measurement of the last rung: written last, so a worker that finds it has nothing left to do."""
        return self.trial / "measurement.json"


def write_scores(path: Path, scores: NDArray[np.float64]) -> None:
    """A rung's (n,) scores."""
    content = io.BytesIO()
    np.save(content, scores, allow_pickle=False)
    write_atomic(path, content.getvalue())


def read_scores(path: Path) -> NDArray[np.float64]:
    """What `write_scores` wrote. Raises DataError."""
    try:
        scores = np.load(path, allow_pickle=False)
        if scores.ndim != 1 or scores.dtype != np.float64:
            raise ValueError(f"holds {scores.shape} values of {scores.dtype}")
    except Exception as error:  # NumPy raises many kinds at damaged files
        raise DataError(f"{path}: cannot be read: {told(error)}") from None
    return np.asarray(scores)


def best_of(trials: Mapping[int, Trial]) -> Trial | None:
    """The complete trial with the highest mean AUC, the earliest of equals; None if no trial is complete."""
    best: Trial | None = None
    for _, trial in sorted(trials.items()):
        if trial.state is TrialState.COMPLETE and trial.last and better(trial, best):
            best = trial
    return best


def better(trial: Trial, best: Trial | None) -> bool:
    """Whether a complete trial takes the place of the best one so far."""
    if best is None or best.last is None or trial.last is None:
        return best is None
    return (-trial.last.auc_mean, trial.number) < (-best.last.auc_mean, best.number)


class Keeper:
    """Keeps the disk tidy: no checkpoints of trials that have ended, no models but the best trial's."""

    def __init__(self, folder: Path, trials: Mapping[int, Trial]) -> None:
        self._folder = folder
        self._best: Trial | None = None
        for trial in trials.values():
            if trial.state is not TrialState.RUNNING:
                self.ended(trial)

    def ended(self, trial: Trial) -> None:
        """Removes what is not needed any more now that `trial` has ended."""
        files = TrialFiles.of(self._folder, trial.number)
        shutil.rmtree(files.checkpoints, ignore_errors=True)
        loser: Trial | None = trial
        if trial.state is TrialState.COMPLETE and better(trial, self._best):
            self._best, loser = trial, self._best
        if loser is not None:
            shutil.rmtree(TrialFiles.of(self._folder, loser.number).models, ignore_errors=True)


def copy_folder(source: Path, target: Path) -> None:
    """Puts a copy of a folder in the place of `target`: whole, or not at all. Files are linked where that works."""
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
