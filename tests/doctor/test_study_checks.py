"""The doctor finds what was broken on purpose, says where, mends what can be mended, and breaks nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diagram_ray.doctor import command as command
from diagram_ray.results import Study
from diagram_ray.study.ledger import open_ledger
from tests.support.studies.doctor import content, findings, invoke
from tests.support.studies.small_study import make_study


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made"))


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "study"))


def numbers(study: Path) -> tuple[int, int]:
    """The best trial and a pruned one."""
    trials = Study.load(study).trials
    return int(Study.load(study).best["number"]), int(trials[trials["state"] == "PRUNED"]["number"].iloc[0])


def test_a_sound_study_stays_as_it_is(study: Path) -> None:
    before = content(study)
    result = invoke(study, "--fix")
    assert result.exit_code == 0, result.output
    assert "4 trials, 0 findings, 0 put right" in result.stdout
    assert content(study) == before


def _junk(path: str) -> Callable[[Path], str]:
    def make(study: Path) -> str:
        (study / path).parent.mkdir(parents=True, exist_ok=True)
        (study / path).write_text("x")
        return path

    return make


def _stale(study: Path) -> str:
    (study / "checkpoints" / "0000").mkdir(parents=True)
    return "checkpoints/0000"


def _models(study: Path) -> str:
    pruned = f"trials/{numbers(study)[1]:04d}/models"
    (study / pruned).mkdir()
    return pruned


def _foreign(study: Path) -> str:
    (study / "trials" / "0099").mkdir()
    return "trials/0099"


def _older(study: Path) -> str:
    table = pd.read_parquet(study / "trials.parquet")
    table.iloc[:-1].to_parquet(study / "trials.parquet")
    return "trials.parquet"


def _gone(name: str) -> Callable[[Path], str]:
    def remove(study: Path) -> str:
        if (study / name).is_dir():
            shutil.rmtree(study / name)
        else:
            (study / name).unlink()
        return name

    return remove


@pytest.mark.parametrize(
    "harm",
    [
        _junk(".trials.parquet.4711-140"), _junk("trials/0000/.curves.parquet.4711-140"), _junk(".tune-x/y"),
        _junk("trials/notes"), _stale, _models, _foreign, _older, _gone("trials.parquet"), _gone("best"),
        _gone("predictions.parquet"), _gone("curves.parquet"),
    ],
)  # fmt: skip
def test_what_can_be_mended_is(study: Path, harm: Callable[[Path], str]) -> None:
    before = content(study)
    place = harm(study)
    found = invoke(study, "--json")
    assert found.exit_code == 1
    (finding,) = findings(found)
    assert finding["where"] in (place, place.rpartition("/")[0])
    assert not finding["mended"]
    fixed = invoke(study, "--fix", "--json")
    assert fixed.exit_code == 0, fixed.output
    assert findings(fixed) == [finding | {"mended": True}]
    assert "1 findings, 1 put right" in fixed.stdout
    assert invoke(study).exit_code == 0
    assert content(study) == before


def _lost(name: str) -> Callable[[Path], tuple[str, str]]:
    def remove(study: Path) -> tuple[str, str]:
        path = f"trials/{numbers(study)[0]:04d}/{name}"
        _gone(path)(study)
        return path, "missing; trial "

    return remove


def _score(study: Path) -> tuple[str, str]:
    path = f"trials/{numbers(study)[0]:04d}/predictions.parquet"
    table = pd.read_parquet(study / path)
    first = table["fold"] == 0
    table.loc[first, "score"] = 1.0 - table.loc[first, "score"]
    table.to_parquet(study / path)
    return path, "fold 0 has the AUC"


def _doubled(study: Path) -> tuple[str, str]:
    path = f"trials/{numbers(study)[0]:04d}/curves.parquet"
    table = pd.read_parquet(study / path)
    pd.concat([table, table.iloc[:1]]).to_parquet(study / path)
    return path, "has an epoch of a fold twice"


def _curve(study: Path) -> tuple[str, str]:
    path = f"trials/{numbers(study)[0]:04d}/curves.parquet"
    table = pd.read_parquet(study / path)
    table.loc[(table["fold"] == 1) & (table["epoch"] == 2), "auc"] = 0.123
    table.to_parquet(study / path)
    return path, "fold 1 has the AUC 0.123000 after 2 epochs; the ledger says"


def _damaged(study: Path) -> tuple[str, str]:
    number = numbers(study)[1]
    (study / f"trials/{number:04d}/scores-0.npy").write_bytes(b"no array")
    return f"trials/{number:04d}", "cannot be read"


def _decision(study: Path) -> tuple[str, str]:
    """The ledger of somebody who let a bad trial go on."""
    path, number = study / "ledger.jsonl", numbers(study)[1]
    events = [json.loads(line) for line in path.read_text().splitlines()]
    kept = [event for event in events if not (event["event"] == "ended" and event["trial"] == number)]
    ended = {"event": "ended", "trial": number, "state": "FAIL", "reason": "", "time": 0.0}
    path.write_text("".join(json.dumps(event) + "\n" for event in [*kept, ended]))
    table = pd.read_parquet(study / "trials.parquet")
    table.loc[table["number"] == number, "state"] = "FAIL"
    table.to_parquet(study / "trials.parquet")
    return "ledger.jsonl", f"trial {number} went on after 3 folds x 1 epochs; by the rule: pruned"


@pytest.mark.parametrize(
    "harm",
    [
        _lost("curves.parquet"), _lost("predictions.parquet"), _lost("scores-1.npy"), _lost("models"),
        _lost("measurement.json"), _score, _doubled, _curve, _damaged, _decision,
    ],
)  # fmt: skip
def test_what_cannot_be_mended_is_told_and_left(study: Path, harm: Callable[[Path], tuple[str, str]]) -> None:
    place, words = harm(study)
    before = content(study)
    result = invoke(study, "--fix", "--json")
    assert result.exit_code == 1
    (finding,) = findings(result)
    assert finding["where"] == place
    assert words in finding["what"]
    assert "cannot be put right" in result.stdout
    assert content(study) == before


def test_a_write_that_was_cut_off_is_taken_away(study: Path) -> None:
    before = content(study)
    with (study / "ledger.jsonl").open("a") as file:
        file.write('{"event": "asked", "tri')
    result = invoke(study)
    assert result.exit_code == 0
    assert "the last 23 bytes of the ledger were a write that was cut off" in result.stderr
    assert content(study) == before


def test_a_running_study_is_left_alone(study: Path) -> None:
    with open_ledger(study):
        result = invoke(study, "--fix")
    assert result.exit_code == 2
    assert "this study is being run by process" in result.stderr


@pytest.mark.parametrize("line", ["{}", "no json"])
def test_a_damaged_ledger_is_one_sentence(study: Path, line: str) -> None:
    path = study / "ledger.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], line, *lines[3:]]) + "\n")
    result = invoke(study, "--fix")
    assert result.exit_code == 2
    assert "line 4" in result.stderr


@pytest.mark.parametrize("name", ["study.yaml", "ledger.jsonl"])
def test_a_folder_that_is_no_study(study: Path, name: str) -> None:
    (study / name).unlink()
    before = content(study)
    result = invoke(study, "--fix")
    assert result.exit_code == 2
    assert name in result.stderr
    assert content(study) == before


def test_scores_of_a_rung_are_those_of_the_predictions(sound: Path) -> None:
    number = numbers(sound)[0]
    table = pd.read_parquet(sound / f"trials/{number:04d}/predictions.parquet")
    np.testing.assert_array_equal(np.load(sound / f"trials/{number:04d}/scores-1.npy"), table["score"])
