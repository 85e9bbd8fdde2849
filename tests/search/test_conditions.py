"""Parameters that exist only with certain values of others."""

import itertools

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.errors import ConfigError
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.conditions import check_conditions, configurations, existing, grid_size, ordered
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig, build_study, read_study

SPACE: Space = {
    "model.gan": Choices(choices=[True, False]),
    "model.latent_size": IntRange(low=8, high=64, when={"model.gan": [True]}),
    "model.generator_width": IntRange(low=4, high=16, step=4, when={"model.gan": [True]}),
    "training.learning_rate.generator": FloatRange(
        low=1e-4, high=1e-2, log=True, when={"model.generator_width": [8, 16]}
    ),
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
    "model.dropout": FloatRange(low=0.0, high=0.5),
}
FIRST = [{"model.gan": True, "model.latent_size": 9}, {"training.weight_decay": 0}, {"model.generator_width": 16}]
NAMES = ["tpe", "cmaes", "random", "qmc"]


def sampler(name: str, seed: int = 0) -> Sampler:
    return Sampler(SPACE, SamplerConfig.model_validate({"name": name, "startup_trials": 4}), seed, 3, FIRST)


def ended(number: int, params: dict) -> Trial:
    value = 1 - abs(params["training.weight_decay"] - 0.3) + 0.1 * params["model.gan"]
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE, TrialState.FAIL]
    rungs = (Measurement(2, 1, (value / 2,), (0.5,), 0.0), Measurement(2, 3, (value,), (0.5,), 0.0))
    state = states[number % 4]
    return Trial(number, params, state, "", rungs if state is TrialState.COMPLETE else rungs[:1])


def searched(driver: Sampler, count: int) -> dict[int, Trial]:
    trials: dict[int, Trial] = {}
    for number in range(count):
        trials[number] = ended(number, driver.ask(number, trials))
    return trials


@pytest.mark.parametrize("name", NAMES)
def test_what_is_proposed_is_what_exists(name: str) -> None:
    found = [trial.params for trial in searched(sampler(name), 40).values()]
    for params in found:
        gan, wide = params["model.gan"], params.get("model.generator_width") in (8, 16)
        assert ("model.latent_size" in params) == ("model.generator_width" in params) == gan
        assert ("training.learning_rate.generator" in params) == wide
        assert {"training.weight_decay", "model.dropout"} <= params.keys()
        override(ExperimentConfig(), params, "")
    assert len({frozenset(params) for params in found}) == 3
    assert found[0]["model.latent_size"] == 9
    assert found[1]["training.weight_decay"] == 0.0
    assert found[2].get("model.generator_width") in (16, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_sampler_goes_on_exactly(name: str) -> None:
    trials = searched(sampler(name), 30)
    for stopped in (1, 3, 11, 20, 29):
        known = {number: trials[number] for number in range(stopped)}
        assert sampler(name).ask(stopped, known) == trials[stopped].params


@pytest.mark.parametrize("name", NAMES)
def test_trials_that_may_not_be_seen_are_not_seen(name: str) -> None:
    trials = searched(sampler(name), 21)
    for number in (18, 19):  # 20 - 3 is the last that trial 20 may see
        trials[number] = Trial(number, trials[number].params, TrialState.FAIL, "", ())
    known = {number: trials[number] for number in range(20)}
    assert sampler(name).ask(20, known) == trials[20].params


GRID: Space = {
    "model.gan": Choices(choices=[True, False]),
    "training.k": IntRange(low=1, high=3, when={"model.gan": [True]}),
    "model.dropout": FloatRange(low=0.0, high=0.2, step=0.1, when={"training.k": [2, 3]}),
    "model.norm": Choices(choices=["group", "batch"]),
}


def test_a_grid_counts_what_differs() -> None:
    everything = itertools.product(*(values.points() for values in GRID.values()))
    distinct = {
        (gan, norm, *((k, *((dropout,) if k > 1 else ())) if gan else ())) for gan, k, dropout, norm in everything
    }
    assert grid_size(GRID, "") == len(distinct) == 2 * (1 + 1 + 2 * 3)
    trials: dict[int, Trial] = {}
    driver = Sampler(GRID, SamplerConfig(name="grid"), 0, 2)
    for number in range(len(distinct)):
        params = driver.ask(number, trials)
        trials[number] = Trial(number, params, TrialState.FAIL, "", ())
    assert len({tuple(trial.params.items()) for trial in trials.values()}) == len(distinct)


def test_a_condition_may_name_a_step_as_it_is_written() -> None:
    space: Space = {
        "model.dropout": FloatRange(low=0.1, high=0.5, step=0.1),  # its third value is 0.30000000000000004
        "training.k": IntRange(low=1, high=2, when={"model.dropout": [0.3]}),
    }
    check_conditions(space, "")
    assert grid_size(space, "") == 4 + 2


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Keys a..e, each with conditions on earlier ones; in any order."""
    found: Space = {}
    for name in "abcde":
        parents = draw(st.lists(st.sampled_from(sorted(found)), max_size=2, unique=True)) if found else []
        values = st.lists(st.integers(1, 3), min_size=1, max_size=2, unique=True)
        found[name] = IntRange(low=1, high=3, when={parent: draw(values) for parent in parents})
    return dict(draw(st.permutations(list(found.items()))))


@given(spaces())
@settings(max_examples=25)
def test_configurations_are_the_existing_parts_of_the_whole_product(space: Space) -> None:
    check_conditions(space, "")
    parts = set()
    for values in itertools.product((1, 2, 3), repeat=5):
        params, before = dict(zip("abcde", values, strict=True)), {}
        while params != before:  # slowly: strike out what may not be, until nothing changes
            before = dict(params)
            params = {k: v for k, v in before.items() if all(before.get(p) in w for p, w in space[k].when.items())}
        parts.add(tuple(sorted(params.items())))
        assert existing(ordered(space), dict(zip("abcde", values, strict=True))) == params
    listed = [tuple(sorted(params.items())) for params in configurations(ordered(space))]
    assert len(listed) == len(set(listed)) == grid_size(space, "")
    assert set(listed) == parts


GAN = "model.gan: {type: categorical, choices: [true, false]}"
LATENT = "model.latent_size: {type: int, low: 8, high: 64, when: %s}"
WRONG = {
    f"space: {{{GAN}, {LATENT % '{model.gna: [true]}'}}}": (
        "space.model.latent_size.when: unknown key 'model.gna'; did you mean 'model.gan'?"
    ),
    f"space: {{{LATENT % '{model.gan: [true]}'}}}": "A condition names a key that is searched.",
    f"space: {{{GAN}, {LATENT % '{model.gan: [1]}'}}}": "model.gan: 1 is never the value of model.gan: {'choices'",
    f"space: {{{GAN}, {LATENT % '{model.gan: []}'}}}": "[] names no value",
    f"space: {{{GAN}, {LATENT % '{model.gan: true}'}}}": "when.model.gan: True is not allowed",
    f"space: {{{LATENT % '{model.latent_size: [8]}'}}}": "circle: model.latent_size -> model.latent_size",
    f"space: {{{LATENT % '{training.k: [1]}'}, training.k: {{type: int, low: 1, high: 2, when: {{model.latent_size: "
    "[8]}}}": "circle: model.latent_size -> training.k -> model.latent_size",
    f"space: {{{LATENT % '{model.dropout: [0.5]}'}, model.dropout: {{type: float, low: 0.0, high: 0.5}}}}": (
        "model.dropout: a condition needs values that can be listed; give model.dropout a step"
    ),
    f"{{space: {{{GAN}, {LATENT % '{model.gan: [true]}'}}}, first: [{{model.gan: false, model.latent_size: 8}}]}}": (
        "first[0].model.latent_size: exists only where model.gan is one of [True], and here it is False"
    ),
    f"{{space: {{{GAN}}}, sampler: {{name: cmaes}}}}": "cmaes needs 2 numbers that exist in every configuration",
    f"{{space: {{{GAN}, training.k: {{type: int, low: 1, high: 2}}}}, sampler: {{name: cmaes}}}}": "has training.k",
    f"{{space: {{{GAN}}}, sampler: {{name: cmeas}}}}": "sampler.name: 'cmeas' is not allowed",
}


@pytest.mark.parametrize("line", WRONG)
def test_one_sentence_for_each_mistake(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_study({"name": "x", **yaml.safe_load(line)}, "x.yaml")
    assert WRONG[line] in str(caught.value)
    assert str(caught.value).startswith("x.yaml: ")


def test_a_value_is_tried_where_it_exists() -> None:
    space = {
        "training.validation_part": {"type": "categorical", "choices": [0.0, 0.2]},
        "training.patience": {"type": "int", "low": 1, "high": 9},
    }
    with pytest.raises(ConfigError, match="needs a training\\.validation_part above 0"):
        build_study({"name": "x", "space": space}, "x.yaml")
    space["training.patience"]["when"] = {"training.validation_part": [0.2]}
    build_study({"name": "x", "space": space}, "x.yaml")


def test_a_key_that_is_fixed_takes_along_what_cannot_exist_without_it(tmp_path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        f"name: x\nspace:\n  {GAN}\n  {LATENT % '{model.gan: [true]}'}\n  model.dropout: {{type: float, low: 0.0, "
        "high: 0.5, when: {model.latent_size: [8]}}\n  training.k: {type: int, low: 1, high: 4}\n"
    )
    without, base = read_study(file, ["model.gan=false"])
    assert (list(without.space), base.model.gan) == (["training.k"], False)
    fixed, _ = read_study(file, ["model.gan=true"])
    assert list(fixed.space) == ["model.latent_size", "model.dropout", "training.k"]
    assert fixed.space["model.latent_size"].when == {}
