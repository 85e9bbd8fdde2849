"""CMA-ES: a function of the trials that have ended, and better than chance where the answer is smooth."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.cmaes import Evolution, merit
from diagram_ray.search.sampler_config import numbers_of
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space

SPACE: Space = {
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
    "training.learning_rate.generator": FloatRange(low=1e-5, high=1e-1, log=True),
    "training.learning_rate.classifier": FloatRange(low=1e-5, high=1e-1, log=True),
    "model.dropout": FloatRange(low=0.0, high=0.9),
    "model.width": IntRange(low=8, high=8),
}
WIDER: Space = SPACE | {
    "model.norm": Choices(choices=["group", "batch"]),
    "model.latent_size": IntRange(low=1, high=9, when={"model.norm": ["group"]}),
}


def ended(number: int, params: dict, value: float, rungs: int = 2) -> Trial:
    state = TrialState.COMPLETE if rungs == 2 else TrialState.PRUNED
    measured = tuple(Measurement(2, epochs, (value,), (0.5,), 0.0) for epochs in (1, 3)[:rungs])
    return Trial(number, params, state, "", measured)


def valley(params: dict) -> float:
    """A narrow, slanted optimum, as of two learning rates that must go together."""
    u = [values.quantile(params[key]) for key, values in numbers_of(SPACE).items()]
    return -((u[0] - 0.8) ** 2 + 25 * (u[1] - u[2]) ** 2 + (u[2] - 0.3) ** 2 + (u[3] - 0.2) ** 2)


def best_after(trials: int, seed: int, evolve: bool) -> float:
    """Each proposal sees the trials before the last four."""
    evolution, random, waiting = Evolution(SPACE, seed), np.random.default_rng(seed), []
    for number in range(trials):
        drawn = {key: values.at(random.random()) for key, values in numbers_of(SPACE).items()}
        waiting.append(evolution.ask(1000 * seed + number) if evolve else drawn)
        if number >= 4:
            evolution.tell(waiting[number - 4], (valley(waiting[number - 4]),))
    return max(valley(params) for params in waiting)


def test_it_comes_nearer_than_chance() -> None:
    evolved, drawn = ([best_after(150, seed, evolve) for seed in range(5)] for evolve in (True, False))
    print(f"\nshort of the optimum by {-np.median(evolved):.4f} (cmaes), {-np.median(drawn):.4f} (random)")
    assert np.median(evolved) > np.median(drawn) / 5


def test_it_searches_numbers_that_always_exist() -> None:
    assert sorted(numbers_of(WIDER)) == [
        "model.dropout",
        "training.learning_rate.classifier",
        "training.learning_rate.generator",
        "training.weight_decay",
    ]


def test_a_trial_that_was_pruned_or_broke_a_bound_is_ordered_and_one_that_failed_is_not() -> None:
    complete, low, pruned = ended(0, {}, 0.9), ended(1, {}, 0.7), ended(2, {}, 0.95, rungs=1)
    worse, far = (Trial(3, {}, TrialState.PRUNED, "constraint", ()) for _ in range(2))
    merits = [merit(complete), merit(low), merit(pruned), merit(worse, 0.1), merit(far, 2.0)]
    assert merits == sorted(merits, reverse=True)
    assert merit(Trial(4, {}, TrialState.FAIL, "", complete.measurements)) is None


def test_only_the_order_of_the_trials_matters() -> None:
    first, second = Evolution(SPACE, 0), Evolution(SPACE, 0)
    for number in range(40):
        params = first.ask(number)
        first.tell(params, (valley(params),))
        second.tell(params, (math.exp(valley(params)) * 1e6,))
    assert first.ask(40) == second.ask(40)


def test_when_it_has_converged_it_begins_elsewhere() -> None:
    evolution, seen = Evolution(SPACE, 0), []
    for number in range(1500):
        params = evolution.ask(number)
        seen.append(params["training.weight_decay"])
        evolution.tell(params, (valley(params),))
        if evolution._restarts:
            break
    assert evolution._restarts == 1
    assert np.std(seen[-10:]) < 1e-6
    assert np.std([evolution.ask(seed)["training.weight_decay"] for seed in range(10)]) > 0.05


ranges = st.sampled_from(
    [
        FloatRange(low=-1.0, high=2.0),
        FloatRange(low=1e-4, high=1e-1, log=True),
        FloatRange(low=0.0, high=0.5, step=0.1),
        IntRange(low=1, high=4),
        IntRange(low=4, high=32, step=4),
        IntRange(low=1, high=100, log=True),
    ]
)


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_a_quantile_leads_back_to_its_value(values: FloatRange | IntRange, u: float) -> None:
    value = values.at(u)
    back = values.at(min(values.quantile(value), math.nextafter(1.0, 0.0)))
    assert back == pytest.approx(value, rel=1e-12, abs=1e-12) if isinstance(value, float) else back == value
