"""A file of stages: checked before anything starts, planned, refused in one sentence."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from diagram_ray.study.pipeline import read_stages
from diagram_ray.tune import command as command

SPACE = {"training.weight_decay": {"type": "float", "low": 0.0, "high": 0.1}}
STUDY = {"name": "any", "base": {"training.epochs": 2}, "space": SPACE, "folds": 3, "trials": 4}
FIRST = {"name": "first", "study": STUDY, "data": "here"}
TUNED = {"name": "tuned", "study": {"name": "x", "space": SPACE, "trials": 2}, "data": "there", "init_from": "first"}
MODEL = {"name": "model", "train": "first"}


def write(folder: Path, *stages: dict) -> Path:
    path = folder / "stages.yaml"
    path.write_text(yaml.safe_dump({"name": "all", "stages": list(stages)}))
    return path


def invoke(path: Path, *arguments: str) -> Result:
    return CliRunner().invoke(command.app, [str(path), *arguments])


PLACES = ("--data", "here=a", "--data", "there=b")


def test_the_plan_of_each_stage(tmp_path: Path) -> None:
    result = invoke(write(tmp_path, FIRST, MODEL, TUNED), *PLACES, "--dry-run", "--set", "tuned.trials=3")
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if line.startswith("stage")] == [
        "stage first", "stage model", "stage tuned",
    ]  # fmt: skip
    assert "trials                 4" in result.stdout
    assert "trials                 3" in result.stdout
    assert "largest fold epochs    300" in result.stdout  # of fine-tuning: 3 trials x 5 folds x 20 epochs
    assert {path.name for path in tmp_path.iterdir()} == {"stages.yaml"}


def test_settings_are_for_one_stage_or_for_all(tmp_path: Path) -> None:
    path = write(tmp_path, FIRST, TUNED | {"set": {"trials": 7}})
    config = read_stages(path, ["here=a", "there=s3://bucket/b"], ["first.training.k=2", "seed=5"])
    first, tuned = (stage.study for stage in config.stages)
    assert (first["seed"], first["base"]["training.k"], first["trials"], first["name"]) == (5, 2, 4, "first")
    assert (tuned["seed"], tuned.get("base", {}), tuned["trials"]) == (5, {}, 7)
    assert config.data == {"here": str(Path("a").resolve()), "there": "s3://bucket/b"}


def test_study_files_are_found_beside_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "study.yaml").write_text(yaml.safe_dump(STUDY))
    path = write(tmp_path, FIRST | {"study": "deep/study.yaml"})
    assert read_stages(path, ["here=a"], []).stages[0].study == STUDY | {"name": "first"}


@pytest.mark.parametrize(
    ("stages", "arguments", "told"),
    [
        ([FIRST], (), "stage first: where is its dataset? give --data here=DATASET"),
        ([FIRST], ("--data", "a"), "--data a: of stages it is NAME=DATASET"),
        ([FIRST], PLACES, "--data there: no stage has a dataset of this name"),
        ([FIRST, FIRST], PLACES[:2], "stage first: there are two of this name"),
        ([FIRST | {"train": "first"}], PLACES[:2], "stage first: expected either study or train"),
        ([MODEL, FIRST], PLACES[:2], "stage model: train: 'first' is no study before it; there are []"),
        ([FIRST, MODEL | {"set": {"trials": 2}}], PLACES[:2], "a training takes data and settings from its study"),
        ([FIRST, TUNED, MODEL | {"train": "tuned"}], PLACES, "tuned starts from the weights of another stage"),
        ([{"name": "x", "study": STUDY}], (), "stage x: data: which dataset? give it a name"),
        ([FIRST | {"study": "nowhere.yaml"}], PLACES[:2], "nowhere.yaml: no such file"),
        ([FIRST | {"set": {"trails": 2}}], PLACES[:2], "unknown key 'trails'"),
        ([FIRST, TUNED | {"study": {"name": "x", "space": SPACE, "trials": 0}}], PLACES, "stage tuned: trials"),
        ([FIRST | {"colour": "red"}], PLACES[:2], "colour"),
        ([], (), "stages"),
    ],
)
def test_what_is_refused(tmp_path: Path, stages: list[dict], arguments: tuple[str, ...], told: str) -> None:
    result = invoke(write(tmp_path, *stages), *arguments, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_study_has_one_dataset(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    result = invoke(tmp_path / "study.yaml", "--data", "a", "--data", "b")
    assert result.exit_code == 2
    assert "--data b: a study has one dataset; a file of stages may have several" in result.stderr
