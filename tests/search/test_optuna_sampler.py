"""What Optuna is told, when, and that its proposals need nothing else."""

import pytest

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig

SPACE: Space = {
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
    "training.k": IntRange(low=1, high=8),
    "model.gan": Choices(choices=[True, False]),
    "model.width": IntRange(low=8, high=8),
}


def sampler(name: str = "tpe", seed: int = 0, lookback: int = 2, startup: int = 5) -> Sampler:
    return Sampler(SPACE, SamplerConfig.model_validate({"name": name, "startup_trials": startup}), seed, lookback)


def ended(number: int, params: dict, value: float, state: TrialState = TrialState.COMPLETE) -> Trial:
    rungs = (Measurement(2, 1, (value / 2,), (0.5,), 0.0), Measurement(2, 3, (value,), (0.5,), 0.0))
    return Trial(number, params, state, "", rungs if state is TrialState.COMPLETE else rungs[:1])


def test_optuna_is_told_the_truth_in_number_order_and_no_more_than_it_may_know() -> None:
    driver, trials = sampler(lookback=2), {}
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.COMPLETE]
    for number in range(5):
        trials[number] = ended(number, driver.ask(number, trials), 0.8, states[number % 4])
    told = driver._study.get_trials()
    assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "RUNNING"]
    assert told[0].value == 0.8
    assert told[0].intermediate_values == {0: 0.4, 1: 0.8}
    assert told[1].intermediate_values == {0: 0.4}
    assert told[2].values is None
    assert [trial.params for trial in told[:4]] == [trials[number].params for number in range(4)]


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_the_seed_decides(name: str) -> None:
    assert sampler(name).ask(0, {}) == sampler(name).ask(0, {}) != sampler(name, seed=1).ask(0, {})


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_proposals_are_json_values_within_the_space(name: str) -> None:
    driver, trials = sampler(name), {}
    for number in range(20):
        params = driver.ask(number, trials)
        trials[number] = ended(number, params, params["training.weight_decay"])
        assert {key: type(value) for key, value in params.items()} == {
            "model.gan": bool,
            "model.width": int,
            "training.k": int,
            "training.weight_decay": float,
        }
        assert 0 <= params["training.weight_decay"] <= 1
        assert 1 <= params["training.k"] <= 8


def test_tpe_learns() -> None:
    driver, trials = sampler("tpe", lookback=2), {}
    for number in range(40):
        params = driver.ask(number, trials)
        trials[number] = ended(number, params, 1 - abs(params["training.weight_decay"] - 0.3))
    late = [abs(trial.params["training.weight_decay"] - 0.3) for trial in list(trials.values())[-10:]]
    assert sum(late) / 10 < 0.2  # by chance it would be 0.29


def test_qmc_covers_better_than_chance() -> None:
    driver, trials = sampler("qmc"), {}
    for number in range(16):
        trials[number] = ended(number, driver.ask(number, trials), 0.5)
    assert sorted(int(trial.params["training.weight_decay"] * 16) for trial in trials.values()) == list(range(16))


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_the_order_of_the_keys_does_not_matter(name: str) -> None:
    turned = Sampler(dict(reversed(SPACE.items())), SamplerConfig.model_validate({"name": name}), 0, 2)
    assert turned.ask(0, {}) == sampler(name).ask(0, {})


def asked(driver: Sampler, count: int) -> list[dict]:
    trials: dict[int, Trial] = {}
    for number in range(count):
        trials[number] = ended(number, driver.ask(number, trials), 0.5)
    return [trials[number].params for number in range(count)]


FIRST = [{"training.k": 3, "training.weight_decay": 0}, {}, {"model.gan": False}]


@pytest.mark.parametrize("name", ["tpe", "random", "qmc"])
def test_the_first_trials_have_what_was_asked_for(name: str) -> None:
    config = SamplerConfig.model_validate({"name": name})
    given = asked(Sampler(SPACE, config, 0, 2, FIRST), 5)
    assert (given[0]["training.k"], given[0]["training.weight_decay"]) == (3, 0.0)
    assert type(given[0]["training.weight_decay"]) is float
    assert given[2]["model.gan"] is False
    assert all(set(params) == set(SPACE) for params in given)
    resumed, trials = Sampler(SPACE, config, 0, 2, FIRST), {n: ended(n, given[n], 0.5) for n in range(4)}
    assert resumed.ask(4, trials) == given[4]


def test_a_grid_has_every_configuration_once_in_an_order_of_the_seed() -> None:
    space: Space = {
        "training.k": IntRange(low=1, high=5, step=2),
        "model.gan": Choices(choices=[True, False]),
        "model.dropout": FloatRange(low=0.0, high=0.5, step=0.25),
    }
    whole = [asked(Sampler(space, SamplerConfig(name="grid"), seed, 2), 18) for seed in (0, 1)]
    for found in whole:
        assert {(p["training.k"], p["model.gan"], p["model.dropout"]) for p in found} == {
            (k, gan, dropout) for k in (1, 3, 5) for gan in (True, False) for dropout in (0.0, 0.25, 0.5)
        }
    assert whole[0] != whole[1]
