"""A fold of a trial, trained again: the same to the last bit, or told where and by how much it is not."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from diagram_ray import reproduce as command
from diagram_ray.results import Study, TrialState
from diagram_ray.study.study_folder import DOCUMENT
from tests.support.studies.small_study import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copied(study: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(study, tmp_path / "study"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in (*arguments, "--device", "cpu")])


def found(result: Result) -> dict:
    return json.loads(result.stdout.splitlines()[-1])


def test_every_fold_of_every_trial_comes_out_the_same(study: Path) -> None:
    states = Study.load(study).trials["state"].tolist()
    assert set(states) == {"COMPLETE", "PRUNED"}
    for number, state in enumerate(states):
        for fold in range(3):
            result = invoke(study, "--trial", number, "--fold", fold, "--json")
            assert result.exit_code == 0, result.output
            assert found(result)["same"]
            assert found(result)["epochs"] == (2 if state == TrialState.COMPLETE else 1)
            assert ("score" in found(result)["largest"]) == (state == TrialState.COMPLETE)
            assert "are the same to the last bit" in result.stdout


def test_what_an_older_version_did_not_record_is_not_compared(copied: Path) -> None:
    Study.load(copied).curves.drop(columns="training_auc").to_parquet(copied / "curves.parquet")
    result = invoke(copied, "--trial", complete(copied), "--fold", 0, "--json")
    assert result.exit_code == 0, result.output
    assert "training_auc" not in found(result)["largest"]


def complete(study: Path) -> int:
    return int(Study.load(study).best["number"])


def test_a_curve_that_was_changed_is_told(copied: Path) -> None:
    curves, number = Study.load(copied).curves, complete(copied)
    row = (curves["trial"] == number) & (curves["fold"] == 1) & (curves["epoch"] == 2)
    curves.loc[row, "loss_image"] += 0.25
    curves.to_parquet(copied / "curves.parquet")
    result = invoke(copied, "--trial", number, "--fold", 1, "--json")
    assert result.exit_code == 1
    assert found(result)["largest"]["loss_image"] == pytest.approx(0.25)
    assert found(result)["largest"]["auc"] == 0.0
    assert "the first: loss_image after epoch 2" in result.stdout
    assert invoke(copied, "--trial", number, "--fold", 0).exit_code == 0


@pytest.mark.parametrize("what", ["score", "image"])
def test_scores_that_were_changed_are_told(copied: Path, what: str) -> None:
    table, number = Study.load(copied).predictions, complete(copied)
    row = table.index[(table["trial"] == number) & (table["fold"] == 2)][0]
    if what == "score":
        table.loc[row, "score"] += 0.5
    else:
        table.loc[row, "image_id"] = "another"
    table.to_parquet(copied / "predictions.parquet")
    result = invoke(copied, "--trial", number, "--fold", 2)
    assert result.exit_code == 1
    assert f"score              {'0.5' if what == 'score' else 'inf'}" in result.stdout


def test_other_versions_are_named_where_it_differs(copied: Path) -> None:
    document = yaml.safe_load((copied / DOCUMENT).read_text())
    document["versions"]["torch"] = "1.0"
    document["experiment"]["training"]["learning_rate"]["classifier"] *= 2
    (copied / DOCUMENT).write_text(yaml.safe_dump(document))
    result = invoke(copied, "--trial", complete(copied), "--fold", 0)
    assert result.exit_code == 1
    assert "torch was 1.0, is 2." in result.stdout
    assert "the first: " in result.stdout


@pytest.mark.parametrize(
    ("trial", "fold", "told"),
    [
        (9, 0, "--trial 9: .* has the trials 0 to 3"),
        (0, 3, "--fold 3: the folds of .* are 0 to 2"),
        (0, -1, "--fold -1: the folds of .* are 0 to 2"),
    ],
)
def test_what_is_not_there(study: Path, trial: int, fold: int, told: str) -> None:
    result = invoke(study, "--trial", trial, "--fold", fold)
    assert result.exit_code == 2
    assert pd.Series([result.stderr]).str.contains(told)[0], result.stderr


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    result = invoke(tmp_path, "--trial", 0, "--fold", 0)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
