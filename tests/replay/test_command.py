"""`tune --replay`: what a finished study would have cost otherwise."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from diagram_ray.results import Study
from diagram_ray.tune import command as command
from tests.support.studies.small_study import make_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made"), reduction=100)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_a_line_for_each_way_to_search(study: Path) -> None:
    assert set(Study.load(study).trials["state"]) == {"COMPLETE"}
    before = (study / "ledger.jsonl").read_bytes()
    result = invoke("--replay", study, "--set", "ladder.reduction=2", "--set", "race.alpha=0.1", "--json")
    assert result.exit_code == 0, result.output
    ways = {way["way"]: way for way in json.loads(result.stdout.splitlines()[-1])["ways"]}
    assert list(ways) == [
        "all in full", "ladder 3x1 3x2, 1/2", "ladder and bbcd 0.1", "ladder and delong 0.1", "ladder and wilcoxon 0.1",
        "ladder and forgiving 0.1", "ladder and aggressive 0.1",
    ]  # fmt: skip
    assert (ways["all in full"]["cost"], ways["all in full"]["dropped"]) == (1.0, 0.0)
    # The first of four is never pruned, and one of them at least is: 24 fold-epochs in all, 3 less for each pruned.
    assert 15 / 24 <= ways["ladder 3x1 3x2, 1/2"]["cost"] <= 21 / 24
    assert ways["ladder and aggressive 0.1"]["cost"] <= ways["ladder 3x1 3x2, 1/2"]["cost"]
    assert all(way["regret"] >= 0.0 for way in ways.values())
    assert (study / "ledger.jsonl").read_bytes() == before


def test_a_rung_of_some_folds_can_be_replayed_as_far_as_it_was_measured(study: Path, tmp_path: Path) -> None:
    part = make_study(tmp_path, reduction=100, rungs="[[2, 1], [3, 2]]")
    for rungs in ("[[2,1],[3,2]]", "[[1,1],[3,2]]"):
        whole, again = (
            invoke("--replay", folder, "--set", f"ladder.rungs={rungs}", "--set", "ladder.reduction=2", "--json")
            for folder in (study, part)
        )
        assert whole.exit_code == 0, whole.output
        assert json.loads(again.stdout.splitlines()[-1])["ways"] == json.loads(whole.stdout.splitlines()[-1])["ways"]
    refused = invoke("--replay", part, "--set", "ladder.rungs=[[3,1],[3,2]]")
    assert "3 folds x 1 epochs: not recorded; recorded are 2 folds x 1 epochs, 3 folds x 2 epochs" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["training.k=2"], "--set training.k: a replay can change ladder.rungs, ladder.reduction and race.* only"),
        (["ladder.rungs=[[3,5]]"], "3 folds x 5 epochs: a replay must end where the recording does, at 3 folds x 2 ep"),
        (["ladder.rungs=[[4,1],[3,2]]"], "4 folds x 1 epochs: not recorded; recorded are 3 folds x 1 ep"),
        (["ladder.reduction=1"], "--set ladder: reduction: "),
        (["race.rule=luck"], "--set race: rule: 'luck' is not allowed"),
    ],
)
def test_what_cannot_be_replayed(study: Path, arguments: list[str], told: str) -> None:
    result = invoke("--replay", study, *(part for each in arguments for part in ("--set", each)))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_study_without_complete_trials(study: Path, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(Study.load(study).document))
    (tmp_path / "ledger.jsonl").write_text('{"event": "study", "version": 1}\n')
    result = invoke("--replay", tmp_path)
    assert result.exit_code == 2
    assert "has 0 complete trials; a replay needs 2 at least" in result.stderr
