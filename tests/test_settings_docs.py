"""docs/settings.md and docs/study.schema.json say what the code says, and the schema takes what `tune` takes."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from diagram_ray.config import ExperimentConfig, dotted_keys
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.reference.schema import study_schema
from diagram_ray.study.reference.settings_page import settings_page
from diagram_ray.yaml_text import read_yaml

ROOT = Path(__file__).resolve().parents[1]
STUDY_FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))
SMALL: dict[str, Any] = {"name": "small", "space": {"training.k": {"type": "int", "low": 1, "high": 4}}}


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    document = json.loads(study_schema())
    Draft202012Validator.check_schema(document)
    return Draft202012Validator(document)


@pytest.mark.parametrize(("name", "made"), [("settings.md", settings_page), ("study.schema.json", study_schema)])
def test_the_file_is_what_the_code_says_now(name: str, made: Any) -> None:
    kept = (ROOT / "docs" / name).read_text("utf-8")
    assert kept == made(), f"docs/{name} is not what the settings in the code are now: run `make docs`"


def test_every_setting_has_a_row_and_a_meaning() -> None:
    rows = [line for line in settings_page().splitlines() if line.startswith("| `")]
    named = [row.split("`")[1] for row in rows]
    assert set(dotted_keys(ExperimentConfig) + dotted_keys(StudyConfig)) <= set(named)
    assert [row for row in rows if row.endswith("|  |")] == []


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: path.stem)
def test_the_schema_takes_every_study_file_provided(path: Path, schema: Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(read_yaml(path))] == []


@pytest.mark.parametrize(
    "more",
    [
        {"base": {"training.learning_rate.classifier": 0.1, "model": {"width": 8}, "training.augment": {"scale": 0.1}}},
        {"scaling": {"folds_at_once": "auto"}, "first": [{"training.k": 2}], "ladder": {"rungs": [[5, 30]]}},
    ],
)
def test_the_schema_takes_what_a_study_may_say(more: dict[str, Any], schema: Draft202012Validator) -> None:
    assert [error.message for error in schema.iter_errors(SMALL | more)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"trails": 3},
        {"trials": 0},
        {"base": {"training.kk": 1}},
        {"base": {"training": {"kk": 1}}},
        {"base": {"model.norm": "layer"}},
        {"space": {}},
        {"space": {"training.k": {"low": 1, "high": 4}}},
        {"space": {"training.epochs": {"type": "int", "low": 1, "high": 4}}},
        {"space": {"data.target": {"type": "categorical", "choices": ["label"]}}},
        {"scaling": {"folds_at_once": 0}},
        {"first": [{"training.kk": 2}]},
        {"stages": []},
    ],
)
def test_the_schema_refuses_what_tune_refuses(wrong: dict[str, Any], schema: Draft202012Validator) -> None:
    assert list(schema.iter_errors(SMALL | wrong))
