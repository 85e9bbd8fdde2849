"""A study on a simulated cluster: how long it takes and what it costs on N workers, without training.

`StudyState` decides as it does in a study; only the clock, the workers and their ends are made up. Workers are asked
for as trials want them, come after a while, are kept warm while there are trials yet to start, and are given back then.
One that is taken away costs its trial what was trained since the last checkpoint; another one is asked for, and takes
it.

What the model leaves out: every epoch takes equally long, whatever the configuration and the worker; reading the data,
the driver's own time (benchmarks/many_trials.py measures it) and the network take none; the provider always has a
worker to give; workers are taken away one by one and without a word; trials that fail; and the sampler, for the
configurations are drawn from what was recorded.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

import numpy as np
from pydantic import Field

from diagram_ray.config import Frozen
from diagram_ray.results import Measurement, Trial
from diagram_ray.search.messages import Journal, Proposer, Rules
from diagram_ray.search.racing import CaseScores
from diagram_ray.search.scheduler import StudyState

SAVE_EVERY = 120.0
"""Seconds between checkpoints within a rung, as in `training.runs.trial`."""
HOUR = 3600.0


class ClusterConfig(Frozen):
    """The simulated cluster, and the time that training takes on it."""

    workers: int = Field(ge=1, le=100_000)
    """Most workers at once; each trains one trial at a time."""
    trials: int | None = Field(default=None, ge=1, le=1_000_000)
    """Number of trials. None: as many as were recorded."""
    startup: float = Field(default=0.0, ge=0.0)
    """Seconds from asking for a worker until it trains."""
    seconds: float | None = Field(default=None, gt=0.0)
    """Seconds of an epoch of one fold. None: what it took in the study."""
    preemptions: float = Field(default=0.0, ge=0.0, le=60.0)
    """Times that a worker is taken away, in an hour."""
    cost: float = Field(default=0.0, ge=0.0)
    """Cost of a worker for an hour, from asking for it until it is given back."""
    lookback: int | None = Field(default=None, ge=1)
    """Lookback of the search. None: several are tried (`forecasts`)."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order of the configurations, and of when workers are taken away."""


class Scored(Protocol):
    """A source of what trials would score."""

    def measurement(self, number: int, rung: int) -> Measurement:
        """The measurement of trial `number` at a rung."""

    def case_scores(self, number: int, rung: int) -> CaseScores:
        """The scores of trial `number` at a rung, case by case, for races."""


@dataclass(frozen=True)
class Forecast:
    """The forecast of a study. Hours are of workers, added up; they are paid for while they start, train and wait."""

    seconds: float
    """Seconds from the first trial's start to the last one's end."""
    fold_epochs: int
    """Fold-epochs trained, without those that were trained twice."""
    training: float
    """Hours of training."""
    again: float
    """Hours of training that were lost with a worker."""
    starting: float
    """Hours in which workers started."""
    waiting: float
    """Hours in which a worker was there and no trial might start, since an earlier one had not ended."""
    preemptions: int
    cost: float

    @property
    def hours(self) -> float:
        """Hours of workers, in all."""
        return self.training + self.again + self.starting + self.waiting

    @property
    def use(self) -> float:
        """The part of the hours that trained something."""
        return self.training / self.hours if self.hours else 1.0


@dataclass(eq=False)
class _Worker:
    requested: float
    ready: float
    trial: int | None = None
    since: float = 0.0
    """Waits, or trains the trial, since then."""


class Simulation:
    """A simulation of one study on one cluster; `run` may be called once. `seconds`: of an epoch of one fold."""

    def __init__(
        self, rules: Rules, proposer: Proposer, journal: Journal, scored: Scored, cluster: ClusterConfig, seconds: float
    ) -> None:
        self._state = StudyState(rules, proposer, journal, scored)
        self._scored, self._cluster, self._seconds = scored, cluster, seconds
        self._random = np.random.default_rng([cluster.seed, 1])
        self._now, self._order = 0.0, count()
        self._coming: list[tuple[float, int, Callable[[], None]]] = []
        self._idle: list[_Worker] = []
        self._gone: set[_Worker] = set()
        self._saved: dict[int, float] = {}  # trial -> seconds of its next rung that are in a checkpoint
        self._training = self._again = self._starting = self._waiting = 0.0
        self._fold_epochs = self._preempted = 0

    def run(self) -> Forecast:
        """Simulates the study until the last trial has ended."""
        self._start()
        while not self._state.finished:
            self._now, _, event = heapq.heappop(self._coming)
            event()
            self._start()
        self._give_back()
        training, again, starting, waiting = (
            seconds / HOUR for seconds in (self._training, self._again, self._starting, self._waiting)
        )
        cost = (training + again + starting + waiting) * self._cluster.cost
        return Forecast(self._now, self._fold_epochs, training, again, starting, waiting, self._preempted, cost)

    def _start(self) -> None:
        """Starts all trials that may start now, on workers that wait or on new ones."""
        while (trial := self._state.next_start()) is not None:
            if self._idle:
                worker = self._idle.pop()
                self._waiting += self._now - worker.since
            else:
                worker = self._ask()
            self._train_to_next_rung(worker, trial)
        if not self._state.more:
            self._give_back()

    def _ask(self) -> _Worker:
        worker = _Worker(self._now, self._now + self._cluster.startup)
        if rate := self._cluster.preemptions:
            self._at(self._now + HOUR * self._random.exponential(1 / rate), lambda: self._take_away(worker))
        return worker

    def _train_to_next_rung(self, worker: _Worker, trial: Trial) -> None:
        """Schedules the trial's arrival at its next rung, without what is saved of the way."""
        rung = len(trial.measurements)
        worker.trial, worker.since = trial.number, max(self._now, worker.ready)
        seconds_left = self._cost(rung) * self._seconds - self._saved.get(trial.number, 0.0)
        self._at(worker.since + seconds_left, lambda: self._arrive(worker, trial.number, rung))

    def _cost(self, rung: int) -> int:
        """Fold-epochs from the rung below."""
        rungs = self._state.rules.ladder.rungs
        return rungs[rung].fold_epochs - (rungs[rung - 1].fold_epochs if rung else 0)

    def _arrive(self, worker: _Worker, number: int, rung: int) -> None:
        if worker in self._gone:
            return
        self._count_start(worker)
        self._training += self._now - worker.since
        self._fold_epochs += self._cost(rung)
        self._saved.pop(number, None)
        if self._state.measured(number, rung, self._scored.measurement(number, rung)):
            self._train_to_next_rung(worker, self._state.trials[number])
        else:
            worker.trial, worker.since = None, self._now
            self._idle.append(worker)

    def _take_away(self, worker: _Worker) -> None:
        if worker in self._gone:
            return
        self._gone.add(worker)
        self._preempted += 1
        self._count_start(worker)
        if worker.trial is None:
            self._idle.remove(worker)
            self._waiting += self._now - worker.since
            return
        trained = max(0.0, self._now - worker.since)
        kept = trained // SAVE_EVERY * SAVE_EVERY
        self._training += kept
        self._again += trained - kept
        self._saved[worker.trial] = self._saved.get(worker.trial, 0.0) + kept
        self._state.again(worker.trial)

    def _count_start(self, worker: _Worker) -> None:
        """Counts the time until the worker was ready, once."""
        self._starting += min(self._now, worker.ready) - worker.requested
        worker.requested = worker.ready

    def _give_back(self) -> None:
        for worker in self._idle:
            self._waiting += self._now - worker.since
            self._gone.add(worker)
        self._idle.clear()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._coming, (when, next(self._order), what))
