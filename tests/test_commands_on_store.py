"""The commands on studies and models that are in an object store: what they do there is what they do on a disk."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import typer
import yaml
from typer.testing import CliRunner, Result

from diagram_ray import predict, report, reproduce, train
from diagram_ray.doctor import command as doctor
from diagram_ray.results import Study, TrialState
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.object_store import StorePath
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.pipeline import read_stages, write_stages
from diagram_ray.study.study_folder import Plan, check_free
from diagram_ray.tune import command as tune
from diagram_ray.tune import stages
from tests.support.object_store import s3_server
from tests.support.studies.small_study import make_study

TIMES = ["seconds", "worker_seconds"]
URI = "s3://bucket/studies/small"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with s3_server(tmp_path_factory.mktemp("store") / "log") as opened:
        yield opened


@pytest.fixture(scope="module")
def folder(files: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study in `study` and in the store; beside it the dataset."""
    made = tmp_path_factory.mktemp("made")
    make_study(made)
    make_study(made / "again", study=StorePath(URI))
    return made


def run(app: typer.Typer, *arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def answer(app: typer.Typer, *arguments: object) -> dict[str, Any]:
    result = run(app, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout.splitlines()[-1]))


def assert_same(one: Study, other: Study) -> None:
    for name in ("trials", "curves", "predictions"):
        first, second = (getattr(study, name).drop(columns=TIMES, errors="ignore") for study in (one, other))
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_the_study_is_the_same(files: Any, folder: Path) -> None:
    assert_same(Study.load(URI), Study.load(folder / "study"))
    assert (
        files.cat(f"{URI}/best/fold-0.safetensors") == (folder / "study" / "best" / "fold-0.safetensors").read_bytes()
    )
    there = {path.removeprefix("bucket/studies/small/") for path in files.find(URI)}
    here = {str(path.relative_to(folder / "study")) for path in (folder / "study").rglob("*") if path.is_file()}
    assert {name for name in there if "ledger/" not in name} == here - {"ledger.jsonl", ".lock"}


def test_reports_in_the_store_and_out_of_it(files: Any, folder: Path, tmp_path: Path) -> None:
    found = answer(report.app, URI)
    assert found["report"] == f"{URI}/report.html"
    here = answer(report.app, folder / "study", "--out", tmp_path / "r.html")["studies"]
    assert found["studies"] == json.loads(json.dumps(here).replace(str(folder / "study"), URI))
    assert files.cat(f"{URI}/report.html").startswith(b"<!doctype html>")
    both = run(report.app, URI, folder / "study")
    assert both.exit_code == 2
    assert "--out is needed" in both.stderr


def test_the_doctor_puts_it_right(files: Any, folder: Path) -> None:
    assert answer(doctor.app, URI)["findings"] == []
    before = Study.load(URI).trials
    files.rm(f"{URI}/trials.parquet")
    files.rm(f"{URI}/best/config.yaml")
    files.pipe(f"{URI}/checkpoints/0000/000001/weights.safetensors", b"left over")
    files.pipe(f"{URI}/.tune-0123/x", b"left over")
    told = run(doctor.app, URI, "--fix", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout.splitlines()[-1])["findings"]
    assert [each["where"] for each in found] == [".tune-0123", "checkpoints/0000", "best", "trials.parquet"]
    assert all(each["mended"] for each in found)
    assert answer(doctor.app, URI)["findings"] == []
    pd.testing.assert_frame_equal(Study.load(URI).trials, before)
    files.pipe(f"{URI}/ledger/00000003.json", b"{")
    damaged = run(doctor.app, URI)
    assert damaged.exit_code == 2
    assert "ledger/00000003.json: damaged" in damaged.stderr


def test_trials_are_reproduced_and_searches_replayed(folder: Path) -> None:
    uri = "s3://bucket/studies/whole"
    make_study(folder / "whole", reduction=100, study=StorePath(uri))
    assert answer(reproduce.app, uri, "--trial", 1, "--fold", 2, "--device", "cpu")["same"]
    assert answer(tune.app, "--replay", uri)["study"] == uri


def test_models_are_trained_from_it_into_the_store_and_used(
    files: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    data, model = folder / "dataset", "s3://bucket/models/m"
    fixed = ("--data", data, "--device", "cpu", "--picture-every", 1)
    answer(train.app, *fixed, "--from", URI, "--out", model)
    answer(train.app, *fixed, "--from", folder / "study", "--out", tmp_path / "m")
    assert files.cat(f"{model}/model.safetensors") == (tmp_path / "m" / "model.safetensors").read_bytes()
    there = {path.removeprefix("bucket/models/m/") for path in files.find(model)}
    here = {str(path.relative_to(tmp_path / "m")) for path in (tmp_path / "m").rglob("*") if path.is_file()}
    assert {name for name in there if "events" not in name} == {name for name in here if "events" not in name}
    assert sum("tensorboard/events" in name for name in there) == 1
    full = run(train.app, *fixed, "--out", model)
    assert full.exit_code == 2
    assert "exists and is not an empty folder" in full.stderr
    answer(train.app, *fixed, "--init-from", model, "--set", "training.epochs=1", "--out", "s3://bucket/models/tuned")
    answer(predict.app, model, data, "--out", "s3://bucket/answers", "--device", "cpu")
    answer(predict.app, tmp_path / "m", data, "--out", tmp_path / "answers", "--device", "cpu")
    assert files.cat("bucket/answers/predictions.csv") == (tmp_path / "answers" / "predictions.csv").read_bytes()


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_stages_go_on_where_they_were_cut_off(
    files: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What becomes of a stage that is done, one that was begun, and one that has but a ledger: nothing is trained."""
    place: Any = tmp_path / "all" if kind == "disk" else StorePath("s3://bucket/all")
    study = {"name": "x", "folds": 3, "trials": 4, "space": {"training.k": {"type": "int", "low": 1, "high": 2}}}
    stages_ = [{"name": name, "study": study, "data": "here"} for name in ("done", "begun", "cut")]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump({"name": "all", "stages": stages_}))
    write_stages(place, read_stages(tmp_path / "all.yaml", [f"here={folder / 'dataset'}"], []))
    for name in ("done", "begun"):
        write_atomic(place / name / "study.yaml", (folder / "study" / "study.yaml").read_bytes())
    for name, count in (("done", 4), ("begun", 3), ("cut", 0)):
        (place / name).mkdir(exist_ok=True)
        with open_ledger(place / name) as ledger:
            for trial in range(count):
                ledger.asked(trial, {"training.k": 1})
                ledger.ended(trial, TrialState.FAIL, "")
    write_atomic(place / "done" / "report.html", "x")
    plans: dict[str, Plan] = {}
    monkeypatch.setattr(stages, "run", lambda plan, make_phantom: plans.setdefault(plan.out.name, plan) and {})
    config, found = stages.resumed_stages(place)
    assert found == place
    for stage in config.stages:
        stages._one(stage, config, place)
    assert {name: plan.resume for name, plan in plans.items()} == {"begun": True, "cut": False}
    assert plans["cut"].out == place / "cut"
    check_free(plans["cut"].out)  # the study may start there


SECRET = "s3://user:hunter2@bucket/x"


@pytest.mark.parametrize(
    ("app", "arguments"),
    [
        (tune.app, ["--resume", SECRET]),
        (tune.app, ["search_spaces/quickstart.yaml", "--data", SECRET, "--out", "OUT"]),
        (tune.app, ["search_spaces/quickstart.yaml", "--data", "x", "--out", SECRET]),
        (tune.app, ["search_spaces/quickstart.yaml", "--data", "x", "--init-from", SECRET, "--out", "OUT"]),
        (train.app, ["--data", SECRET, "--out", "OUT"]),
        (train.app, ["--data", "x", "--out", SECRET]),
        (train.app, ["--data", "x", "--checkpoints", SECRET, "--out", "OUT"]),
        (report.app, [SECRET]),
        (doctor.app, [SECRET]),
        (predict.app, [SECRET, "x", "--out", "OUT"]),
        (predict.app, ["x", SECRET, "--out", "OUT"]),
    ],
)
def test_no_command_takes_a_password_or_shows_it(app: typer.Typer, arguments: list[str], tmp_path: Path) -> None:
    result = run(app, *[str(tmp_path / "out") if each == "OUT" else each for each in arguments])
    assert result.exit_code == 2
    assert "s3://bucket/x: give the URI without user, password and parameters" in result.stderr
    assert "hunter2" not in result.output + result.stderr
    assert not (tmp_path / "out").exists()


def test_a_store_that_refuses_is_one_sentence(files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    files.clear_instance_cache()
    result = run(report.app, "s3://elsewhere/x")
    files.clear_instance_cache()
    assert result.exit_code == 2
    assert "s3://elsewhere/x: cannot be opened: " in result.stderr
    assert "Traceback" not in result.stderr
