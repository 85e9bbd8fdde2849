"""Bounds on what a model costs, several objectives, and budgets."""

import random
from typing import Any

import optuna
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.errors import ConfigError
from diagram_ray.monitoring.optuna_journal import FILE, write_optuna_file
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.budget import COST, FOLD_EPOCHS, BudgetConfig, Meter
from diagram_ray.search.constraints import Goals
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.scheduler import StudyState
from diagram_ray.search.space import FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig, build_study
from diagram_ray.study.ledger import open_ledger, read_ledger

LADDER = Ladder((Rung(2, 1), Rung(3, 3)), 3)
SPACE: Space = {
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
    "model.width": IntRange(low=4, high=64, step=4),
}
BOUNDED = Goals(bounds={"parameters": 1000.0})
BOTH = Goals(objectives=("auc", "parameters"))


def measure(params: Any) -> dict[str, float]:
    return {"parameters": float(params["model.width"] ** 2)}


def score(trial: Trial, rung: int) -> Measurement:
    """The wider and the less decay the better."""
    point, good = (
        LADDER.rungs[rung],
        0.5 + trial.params["model.width"] / 200 - trial.params["training.weight_decay"] / 9,
    )
    return Measurement(point.folds, point.epochs, (good,) * point.folds, (0.5,), 0.0)


def study(
    journal: Any, goals: Goals, name: str = "tpe", parallel: int = 2, trials: int = 40, most: int | None = None
) -> StudyState:
    sampler = Sampler(SPACE, SamplerConfig.model_validate({"name": name}), 0, 4, (), goals)
    rules = Rules(trials, parallel, 4, LADDER, None, goals, most)
    return StudyState(rules, sampler, journal, None, measure if goals.need_sizes else None)


def run(state: StudyState, clock: random.Random, events: int = 10**9) -> None:
    while not state.finished and events > 0:
        while state.next_start() is not None:
            pass
        if state.finished:
            break
        assert state.running, "nothing runs and nothing may start"
        number = clock.choice(sorted(state.running))
        rung = len(state.trials[number].measurements)
        state.measured(number, rung, score(state.trials[number], rung))
        events -= 1


@pytest.mark.parametrize("name", ["tpe", "cmaes", "random", "qmc"])
def test_what_breaks_a_bound_costs_nothing_and_says_why(name: str) -> None:
    journal = Memory()
    state = study(journal, BOUNDED, name)
    run(state, random.Random(0))
    broken = [trial for trial in journal.trials.values() if trial.sizes["parameters"] > 1000]
    assert state.refused == [trial.number for trial in broken]
    assert broken
    for trial in broken:
        assert (trial.state, trial.measurements) == (TrialState.PRUNED, ())
        assert trial.reason == f"constraint: {trial.sizes['parameters']:,.0f} parameters > 1,000"
    assert all(t.measurements for t in journal.trials.values() if t.sizes["parameters"] <= 1000)


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_the_sampler_learns_what_is_allowed(name: str) -> None:
    """Without the bound wide models are the best, so nothing but the bound can teach it."""
    widths = []
    for goals in (BOUNDED, Goals()):
        journal = Memory()
        run(study(journal, goals, name, trials=80), random.Random(0))
        widths.append([trial.params["model.width"] for trial in list(journal.trials.values())[-20:]])
    within = [sum(width**2 <= 1000 for width in each) for each in widths]
    print(f"\n{name}: of the last 20 trials within the bound: {within[0]}; without a bound: {within[1]}")
    assert within[0] >= 12 > 8 > within[1]


@given(st.integers(0, 10**6), st.integers(1, 4), st.lists(st.integers(1, 30), max_size=3))
@settings(max_examples=20, deadline=None)
def test_speed_and_interruptions_change_nothing(seed: int, parallel: int, cuts: list[int]) -> None:
    for goals, most in ((BOUNDED, None), (BOTH, None), (Goals(), 60)):
        expected, journal, clock = Memory(), Memory(), random.Random(seed)
        run(study(expected, goals, "random", 1, 20, most), random.Random(0))
        for events in cuts:
            run(study(journal, goals, "random", parallel, 20, most), clock, events)
        run(study(journal, goals, "random", parallel, 20, most), clock)
        assert journal.trials == expected.trials


@pytest.mark.parametrize("goals", [BOUNDED, BOTH])
def test_tpe_goes_on_exactly_when_it_is_resumed(goals: Goals) -> None:
    whole, parts = Memory(), Memory()
    run(study(whole, goals), random.Random(0))
    for events in (3, 9, 14, 10**9):
        run(study(parts, goals), random.Random(events), events)
    assert parts.trials == whole.trials


def test_a_trial_whose_end_was_not_written_does_not_start() -> None:
    journal = Memory()
    journal.asked(0, {"training.weight_decay": 0.5, "model.width": 64}, {"parameters": 4096.0})
    state = study(journal, BOUNDED)
    started = state.next_start()
    assert started is not None
    assert started.number > 0
    assert journal.trials[0].state is TrialState.PRUNED


def test_the_ledger_keeps_sizes_and_older_ones_have_none(tmp_path) -> None:
    with open_ledger(tmp_path) as ledger:
        ledger.asked(0, {"training.k": 1})
        ledger.asked(1, {"training.k": 2}, {"parameters": 12.0})
    assert '"sizes"' not in (tmp_path / "ledger.jsonl").read_text().splitlines()[1]
    assert [trial.sizes for trial in read_ledger(tmp_path).values()] == [{}, {"parameters": 12.0}]


def test_optuna_sees_objectives_and_bounds(tmp_path) -> None:
    goals = Goals(("auc", "parameters"), {"parameters": 1000.0})
    journal = Memory()
    run(study(journal, goals), random.Random(0))
    write_optuna_file(tmp_path, "x", SPACE, journal.trials, goals)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(tmp_path / FILE)))
    told = optuna.load_study(study_name="x", storage=storage)
    assert [direction.name for direction in told.directions] == ["MAXIMIZE", "MINIMIZE"]
    for frozen, trial in zip(told.trials, journal.trials.values(), strict=True):
        assert frozen.constraints["parameters"] == trial.sizes["parameters"] / 1000 - 1
        if trial.state is TrialState.COMPLETE:
            assert frozen.values == [trial.last.auc_mean, trial.sizes["parameters"]]
    assert told.best_trials


@pytest.mark.parametrize("parallel", [1, 4])
def test_no_trial_starts_once_the_fold_epochs_are_spent(parallel: int) -> None:
    journal, most = Memory(), 60
    state = study(journal, Goals(), "random", parallel, 40, most)
    run(state, random.Random(1))
    costs = [trial.last.folds * trial.last.epochs for trial in journal.trials.values() if trial.last]
    assert all(trial.state is not TrialState.RUNNING for trial in journal.trials.values())
    assert most <= sum(costs) < most + LADDER.rungs[-1].fold_epochs
    assert sum(costs[:-1]) < most
    assert (state.short, state.more, state.stopping) == (FOLD_EPOCHS, False, "")
    larger = study(journal, Goals(), "random", parallel, 40, 2 * most)
    assert (larger.finished, larger.short) == (False, "")
    run(larger, random.Random(1))
    at_once = Memory()
    run(study(at_once, Goals(), "random", 1, 40, 2 * most), random.Random(2))
    assert journal.trials == at_once.trials


def test_a_budget_that_is_not_reached_changes_nothing() -> None:
    with_budget, without = Memory(), Memory()
    state = study(with_budget, Goals(), "random", 3, 20, 10_000)
    run(state, random.Random(1))
    run(study(without, Goals(), "random", 2, 20), random.Random(2))
    assert with_budget.trials == without.trials
    assert (state.short, state.finished) == ("", True)


def test_the_meter_pays_workers_while_trials_run() -> None:
    now = [0.0]
    meter = Meter(BudgetConfig(cost=1.0, cost_per_worker_hour=2.0), workers=3, before=600.0, clock=lambda: now[0])
    assert meter.tick(4) == ""
    now[0] = 50.0
    assert meter.tick(2) == ""
    assert meter.worker_seconds == 600 + 50 * 2 * 3
    now[0] += 8 * 3600  # the machine slept
    assert meter.tick(2) == ""
    assert meter.worker_seconds == 600 + 110 * 2 * 3
    now[0] += 60
    meter.tick(0)
    assert meter.worker_seconds == 600 + 110 * 2 * 3
    for _ in range(3):
        now[0] += 60
        said = meter.tick(1)
    assert (said, meter.cost) == (COST, pytest.approx(1.0))
    assert Meter(BudgetConfig(), 1).cost is None


WRONG = {
    "constraints: {paramters: 5.0}": "unknown key 'constraints.paramters'; did you mean 'constraints.parameters'?",
    "constraints: {parameters: 0.0}": "constraints.parameters: 0.0 is not allowed",
    "constraints: {predict_ms: 50.0}": "predict_ms: a measured time is another one in every run",
    "objectives: [auc, params]": "objectives.1: 'params' is not allowed",
    "objectives: [parameters]": "objectives: ['parameters']: each once, and auc must be one of them",
    "objectives: [auc, auc]": "each once",
    "objectives: []": "objectives: [] is not allowed",
    "{objectives: [auc, parameters], sampler: {name: cmaes}}": "cmaes follows one only; choose tpe",
    "budget: {fold_epoch: 4}": "unknown key 'budget.fold_epoch'; did you mean 'budget.fold_epochs'?",
    "budget: {fold_epochs: 0}": "budget.fold_epochs: 0 is not allowed",
    "budget: {cost: 4.0}": "needs budget.cost_per_worker_hour",
}


@pytest.mark.parametrize("line", WRONG)
def test_one_sentence_for_each_mistake(line: str) -> None:
    space = {"training.weight_decay": {"type": "float", "low": 0.0, "high": 1.0}}
    space |= {"model.dropout": {"type": "float", "low": 0.0, "high": 0.5}}
    with pytest.raises(ConfigError) as caught:
        build_study({"name": "x", "space": space, **yaml.safe_load(line)}, "x.yaml")
    assert WRONG[line] in str(caught.value)
