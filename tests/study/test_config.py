"""A study file is checked to the last bound before anything starts."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.errors import ConfigError
from diagram_ray.search.space import Choices, FloatRange, IntRange, Range
from diagram_ray.study.config import build_study, read_study, seconds

STUDY = """
name: small
base: {model.width: 8, training: {epochs: 9}}
space:
  training.k: {type: int, low: 1, high: 4}
  training.learning_rate.discriminator: {type: float, low: 1.0e-4, high: 1.0e-2, log: true}
  model.norm: {type: categorical, choices: [group, batch]}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "small.yaml"
    file.write_text(STUDY)
    return file


def test_reads_study_and_base(path: Path) -> None:
    study, base = read_study(path)
    assert (study.folds, study.trials, base.training.epochs, base.model.width) == (5, 16, 9, 8)
    assert study.space["training.k"] == IntRange(low=1, high=4)
    assert [(r.folds, r.epochs) for r in study.make_ladder(9).rungs] == [(1, 3), (2, 4), (3, 4), (4, 4), (5, 4), (5, 9)]


def test_set_goes_to_the_study_or_to_the_base(path: Path) -> None:
    study, base = read_study(path, ["trials=3", "sampler.name=qmc", "training.epochs=4", "parallel.lookback=7"])
    assert (study.trials, study.sampler.name, base.training.epochs, study.parallel.lookback) == (3, "qmc", 4, 7)


def test_set_of_a_searched_key_fixes_it(path: Path) -> None:
    study, base = read_study(path, ["training.k=3"])
    assert base.training.k == 3
    assert "training.k" not in study.space


def test_the_resolved_study_survives_study_yaml(path: Path) -> None:
    study, base = read_study(path)
    resolved = study.resolved(base.training.epochs, workers=3)
    assert (resolved.parallel.trials, resolved.parallel.lookback) == (None, 6)
    written = yaml.safe_dump(resolved.model_dump(mode="json"))
    assert build_study(yaml.safe_load(written), "study.yaml") == (resolved, base)


WRONG = {
    "trails: 3": "unknown key 'trails'; did you mean 'trials'?",
    "sampler: {nam: tpe}": "unknown key 'sampler.nam'; did you mean 'sampler.name'?",
    "trials: 0": "trials: 0 is not allowed",
    "name: ../x": "name: '../x' is not allowed",
    "folds: 1": "folds: 1 is not allowed",
    "time_budget: 2x": "'2x' is not a duration: write for example 2h",
    "base: {training.learning_rate.generator: 1e-5}": "'1e-5' is text, not a number (YAML wants a point in it)",
    "base: {training.epoch: 5}": "unknown key 'training.epoch'; did you mean 'training.epochs'?",
    "base: 5": "base: 5 is not allowed",
    "space: {}": "expected dotted keys",
    "space: {training.kk: {type: int, low: 1, high: 4}}": "unknown key 'training.kk'; did you mean 'training.k'?",
    "space: {training.epochs: {type: int, low: 1, high: 4}}": "epochs are the fidelity",
    "space: {data.target: {type: categorical, choices: [a, b]}}": "given by the data",
    "space: {model.patch_size: {type: int, low: 16, high: 64}}": "given by the data",
    "space: {training.learning_rate: {type: float, low: 1.0, high: 4.0}}": "did you mean 'training.learning_rate.",
    "space: {training.k: {type: int, low: 4, high: 1}}": "low 4 is greater than high 1",
    "space: {training.k: {type: int, low: 0, high: 1}}": "training.k: 0 is not allowed",
    "space: {training.k: {type: int, low: 1, high: 4, step: 2}}": "high 4 is not low 1 plus a multiple of step 2",
    "space: {training.k: {type: int, low: 1, high: 1e1}}": "high: '1e1' is text, not a number",
    "space: {training.k: {type: float, low: 1.5, high: 2.5}}": "training.k: 1.5 is not allowed",
    "space: {training.k: {type: integer, low: 1, high: 4}}": "expected {type: float | int | categorical, ...}",
    "space: {training.k: {type: int, low: 1, high: 4, lgo: true}}": "unknown key 'lgo'",
    "space: {training.k: [1, 4]}": "expected {type: float | int | categorical, ...}, found [1, 4]",
    "space: {training.weight_decay: {type: float, low: 0.0, high: 1.0, log: true}}": "must be greater than 0",
    "space: {training.weight_decay: {type: float, low: 0.1, high: .inf}}": "high: inf is not allowed",
    "space: {model.width: {type: int, low: 4, high: 32}}": "model.width: 5 is not allowed: Input should be a multiple",
    "space: {model.norm: {type: categorical, choices: [group, grup]}}": "model.norm: 'grup' is not allowed",
    "space: {model.norm: {type: categorical, choices: [group, group]}}": "names a value twice",
    "space: {model.norm: {type: categorical, choices: []}}": "choices: [] is not allowed",
    "ladder: {rungs: [[5, 1], [5, 3]]}": "must end in [folds, training.epochs] = [5, 9]",
    "ladder: {rungs: []}": "must end in",
    "ladder: {rungs: [[5, 3], [5, 1], [5, 9]]}": "neither may shrink",
    "ladder: {rungs: [[5, 9], [5, 9]]}": "must grow",
    "ladder: {rungs: [[0, 1], [5, 9]]}": "at least 1 fold",
    "first: [{}, {training.kk: 2}]": "first[1]: unknown key 'training.kk'; did you mean 'training.k'?",
    "first: [{training.k: 9}]": "first[0].training.k: 9 is not in the space: {'low': 1, 'high': 4}",
    "first: [{model.norm: true}]": "first[0].model.norm: True is not in the space: {'choices': ['group', 'batch']}",
    "sampler: {name: grid}": "space.training.learning_rate.discriminator: a grid needs a step, or choices",
    "{sampler: {name: grid}, space: {training.k: {type: int, low: 1, high: 4}}}": "the grid has 4 configurations",
    "{sampler: {name: grid}, space: {training.k: {type: int, low: 1, high: 4}}, first: [{}]}": "grid every",
    "{sampler: {name: grid}, space: {training.k: {type: int, low: 1, high: 2000000}}}": "are too many for a grid",
    "ladder: {reduction: 1}": "ladder.reduction: 1 is not allowed",
}


@pytest.mark.parametrize("line", WRONG)
def test_one_sentence_for_each_mistake(path: Path, line: str) -> None:
    values = yaml.safe_load(STUDY) | yaml.safe_load(line)
    path.write_text(yaml.safe_dump(values).replace("'1e-5'", "1e-5"))
    with pytest.raises(ConfigError) as caught:
        read_study(path)
    assert str(path) in str(caught.value)
    assert WRONG[line] in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.kk=2", "--set: unknown key 'training.kk'; did you mean 'training.k'?"),
        ("trails=2", "did you mean 'trials'?"),
        ("training.k", "expected KEY=VALUE"),
        ("training.k=0.5", "training.k: 0.5 is not allowed"),
    ],
)
def test_wrong_assignments(path: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        read_study(path, [assignment])


def test_set_below_a_section_that_is_none(path: Path) -> None:
    path.write_text(STUDY + "sampler: tpe\n")
    with pytest.raises(ConfigError, match="sampler is 'tpe' in the study"):
        read_study(path, ["sampler.name=qmc"])


@pytest.mark.parametrize(("text", "value"), [("2h", 7200), ("90m", 5400), ("1h30m", 5400), ("45s", 45), ("0.5h", 1800)])
def test_durations(text: str, value: float) -> None:
    assert seconds(text, "here") == value


@pytest.mark.parametrize("text", ["", "h", "0s", "2 hours", "-1h", "1m2h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a duration"):
        seconds(text, "here")


ranges = st.sampled_from(
    [
        FloatRange(low=-1.0, high=2.0),
        FloatRange(low=1e-4, high=1e-1, log=True),
        FloatRange(low=0.0, high=0.5, step=0.1),
        IntRange(low=1, high=4),
        IntRange(low=4, high=32, step=4),
        IntRange(low=1, high=100, log=True),
        Choices(choices=["a", True, 1, None, 0.5]),
        FloatRange(low=3.0, high=3.0),
    ]
)


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_quantiles_are_values_that_optuna_knows(values: Range, u: float) -> None:
    distribution = values.distribution()
    assert distribution._contains(distribution.to_internal_repr(values.at(u)))


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_a_range_holds_its_values_and_no_others(values: Range, u: float) -> None:
    assert values.holds(values.at(u))
    assert not values.holds("b")
    if isinstance(values, Choices):
        assert not values.holds(False)
        return
    assert not values.holds(values.high + 1)
    assert not values.holds(values.low - 1)
    assert not values.holds(True)
    assert not values.holds(float("nan"))


@given(ranges, st.floats(0, 1, exclude_max=True))
def test_points_are_all_values(values: Range, u: float) -> None:
    points = values.points()
    if points is None:
        assert isinstance(values, FloatRange)
        assert values.step is None
    else:
        assert values.at(u) in points
        assert all(values.holds(point) for point in points)


@given(ranges)
def test_quantiles_reach_both_ends(values: Range) -> None:
    first, last = values.probes()[0], values.probes()[-1]
    assert values.at(0.0) == pytest.approx(first) if isinstance(first, float) else values.at(0.0) == first
    assert values.at(1 - 1e-9) == pytest.approx(last) if isinstance(last, float) else values.at(1 - 1e-9) == last
