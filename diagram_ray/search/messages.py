"""What the search exchanges with others: reports of trials, rules, a ledger, a sampler and case scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.constraints import Goals
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.racing import CaseScores, Race


class Memory:
    """A ledger (`Journal`) in memory, which is written nowhere."""

    def __init__(self) -> None:
        self.trials: dict[int, Trial] = {}

    def asked(self, number: int, params: dict[str, Any], sizes: dict[str, float] | None = None) -> None:
        """Records the proposal (see `Journal.asked`)."""
        self.trials[number] = Trial(number, params, sizes=sizes or {})

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        """Records the measurement (see `Journal.measured`)."""
        trial = self.trials[number]
        self.trials[number] = replace(trial, measurements=(*trial.measurements, measurement))

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        """Records the end of the trial (see `Journal.ended`)."""
        self.trials[number] = replace(self.trials[number], state=state, reason=reason)


@dataclass(frozen=True)
class Rules:
    """The settings that the decisions depend on, besides the results."""

    trials: int
    parallel: int
    """Trials that may run at once; does not change any decision."""
    lookback: int
    ladder: Ladder
    race: Race | None = None
    """The race against the best complete trial; None: the ladder alone decides."""
    goals: Goals = field(default_factory=Goals)
    """The objectives and bounds; a trial that breaks a bound ends before it starts."""
    fold_epochs: int | None = None
    """The budget: no trial starts once the trials before it have cost so much (search/budget.py). None: no budget."""


class Proposer(Protocol):
    """Gives trial `number` its parameters."""

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """Returns the parameters, which depend on `number` and on `trials` 0..number - lookback only."""


class Journal(Protocol):
    """Keeps what happens (`study.ledger.Ledger`); `trials` is what follows from it."""

    trials: dict[int, Trial]

    def asked(self, number: int, params: dict[str, Any], sizes: dict[str, float] | None = None) -> None:
        """Records a new trial. `sizes` are given where the study has bounds or objectives on them."""

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        """Records that trial `number` reached the next rung."""

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        """Records that trial `number` will not go on."""


class CaseScoreSource(Protocol):
    """A source of what trials scored case by case."""

    def case_scores(self, number: int, rung: int) -> CaseScores:
        """The scores of trial `number`, case by case, at a rung that it has reached."""


class Device(NamedTuple):
    """A device that a process trains on: the address of its machine, and the number of a GPU there if it has one."""

    machine: str
    gpu: str = ""

    def __str__(self) -> str:
        return f"{self.machine} GPU {self.gpu}" if self.gpu else f"{self.machine} CPU"


@dataclass(frozen=True)
class TrialReport:
    """A worker's report to the driver after each round (one epoch of every fold of the rung)."""

    number: int
    folds: int
    epoch: int
    fold_epochs: int
    """Epochs of one fold that the trial has trained so far."""
    auc: float | None = None
    """Mean AUC over the folds of this round."""
    rung: int | None = None
    """The rung that is complete with this round; `measurement` is given then."""
    measurement: Measurement | None = None
    failed: str = ""
    """Reason why the trial cannot go on; empty if it can."""
    storage_failure: str = ""
    """Reason why no trial can go on: the store cannot be written. The study ends, and goes on when it is resumed."""
    begun_at: int = field(default=0, compare=False)
    """Fold-epochs that the worker found done when it took the trial."""
    draining: bool = False
    """Whether the worker's machine must leave: all is saved, and the worker ends. Another one takes the trial."""
    seconds: float = field(default=0.0, compare=False)
    """Duration of the round, with all that had to be done before and after it."""
    devices: tuple[Device, ...] = field(default=(), compare=False)
    """Devices that the trial is trained on."""
    training_auc: float | None = None
    """Mean AUC over the folds of this round, on some of their training images."""
