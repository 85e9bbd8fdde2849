"""The sampler of a long study looks at some of its trials, always the same."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.results import Measurement, Trial, TrialState, best_of
from diagram_ray.search import optuna_sampler
from diagram_ray.search.optuna_sampler import BEST, LATEST, STEP, Sampler, best_before, first_remembered
from diagram_ray.search.scheduler import History
from diagram_ray.search.space import FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig

SPACE: Space = {"training.weight_decay": FloatRange(low=0.0, high=1.0), "training.k": IntRange(low=1, high=8)}
STATES = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]


def sampler() -> Sampler:
    return Sampler(SPACE, SamplerConfig(startup_trials=5), seed=3, lookback=2)


def ended(number: int, params: dict[str, Any], value: float, state: TrialState = TrialState.COMPLETE) -> Trial:
    rungs = tuple(Measurement(2, epochs, (value * epochs / 3,), (0.5,), 0.0) for epochs in (1, 3))
    return Trial(number, params, state, "", rungs[: {TrialState.COMPLETE: 2, TrialState.PRUNED: 1}.get(state, 0)])


def study(count: int) -> tuple[dict[int, Trial], Sampler]:
    driver, trials = sampler(), {}
    for number in range(count):
        params = driver.ask(number, trials)
        value = 1 - abs(params["training.weight_decay"] - 0.3) - 0.01 * params["training.k"]
        trials[number] = ended(number, params, value, STATES[number % 7 % 3])
    return trials, driver


def test_small_studies_are_remembered_whole() -> None:
    assert first_remembered(LATEST + STEP - 1, 8) == 0
    assert first_remembered(LATEST + STEP, 8) == STEP
    assert first_remembered(5000, 2000) == 3000


def test_a_long_study_is_remembered_in_part_and_goes_on_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = study(80)
    monkeypatch.setattr(optuna_sampler, "LATEST", 20)
    monkeypatch.setattr(optuna_sampler, "STEP", 5)
    monkeypatch.setattr(optuna_sampler, "BEST", 4)
    trials, driver = study(80)
    assert {n: trials[n] for n in range(25)} == {n: whole[n] for n in range(25)}
    assert trials != whole
    told = driver._study.get_trials()
    assert len(told) == 4 + 25  # of trial 79: the best of 0..54, and 55..79
    best = sorted(range(55), key=lambda n: -trials[n].last.auc_mean if trials[n].state == "COMPLETE" else 0)[:4]
    assert [each.params for each in told[:4]] == [trials[n].params for n in sorted(best)]
    assert [each.value for each in told[:4]] == [trials[n].last.auc_mean for n in sorted(best)]
    for number in (26, 50, 79):
        assert sampler().ask(number, trials) == trials[number].params


def test_the_best_are_the_best_complete_ones() -> None:
    values = [0.5, 0.9, 0.9, 0.1, 0.7]
    trials = {n: ended(n, {}, value) for n, value in enumerate(values)} | {5: ended(5, {}, 1.0, TrialState.PRUNED)}
    assert [trial.number for trial in best_before(6, trials)] == [0, 1, 2, 3, 4]
    many = {n: ended(n, {}, 0.5) for n in range(60)} | {40: ended(40, {}, 0.6)}
    assert [trial.number for trial in best_before(60, many)] == [*range(BEST - 1), 40]


@given(st.lists(st.tuples(st.sampled_from(STATES), st.integers(0, 5)), max_size=90), st.integers(-3, 90))
def test_a_history_knows_what_the_trials_say(drawn: list[tuple[TrialState, int]], count: int) -> None:
    trials = {n: ended(n, {}, value / 5, state) for n, (state, value) in enumerate(drawn)}
    count = min(count, len(trials))
    seen = {n: trials[n] for n in range(count)}
    grown: dict[int, Trial] = {}
    history = History(grown, 2)
    for number, trial in reversed(trials.items()):
        for rung, measurement in enumerate(trial.measurements):
            history.measured(number, rung, measurement.auc_mean)
    grown |= trials
    for known in (history, History(trials, 2)):
        assert known.best(count) == best_of(seen)
        for rung in (0, 1):
            expected = [each.measurements[rung].auc_mean for each in seen.values() if len(each.measurements) > rung]
            assert known.scores(rung, count).tolist() == expected
