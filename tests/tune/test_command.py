"""The command: what it refuses, at once and in one sentence, before anything is written or started."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagram_ray.results import Study
from diagram_ray.study.config import read_study
from diagram_ray.study.pipeline import is_staged, read_stages
from diagram_ray.tune.command import app
from diagram_ray.yaml_text import read_yaml
from tests.support.repository import ROOT
from tests.support.studies.small_study import make_study

QUICKSTART = str(ROOT / "search_spaces" / "quickstart.yaml")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the repository: the quickstart must be found beside the package."""
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.stdout, result.stderr


WRONG = {
    ("--set", "training.kk=3"): "unknown key 'training.kk'; did you mean 'training.k'?",
    ("--set", "training.k"): "expected KEY=VALUE, for example training.k=2",
    ("--time-budget", "soon"): "'soon' is not a duration",
    ("nope.yaml", "--data", "x"): "nope.yaml: no such file",
    (QUICKSTART,): "which dataset? give --data DATASET",
    ("--out", "s3://user:secret@bucket/study"): "s3://bucket/study: give the URI without user, password",
    ("--resume", "nowhere"): "nowhere: not a study: it has no study.yaml",
    ("--resume", "nowhere", "--set", "training.k=1"): "--set cannot be given with --resume",
    ("--resume", "nowhere", QUICKSTART): "STUDY.yaml cannot be given with --resume",
    (QUICKSTART, "--data", "nowhere"): "nowhere: not a prepared dataset",
    ("--init-from", "nowhere"): "nowhere: not a model: it has no config.yaml",
    ("--resume", "nowhere", "--init-from", "model"): "--init-from cannot be given with --resume",
    ("--nested", "--set", "folds=2", "--set", "ladder.rungs=null"): "control.nested: with folds 2 nothing is left",
}


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_refuses_with_one_sentence(arguments: tuple[str, ...], tmp_path: Path) -> None:
    code, out, errors = run(*arguments)
    assert code == 2
    assert WRONG[arguments] in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_refuses_a_folder_that_holds_a_study(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ledger.jsonl").touch()
    code, _, errors = run("--out", "study")
    assert code == 2
    assert "study: holds a study already; go on with it by --resume study" in errors


def test_dry_run_prints_the_plan_and_starts_nothing(tmp_path: Path) -> None:
    code, out, _ = run("--dry-run", "--json", "--trials", "9", "--set", "parallel.trials=2", "--set", "race.rule=bbcd")
    plan = json.loads(out.splitlines()[-1])
    assert code == 0
    assert plan["trials"] == 9
    assert plan["race"] == "bbcd"
    assert plan["largest_fold_epochs"] == 9 * plan["folds"] * plan["rungs"][-1][1]
    assert plan["expected_fold_epochs"] < plan["largest_fold_epochs"]
    assert list(tmp_path.iterdir()) == []


def test_dry_run_tells_the_price_of_nested_and_repeated_cross_validation() -> None:
    code, out, _ = run("--dry-run", "--json", "--nested", "--repeats", "3")
    plan = json.loads(out.splitlines()[-1])
    assert code == 0
    assert plan["repeats_fold_epochs"] == 2 * 5 * 12
    assert plan["nested_candidates"] == 8  # of 10: TPE draws 5 at random, and sees nothing of the last two before one
    assert plan["nested_largest"] == (8 * 10 + 5) * 12
    assert plan["nested_expected"] < plan["nested_largest"]
    assert plan["nested_times"] == plan["nested_expected"] / plan["expected_fold_epochs"]


@pytest.mark.parametrize("arguments", [["--help"], ["--set", "training.kk=3"]])
def test_answers_at_once(arguments: list[str]) -> None:
    began = time.monotonic()
    code = (
        "import sys; from diagram_ray.tune.command import app\n"
        "try: app()\n"
        "finally: assert not {'torch', 'ray', 'optuna', 'sklearn'} & set(sys.modules), 'imported before it was needed'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(f"\n{arguments}: {time.monotonic() - began:.2f} s")
    assert "imported before it was needed" not in done.stderr
    assert done.returncode == (0 if arguments == ["--help"] else 2)


@pytest.mark.parametrize("path", sorted((ROOT / "search_spaces").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_study_file_is_valid_and_opens_with_its_command_cost_and_score(path: Path) -> None:
    if is_staged(path):
        names = {stage["data"] for stage in read_yaml(path)["stages"] if "data" in stage}
        study = read_stages(path, [f"{name}=nowhere" for name in sorted(names)], [])
        assert run(str(path), "--dry-run", *(part for name in names for part in ("--data", f"{name}=nowhere")))[0] == 0
    else:
        study, _ = read_study(path)
    assert study.name == path.stem
    header = path.read_text().split("name:")[0]
    assert "python -m diagram_ray.tune" in header
    assert "Cost: " in header
    assert "Expect: " in header


def test_the_plan_says_what_is_known_and_what_is_not(tmp_path: Path) -> None:
    code, out, _ = run(
        "--dry-run", "--json", "--set", "budget.fold_epochs=100", "--set", "budget.cost_per_worker_hour=2.0"
    )
    plan = json.loads(out.splitlines()[-1])
    assert code == 0
    assert plan["expected_fold_epochs"] == 100
    assert plan["largest_fold_epochs"] == 99 + plan["folds"] * plan["rungs"][-1][1]
    assert plan["memory_mb_of_a_trial"] == "not known without the dataset"
    assert plan["hours"] == plan["cost"] == "not known before a fold-epoch has been measured"


def test_the_plan_of_a_study_that_has_begun_uses_what_it_measured(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    options = ("--dry-run", "--json", "--set", "budget.cost_per_worker_hour=3600.0", "--trials", "40")
    code, out, _ = run("--resume", str(study), *options)
    plan, table = json.loads(out.splitlines()[-1]), Study.load(study).trials
    each = table["worker_seconds"].sum() / (table["folds"] * table["epochs"]).sum()
    assert code == 0
    assert plan["cost"] == pytest.approx(plan["expected_fold_epochs"] * each, abs=0.01)
    assert plan["hours"] == pytest.approx(plan["cost"] / 3600 / plan["trials_at_once"], abs=0.01)
    assert re.fullmatch(r"about \d+ to \d+", plan["memory_mb_of_a_trial"])
    code, _, errors = run("--resume", str(study), "--set", "budget.fold_epoch=3")
    assert code == 2
    assert "unknown key 'fold_epoch'; did you mean 'fold_epochs'?" in errors


def test_a_driver_starts_without_pytorch() -> None:
    """It takes 1.5 seconds to import, which workers need and most drivers do not."""
    rooms = (
        "tune.command",
        "tune.surroundings",
        "distributed.driver",
        "distributed.after_search.nested_cv",
        "training.runs.inputs",
    )
    code = f"import sys, {', '.join(f'diagram_ray.{room}' for room in rooms)}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
