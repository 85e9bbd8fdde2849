"""Budgets of a study beside its trials and its time.

`fold_epochs` keeps a study a function of its seed: trial i starts if the trials before it have cost less, each up to
the rung at which it ended, so whoever is faster changes nothing. Where that is not known yet the trial waits. What runs
is finished, so the study costs more than it by one whole trial at most.

`cost` is money, and so depends on the clock: like `time_budget` it puts aside what runs, for --resume.
"""

import time
from collections.abc import Callable, Mapping

from pydantic import Field, ValidationInfo, field_validator

from diagram_ray.config import Frozen
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.ladder import Ladder

FOLD_EPOCHS = "fold-epoch budget"
COST = "cost budget"
LONGEST_TICK = 60.0
"""Seconds between two looks at the clock that are counted: a machine that sleeps is not paid."""


class BudgetConfig(Frozen):
    """Limits on what a study may spend, beside `trials` and `time_budget`."""

    fold_epochs: int | None = Field(default=None, ge=1)
    """Epochs of one fold: no trial starts once the trials before it have cost so many."""
    cost_per_worker_hour: float | None = Field(default=None, gt=0.0)
    """Cost of a worker in an hour, in any currency."""
    cost: float | None = Field(default=None, gt=0.0)
    """Money that may be spent, in the same currency. Paid are the workers of the trials that run, while they run; the
    control is not counted."""

    @field_validator("cost")
    @classmethod
    def _at_a_rate(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("cost_per_worker_hour", 1.0) is None:
            raise ValueError("needs budget.cost_per_worker_hour")
        return value


class Spending:
    """The fold-epochs of trials, as far as they are known to everybody."""

    def __init__(self, most: int | None, ladder: Ladder) -> None:
        self._most = most
        self._ladder = ladder
        self._counted = 0
        self._of_counted = 0

    def spent(self, trials: Mapping[int, Trial], ended: int) -> bool:
        """Whether it is certain that nothing may start; trials 0 to `ended` - 1 have ended."""
        return self._most is not None and self._least(trials, ended) >= self._most

    def allow(self, trials: Mapping[int, Trial], ended: int) -> bool:
        """Whether it is certain that one more trial may start."""
        if self._most is None:
            return True
        running = [trials[n] for n in range(ended, len(trials)) if trials[n].state is TrialState.RUNNING]
        whole = self._ladder.rungs[-1].fold_epochs
        return self._least(trials, ended) + sum(whole - _cost(trial) for trial in running) < self._most

    def _least(self, trials: Mapping[int, Trial], ended: int) -> int:
        while self._counted < ended:
            self._of_counted += _cost(trials[self._counted])
            self._counted += 1
        return self._of_counted + sum(_cost(trials[number]) for number in range(ended, len(trials)))


def _cost(trial: Trial) -> int:
    return trial.last.folds * trial.last.epochs if trial.last else 0


class Meter:
    """Counts the seconds of the workers of trials that run, and says when they have cost enough."""

    def __init__(
        self, budget: BudgetConfig, workers: int, before: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`workers`: of each trial. `before`: worker-seconds of the study until now."""
        self.worker_seconds = before
        self._budget = budget
        self._workers = workers
        self._clock = clock
        self._looked: float | None = None

    def tick(self, running: int) -> str:
        """Counts the time since the last look for so many trials; returns why the study must stop, or an empty text."""
        now, before = self._clock(), self._looked
        self._looked = now
        if before is not None:
            self.worker_seconds += min(now - before, LONGEST_TICK) * running * self._workers
        most = self._budget.cost
        return COST if most is not None and self.cost is not None and self.cost >= most else ""

    @property
    def cost(self) -> float | None:
        """The money spent so far, in the currency of the rate; None without a rate."""
        rate = self._budget.cost_per_worker_hour
        return None if rate is None else self.worker_seconds / 3600.0 * rate
