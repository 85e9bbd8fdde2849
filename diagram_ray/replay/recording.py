"""Recordings of what many configurations scored case by case, epoch after epoch: searches are replayed on them."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diagram_ray.errors import DataError, UsageError, one_line
from diagram_ray.results import Study, Trial, TrialState
from diagram_ray.search.ladder import Rung
from diagram_ray.search.racing import Cases, CaseScores, FoldScore, mean_auc
from diagram_ray.storage.paths import Place
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.trial_files import TrialFiles, read_scores


@dataclass(frozen=True)
class Recording:
    """The scores of many configurations on the same cases after each of some numbers of epochs."""

    scores: NDArray[np.generic]
    """(C, E, N): any numbers that order the cases of a fold as the scores do; NaN where nothing was measured."""
    epochs: tuple[int, ...]
    """(E,) numbers of epochs, ascending"""
    cases: Cases
    params: tuple[dict[str, Any], ...]
    measured: tuple[int, ...] | None = None
    """(E,) number of folds whose scores are known after each of `epochs`; None: all."""

    @cached_property
    def _known(self) -> dict[tuple[int, int, int], FoldScore]:
        return {}

    @property
    def configurations(self) -> int:
        """The number of configurations, C."""
        return len(self.scores)

    @cached_property
    def folds(self) -> int:
        """The number of folds, F."""
        return int(self.cases.folds.max()) + 1

    @property
    def top(self) -> Rung:
        """The rung of all folds and all epochs."""
        return Rung(self.folds, self.epochs[-1])

    def case_scores(self, configuration: int, rung: Rung) -> CaseScores:
        """The scores of a configuration's first folds at a rung. Raises UsageError if that was not recorded."""
        measured = dict(zip(self.epochs, self.measured or [self.folds] * len(self.epochs), strict=True))
        if rung.folds > measured.get(rung.epochs, 0):
            recorded = ", ".join(str(Rung(folds, epochs)) for epochs, folds in measured.items())
            raise UsageError(f"{rung}: not recorded; recorded are {recorded}")
        return [self._fold(configuration, self.epochs.index(rung.epochs), fold) for fold in range(rung.folds)]

    def _fold(self, configuration: int, epoch: int, fold: int) -> FoldScore:
        place = configuration, epoch, fold
        if place not in self._known:
            scores = self.scores[configuration, epoch, self.cases.rows(fold)].astype(np.float64)
            self._known[place] = self.cases.measure(fold, scores)
        return self._known[place]

    @cached_property
    def final(self) -> NDArray[np.float64]:
        """(C,) mean AUC of all folds after all epochs."""
        return np.array([mean_auc(self.case_scores(number, self.top)) for number in range(self.configurations)])


def read_recording(path: Path, resamples: int = 500) -> Recording:
    """Reads a file that benchmarks/record.py has written. Raises DataError."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            integers = {name: file[name].astype(np.int64) for name in ("labels", "folds", "patients", "epochs")}
            ranks, params = file["ranks"], tuple(json.loads(text) for text in file["params"].tolist())
    except Exception as error:  # NumPy raises many kinds at damaged files
        raise DataError(f"{path}: not a recording: {one_line(error)}") from None
    cases = Cases(integers["labels"], integers["folds"], integers["patients"], resamples)
    return Recording(ranks, tuple(integers["epochs"].tolist()), cases, params)


def recording_of(folder: Place, resamples: int = 500) -> Recording:
    """The recording of a study's complete trials, after each number of epochs the folds of the highest rung there.

    Raises DataError if there are fewer than two, or if a file is missing or damaged.
    """
    trials = [trial for _, trial in sorted(read_ledger(folder).items()) if trial.state is TrialState.COMPLETE]
    if len(trials) < 2:
        raise DataError(f"{folder}: has {len(trials)} complete trials; a replay needs 2 at least")
    table = Study.load(folder).predictions
    table = table[(table["trial"] == trials[0].number) & (table["repeat"] == 0)]
    folds = table["fold"].to_numpy(dtype=np.int64)
    cases = Cases(table["label"].to_numpy(dtype=np.int64), folds, pd.factorize(table["patient_id"])[0], resamples)
    measurements = trials[0].measurements
    rungs = {m.epochs: rung for rung, m in enumerate(measurements)}  # of the same epochs the last has most folds
    measured = tuple(measurements[rung].folds for rung in rungs.values())
    scores = np.stack([[_scores(folder, trial, rung, folds) for rung in rungs.values()] for trial in trials])
    return Recording(scores, tuple(rungs), cases, tuple(trial.params for trial in trials), measured)


def _scores(folder: Place, trial: Trial, rung: int, folds: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) scores of a trial at a rung."""
    values = read_scores(TrialFiles.of(folder, trial.number).scores(rung))
    tested = folds < trial.measurements[rung].folds
    if len(values) != tested.sum():
        raise DataError(
            f"{folder}: trial {trial.number} has {len(values)} scores of the {tested.sum()} images predicted"
        )
    scores = np.full(len(folds), np.nan)
    scores[tested] = values
    return scores
