"""The search's decisions, without any I/O: what may start now, and whether a trial goes on.

A runner of trials calls `next_start`, reports by `measured` and `failed`, and follows the answers. Ray Tune is one
such runner, the tests' simulated clock another. Whatever the speed and the order in which results come, trial i gets
the same parameters and the same decisions, because it sees the trials up to i - lookback and no others.
"""

import bisect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.errors import ConfigError
from diagram_ray.results import Measurement, Trial, TrialState, better
from diagram_ray.search.budget import FOLD_EPOCHS, Spending
from diagram_ray.search.constraints import SizeEstimator
from diagram_ray.search.ladder import Decision, decide
from diagram_ray.search.messages import CaseScoreSource, Journal, Proposer, Rules


class StudyState:
    """The present state of a study, and what follows. A new one over the same journal goes on where another stopped."""

    def __init__(
        self,
        rules: Rules,
        proposer: Proposer,
        journal: Journal,
        score_source: CaseScoreSource | None = None,
        size_estimator: SizeEstimator | None = None,
    ) -> None:
        """`size_estimator`: for a study with bounds or objectives on what a model costs."""
        self.rules = rules
        self.running: set[int] = set()
        """Trials that have been started and have not ended."""
        self.stopping = ""
        """Reason why nothing may start any more; empty while it may."""
        self.decisions: dict[int, str] = {}
        """Trial that has not ended -> the decision at its last rung in this run, with its reason."""
        self.refused: list[int] = []
        """Trials that broke the study's bounds and ended instead of starting; whoever reports them empties the list."""
        self._proposer = proposer
        self._journal = journal
        self._score_source = score_source
        self._size_estimator = size_estimator
        self._spending = Spending(rules.fold_epochs, rules.ladder)
        self._ended = 0  # trials 0.._ended - 1 have all ended
        self._history = History(self.trials, len(rules.ladder.rungs))
        self._waiting = sorted(n for n, trial in self.trials.items() if trial.state is TrialState.RUNNING)
        self._settle()

    @property
    def trials(self) -> Mapping[int, Trial]:
        """All trials so far, by number."""
        return self._journal.trials

    @property
    def finished(self) -> bool:
        """Whether all trials of the study have ended, or all that its budget allowed."""
        ended = self._ended_prefix()
        return ended >= self.rules.trials or (ended == len(self.trials) and self._spent)

    @property
    def more(self) -> bool:
        """Whether there are trials that have yet to start."""
        return bool(self._waiting) or (len(self.trials) < self.rules.trials and not self._spent)

    @property
    def short(self) -> str:
        """Reason why the study has fewer trials than it might have; empty if it has not."""
        return self.stopping or (FOLD_EPOCHS if len(self.trials) < self.rules.trials and self._spent else "")

    def stop(self, why: str) -> None:
        """Ends the starting of trials. Those that have not ended go on when the study is resumed."""
        self.stopping = self.stopping or why

    def next_start(self) -> Trial | None:
        """The trial that is to start now, with the rungs it has behind it; None if none may start now."""
        while (number := self._next()) is not None:
            trial = self.trials[number]
            if broken := self.rules.goals.broken(trial.sizes):
                self._end(number, TrialState.PRUNED, broken)
                self.refused.append(number)
            else:
                self.running.add(number)
                return trial
        return None

    def _next(self) -> int | None:
        """The number of the trial that comes next, which is asked for if it does not exist; None: not now."""
        if self.stopping or len(self.running) >= self.rules.parallel:
            return None
        if self._waiting:
            return self._waiting.pop(0)
        number = len(self.trials)
        if number >= self.rules.trials or self._ended_prefix() <= number - self.rules.lookback:
            return None
        if not self._spending.allow(self.trials, self._ended):
            return None
        params = self._proposer.ask(number, self.trials)
        if self._size_estimator is None:
            self._journal.asked(number, params)
        else:
            self._journal.asked(number, params, self._sizes(params))
        return number

    def _sizes(self, params: dict[str, Any]) -> dict[str, float]:
        try:
            return self._size_estimator(params) if self._size_estimator is not None else {}
        except ConfigError:  # not a configuration: the trial's worker says so, and the trial fails
            return {}

    @property
    def _spent(self) -> bool:
        return self._spending.spent(self.trials, self._ended_prefix())

    def measured(self, number: int, rung: int, measurement: Measurement) -> bool:
        """Takes a measurement, and returns whether the trial goes on. False: it has ended, and its worker is free.

        A rung may come again, from a worker that was started anew; what was measured first stands.
        """
        trial = self.trials[number]
        if not math.isfinite(measurement.auc_mean):
            self.failed(number, f"AUC {measurement.auc_mean} after {self.rules.ladder.rungs[rung]}")
            return False
        if rung < len(trial.measurements):
            return rung < self.rules.ladder.top and self._decide(trial, rung).go_on
        decision = self._decision(number, rung, measurement.auc_mean)
        self._journal.measured(number, rung, measurement, decision.why)
        self.decisions[number] = decision.why
        self._history.measured(number, rung, measurement.auc_mean)
        return self._follow(number, rung, decision)

    def again(self, number: int) -> None:
        """Puts trial `number`, which lost its worker, back into the queue: it starts again, where it was last saved."""
        self.running.remove(number)
        bisect.insort(self._waiting, number)

    def failed(self, number: int, reason: str) -> None:
        """Ends trial `number`, which cannot go on."""
        self._end(number, TrialState.FAIL, reason)

    def _settle(self) -> None:
        """Ends trials that were measured and decided upon, but whose end did not reach the journal."""
        for number in list(self._waiting):
            rung = len(self.trials[number].measurements) - 1
            if rung >= 0 and not self._follow(number, rung, self._decide(self.trials[number], rung)):
                self._waiting.remove(number)

    def _follow(self, number: int, rung: int, decision: Decision) -> bool:
        if rung == self.rules.ladder.top:
            self._end(number, TrialState.COMPLETE, "")
        elif not decision.go_on:
            self._end(number, TrialState.PRUNED, decision.why)
        else:
            return True
        return False

    def _end(self, number: int, state: TrialState, reason: str) -> None:
        self.running.discard(number)
        self.decisions.pop(number, None)
        self._journal.ended(number, state, reason)

    def _decide(self, trial: Trial, rung: int) -> Decision:
        return self._decision(trial.number, rung, trial.measurements[rung].auc_mean)

    def _decision(self, number: int, rung: int, value: float) -> Decision:
        """Compares with the trials up to number - lookback: all had ended before this one could start."""
        point = self.rules.ladder.rungs[rung]
        if rung == self.rules.ladder.top:
            return Decision(True, f"complete: {value:.4f} at {point}")
        seen = number - self.rules.lookback + 1
        decision = decide(point, value, self._history.scores(rung, seen), self.rules.ladder.reduction)
        return self._race(number, rung, self._history.best(seen)) or decision if decision.go_on else decision

    def _race(self, number: int, rung: int, incumbent: Trial | None) -> Decision | None:
        """The decision of a race against the best trial that had ended before this one could start; None: no race."""
        race, score_source = self.rules.race, self._score_source
        if race is None or score_source is None or incumbent is None:
            return None
        challenger, best = (score_source.case_scores(trial, rung) for trial in (number, incumbent.number))
        return race.judge(self.rules.ladder.rungs[rung], challenger, best, incumbent.number)

    def _ended_prefix(self) -> int:
        while self._ended in self.trials and self.trials[self._ended].state is not TrialState.RUNNING:
            self._ended += 1
        return self._ended


class History:
    """The scores of `trials` by rung, and the best trial. New scores are passed to `measured`."""

    def __init__(self, trials: Mapping[int, Trial], rungs: int) -> None:
        self._trials = trials
        self._scores = np.full((rungs, 64), np.nan)  # by rung and number
        self._best: list[Trial | None] = [None]  # [n]: of trials 0..n - 1
        for trial in trials.values():
            for rung, measurement in enumerate(trial.measurements):
                self.measured(trial.number, rung, measurement.auc_mean)

    def measured(self, number: int, rung: int, auc: float) -> None:
        """Adds that trial `number` scored `auc`, a finite number, at `rung`."""
        if number >= self._scores.shape[1]:
            more = np.full((len(self._scores), number + 1), np.nan)
            self._scores = np.concatenate([self._scores, more], axis=1)
        self._scores[rung, number] = auc

    def scores(self, rung: int, count: int) -> NDArray[np.float64]:
        """The scores of those of trials 0..count - 1 that reached `rung`, in the order of their numbers."""
        row = self._scores[rung, : max(0, count)]
        scores: NDArray[np.float64] = row[~np.isnan(row)]
        return scores

    def best(self, count: int) -> Trial | None:
        """The best complete trial of 0..count - 1, all of which have ended; the earlier of equals."""
        while len(self._best) <= count:
            trial, best = self._trials[len(self._best) - 1], self._best[-1]
            self._best.append(trial if trial.state is TrialState.COMPLETE and better(trial, best) else best)
        return self._best[max(0, count)]
