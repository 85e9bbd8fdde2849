"""Whatever the speed and order of the workers, and however often it is cut off, a study gives the same trials."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Proposer, Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.scheduler import StudyState
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig
from tests.support.studies.scheduling import Memory, Uniform

LADDER = Ladder((Rung(2, 1), Rung(3, 3), Rung(3, 9)), 3)
SPACE: Space = {
    "training.weight_decay": FloatRange(low=1e-4, high=1e-1, log=True),
    "training.k": IntRange(low=1, high=6),
    "model.norm": Choices(choices=["group", "batch"]),
}


def score(trial: Trial, rung: int) -> Measurement:
    """A made-up measurement: a function of parameters and rung alone."""
    draw = random.Random(f"{sorted(trial.params.items())} {rung}")
    point = LADDER.rungs[rung]
    return Measurement(point.folds, point.epochs, tuple(draw.random() for _ in range(point.folds)), (0.5,), 0.0)


def fails(trial: Trial) -> bool:
    return random.Random(f"fail {sorted(trial.params.items())}").random() < 0.15


def run(rules: Rules, proposer: Proposer, journal: Memory, clock: random.Random, events: int = 10**9) -> StudyState:
    """Runs a study on workers whose speed `clock` draws, until it is finished or `events` results have come."""
    state = StudyState(rules, proposer, journal)
    while not state.finished and events > 0:
        while state.next_start() is not None:
            pass
        assert state.running, "nothing runs and nothing may start"
        number = clock.choice(sorted(state.running))
        rung = len(state.trials[number].measurements)
        if rung == 1 and fails(state.trials[number]):
            state.failed(number, "diverged")
        else:
            state.measured(number, rung, score(state.trials[number], rung))
        events -= 1
    return state


def proposer_for(name: str, lookback: int) -> Proposer:
    if name == "uniform":
        return Uniform(lookback)
    return Sampler(SPACE, SamplerConfig.model_validate({"name": name, "startup_trials": 3}), 7, lookback)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 40), st.integers(), st.integers())
def test_order_and_number_of_workers_change_nothing(
    lookback: int, parallel: int, trials: int, one: int, other: int
) -> None:
    results = []
    for workers, clock in ((1, one), (parallel, one), (parallel + 2, other)):
        journal = Memory()
        run(Rules(trials, workers, lookback, LADDER), Uniform(lookback), journal, random.Random(clock))
        results.append(journal.trials)
    assert results[0] == results[1] == results[2]
    assert list(results[0]) == sorted(results[0])
    assert all(trial.state is not TrialState.RUNNING for trial in results[0].values())


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
@settings(max_examples=5, deadline=None)
@given(seeds=st.tuples(st.integers(), st.integers()), cuts=st.lists(st.integers(1, 25), max_size=4))
def test_with_optuna_and_cut_off_anywhere(name: str, seeds: tuple[int, int], cuts: list[int]) -> None:
    whole = Memory()
    run(Rules(24, 2, 4, LADDER), proposer_for(name, 4), whole, random.Random(seeds[0]))
    pieces, clock = Memory(), random.Random(seeds[1])
    for events in [*cuts, 10**9]:
        run(Rules(24, 3, 4, LADDER), proposer_for(name, 4), pieces, clock, events)
    assert pieces.trials == whole.trials


def test_all_three_ends_are_met() -> None:
    journal = Memory()
    run(Rules(120, 3, 4, LADDER), Uniform(4), journal, random.Random(0))
    states = [trial.state for trial in journal.trials.values()]
    assert {states.count(state) > 2 for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)} == {True}


def test_a_trial_waits_for_the_one_lookback_before_it() -> None:
    state = StudyState(Rules(10, 10, 3, LADDER), Uniform(3), Memory())
    assert [state.next_start().number for _ in range(3)] == [0, 1, 2]
    assert state.next_start() is None
    state.failed(1, "")
    assert state.next_start() is None
    state.failed(0, "")
    assert state.next_start().number == 3
    assert state.next_start().number == 4
    assert state.next_start() is None


def test_a_larger_budget_goes_on_identically() -> None:
    whole, grown = Memory(), Memory()
    run(Rules(20, 2, 4, LADDER), Uniform(4), whole, random.Random(0))
    run(Rules(8, 2, 4, LADDER), Uniform(4), grown, random.Random(1))
    run(Rules(20, 2, 4, LADDER), Uniform(4), grown, random.Random(2))
    assert grown.trials == whole.trials


def test_after_stop_nothing_starts() -> None:
    state = StudyState(Rules(10, 2, 3, LADDER), Uniform(3), Memory())
    first = state.next_start()
    state.stop("SIGINT")
    assert state.next_start() is None
    assert state.measured(first.number, 0, score(first, 0))
    assert not state.finished


def test_a_rung_that_comes_again_is_answered_as_before() -> None:
    journal = Memory()
    state = StudyState(Rules(10, 2, 3, LADDER), Uniform(3), journal)
    trial = state.next_start()
    first = score(trial, 0)
    assert state.measured(0, 0, first)
    assert state.measured(0, 0, replace(first, seconds=99.0))
    assert journal.trials[0].measurements == (first,)


def test_a_score_that_is_no_number_fails_the_trial() -> None:
    journal = Memory()
    state = StudyState(Rules(10, 2, 3, LADDER), Uniform(3), journal)
    state.next_start()
    assert not state.measured(0, 0, Measurement(2, 1, (0.5, math.nan), (0.5, 0.5), 1.0))
    assert journal.trials[0].state is TrialState.FAIL
    assert journal.trials[0].reason == "AUC nan after 2 folds x 1 epochs"


def test_a_decision_whose_end_was_lost_is_made_again() -> None:
    journal = Memory()
    state = StudyState(Rules(1, 1, 1, LADDER), Uniform(1), journal)
    trial = state.next_start()
    for rung in range(3):
        journal.measured(0, rung, score(trial, rung), "")
    again = StudyState(Rules(1, 1, 1, LADDER), Uniform(1), journal)
    assert again.finished
    assert journal.trials[0].state is TrialState.COMPLETE
