"""What a study's trials have scored, kept so that a comparison takes no longer when there are thousands of them."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.files import better


class History:
    """Of `trials`, which may grow; whoever measures one says so."""

    def __init__(self, trials: Mapping[int, Trial], rungs: int) -> None:
        self._trials = trials
        self._scores = np.full((rungs, 64), np.nan)  # by rung and number
        self._best: list[Trial | None] = [None]  # [n]: of trials 0..n - 1
        for trial in trials.values():
            for rung, measurement in enumerate(trial.measurements):
                self.measured(trial.number, rung, measurement.auc_mean)

    def measured(self, number: int, rung: int, auc: float) -> None:
        """Trial `number` scored `auc`, a finite number, at `rung`."""
        if number >= self._scores.shape[1]:
            more = np.full((len(self._scores), number + 1), np.nan)
            self._scores = np.concatenate([self._scores, more], axis=1)
        self._scores[rung, number] = auc

    def scores(self, rung: int, count: int) -> NDArray[np.float64]:
        """Those of trials 0..count - 1 that reached `rung`, in the order of their numbers."""
        row = self._scores[rung, : max(0, count)]
        found: NDArray[np.float64] = row[~np.isnan(row)]
        return found

    def best(self, count: int) -> Trial | None:
        """The best complete one of trials 0..count - 1, all of which have ended; the earlier of equals."""
        while len(self._best) <= count:
            trial, best = self._trials[len(self._best) - 1], self._best[-1]
            self._best.append(trial if trial.state is TrialState.COMPLETE and better(trial, best) else best)
        return self._best[max(0, count)]
