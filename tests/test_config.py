"""Settings are checked, and changed in one way only."""

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from diagram_ray.config import ExperimentConfig, TrainingConfig, build, dotted_keys, flatten, override
from diagram_ray.errors import ConfigError
from diagram_ray.yaml_text import parse_assignment, read_yaml

BASE = ExperimentConfig()


def test_every_flat_key_can_be_set_back() -> None:
    assert override(BASE, flatten(BASE), "test") == BASE
    assert sorted(flatten(BASE)) == sorted(dotted_keys(ExperimentConfig))


def test_nested_and_dotted_keys_mean_the_same() -> None:
    nested = override(BASE, {"training": {"learning_rate": {"generator": 0.5}}}, "test")
    assert nested == override(BASE, {"training.learning_rate.generator": 0.5}, "test")
    assert nested.training.learning_rate.generator == 0.5
    assert nested.training.learning_rate.classifier == BASE.training.learning_rate.classifier


@given(k=st.integers(1, 10**6), rate=st.floats(1e-12, 1e3))
def test_overrides_do_not_touch_other_keys(k: int, rate: float) -> None:
    changed = flatten(override(BASE, {"training.k": k, "training.learning_rate.generator": rate}, "test"))
    assert changed.pop("training.k") == k
    assert changed.pop("training.learning_rate.generator") == rate
    assert changed.items() <= flatten(BASE).items()


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"training.kk": 1}, ["study.yaml", "'training.kk'", "did you mean 'training.k'"]),
        ({"training.learning_rate.generatr": 1}, ["did you mean 'training.learning_rate.generator'"]),
        ({"training": {"learning_rate": {"generatr": 1}}}, ["did you mean 'training.learning_rate.generator'"]),
        ({"model.gan.more": True}, ["'model.gan.more'"]),
        ({"training.k": "1e-5"}, ["training.k", "'1e-5' is text", "1.0e-5"]),
        ({"training.learning_rate.generator": "1e-5"}, ["training.learning_rate.generator", "write 1.0e-5"]),
        ({"model.norm": "layer"}, ["model.norm", "'layer'", "'group' or 'batch'"]),
        ({"training.k": 0}, ["training.k", "0", "greater than or equal to 1"]),
        ({"training.k": 1.5}, ["training.k", "1.5"]),
        ({"training.k": True}, ["training.k", "True"]),
        ({"model.width": 30}, ["model.width", "30", "multiple of 4"]),
        ({"training.learning_rate.generator": float("nan")}, ["training.learning_rate.generator", "nan"]),
        ({"training.learning_rate.generator": float("inf")}, ["training.learning_rate.generator", "inf"]),
    ],
)
def test_a_wrong_setting_says_what_where_and_what_is_allowed(values: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        override(BASE, values, "study.yaml")
    for part in ["study.yaml", *parts]:
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_configurations_do_not_change_and_travel() -> None:
    with pytest.raises(ValidationError):
        BASE.training.k = 2  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(BASE)) == BASE
    assert build(TrainingConfig, BASE.training.model_dump(), "test") == BASE.training


@pytest.mark.parametrize(
    ("text", "value"), [("a=1e-5", 1e-5), ("a=2", 2), ("a=true", True), ("a=group", "group"), ("a=[1, 2]", [1, 2])]
)
def test_an_assignment_reads_numbers_as_numbers(text: str, value: object) -> None:
    assert parse_assignment(text) == ("a", value)


@pytest.mark.parametrize("text", ["a", "=1", "a={"])
def test_a_malformed_assignment_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        parse_assignment(text)


@pytest.mark.parametrize("text", ["- 1", "a: [", "a: 1\na: 2", "? [1]\n: 2", "!!python/object:os.system {}", ""])
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        read_yaml(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        read_yaml(tmp_path / "nowhere.yaml")


def test_a_file_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes("name: dichtë".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"study\.yaml: cannot be read as UTF-8 text"):
        read_yaml(path)
