"""A journal and a proposer for a `StudyState`, which write nothing and compute next to nothing."""

import random
from dataclasses import replace
from typing import Any

from diagram_ray.results import Measurement, Trial, TrialState


class Memory:
    """A journal that forgets nothing and writes nothing."""

    def __init__(self) -> None:
        self.trials: dict[int, Trial] = {}

    def asked(self, number: int, params: dict[str, Any]) -> None:
        assert number == len(self.trials)
        self.trials[number] = Trial(number, params)

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        trial = self.trials[number]
        assert trial.state is TrialState.RUNNING
        assert rung == len(trial.measurements)
        self.trials[number] = replace(trial, measurements=(*trial.measurements, measurement))

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        assert self.trials[number].state is TrialState.RUNNING
        self.trials[number] = replace(self.trials[number], state=state, reason=reason)


class Uniform:
    """Any pure function of what it may see will do; this one is fast."""

    def __init__(self, lookback: int) -> None:
        self.lookback = lookback

    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        seen = [trials[j] for j in range(number - self.lookback + 1)]
        assert all(trial.state is not TrialState.RUNNING for trial in seen)
        shift = sum(trial.last.auc_mean for trial in seen if trial.last)
        return {"training.weight_decay": random.Random(number + shift).random()}
