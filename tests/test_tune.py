"""The command: what it refuses, at once and in one sentence, before anything is written or started."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diagram_ray.config import read_yaml
from diagram_ray.search.stages import is_staged, read_stages
from diagram_ray.search.study import read_study
from diagram_ray.tune import app

ROOT = Path(__file__).parents[1]
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


@pytest.mark.parametrize("arguments", [["--help"], ["--set", "training.kk=3"]])
def test_answers_at_once(arguments: list[str]) -> None:
    began = time.monotonic()
    code = (
        "import sys; from diagram_ray.tune import app\n"
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
