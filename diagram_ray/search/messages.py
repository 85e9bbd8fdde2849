"""What the search is told and what it asks of others: trials' reports, its rules, a ledger, a sampler, case scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.constraints import Goals
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.racing import CaseScores, Race


class Memory:
    """A ledger (`Journal`) that is forgotten."""

    def __init__(self) -> None:
        self.trials: dict[int, Trial] = {}

    def asked(self, number: int, params: dict[str, Any], sizes: dict[str, float] | None = None) -> None:
        """As `Journal`."""
        self.trials[number] = Trial(number, params, sizes=sizes or {})

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        """As `Journal`."""
        trial = self.trials[number]
        self.trials[number] = replace(trial, measurements=(*trial.measurements, measurement))

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        """As `Journal`."""
        self.trials[number] = replace(self.trials[number], state=state, reason=reason)


@dataclass(frozen=True)
class Rules:
    """What the decisions depend on, besides the results."""

    trials: int
    parallel: int
    """Trials that may run at once; does not change any decision."""
    lookback: int
    ladder: Ladder
    race: Race | None = None
    """None: the ladder alone decides."""
    goals: Goals = field(default_factory=Goals)
    """Its bounds end a trial before it starts."""
    fold_epochs: int | None = None
    """No trial starts once the trials before it have cost so much (search/budget.py)."""


class Proposer(Protocol):
    """Gives trial `number` its parameters."""

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """A function of `number` and of `trials` 0..number - lookback only."""


class Journal(Protocol):
    """Keeps what happens (`study.ledger.Ledger`); `trials` is what follows from it."""

    trials: dict[int, Trial]

    def asked(self, number: int, params: dict[str, Any], sizes: dict[str, float] | None = None) -> None:
        """Trial `number` exists from now on. `sizes` are given where the study has bounds or objectives on them."""

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        """Trial `number` reached the next rung."""

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        """Trial `number` will not go on."""


class CaseScoreSource(Protocol):
    """Knows what trials scored case by case."""

    def case_scores(self, number: int, rung: int) -> CaseScores:
        """Of trial `number` at a rung that it has reached."""


class Device(NamedTuple):
    """What a process trains on: the address of its machine, and the number of a GPU there if it has one."""

    machine: str
    gpu: str = ""

    def __str__(self) -> str:
        return f"{self.machine} GPU {self.gpu}" if self.gpu else f"{self.machine} CPU"


@dataclass(frozen=True)
class TrialReport:
    """What a worker tells the driver after each round (one epoch of every fold of the rung)."""

    number: int
    folds: int
    epoch: int
    fold_epochs: int
    """Epochs of one fold that the trial has trained so far."""
    auc: float | None = None
    """Mean over the folds of this round."""
    rung: int | None = None
    """The rung that is complete with this round; `measurement` is given then."""
    measurement: Measurement | None = None
    failed: str = ""
    """Why the trial cannot go on."""
    storage_failure: str = ""
    """Why no trial can: what they leave cannot be written. The study ends, and goes on when it is resumed."""
    begun_at: int = field(default=0, compare=False)
    """Fold-epochs that the worker found done when it took the trial."""
    draining: bool = False
    """The worker's machine has been told to go: all is saved, and the worker ends. Another one takes the trial."""
    seconds: float = field(default=0.0, compare=False)
    """That the round took, with all that had to be done before and after it."""
    devices: tuple[Device, ...] = field(default=(), compare=False)
    """That the trial is trained on."""
    training_auc: float | None = None
    """Mean over the folds of this round, on some of their training images."""
