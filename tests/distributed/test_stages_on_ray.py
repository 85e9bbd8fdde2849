"""Stages on a real local Ray: studies that build on each other, in an object store, and on a disk with a kill."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from diagram_ray.results import Study
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place
from tests.support.object_store import s3_server
from tests.support.repository import ROOT
from tests.support.training.tiny_data import tiny_data, write_dataset

SMALL = {"model.width": 4, "model.generator_width": 4, "model.latent_size": 4, "training.epochs": 2}
SPACE = {"training.weight_decay": {"type": "float", "low": 0.0, "high": 0.1}}
STUDY = {
    "name": "any", "base": SMALL, "space": SPACE, "folds": 3, "trials": 2, "ladder": {"rungs": [[3, 1], [3, 2]]},
    "parallel": {"trials": 1, "lookback": 2}, "control": {"shuffles": 0},
}  # fmt: skip
TUNED = STUDY | {"base": {"training.epochs": 2, "training.image_batch": 4}}
STAGES = [
    {"name": "first", "study": STUDY, "data": "here"},
    {"name": "model", "train": "first"},
    {"name": "tuned", "study": TUNED, "data": "there", "init_from": "first"},
]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command's arguments without --out."""
    folder = tmp_path_factory.mktemp("asked")
    data = tiny_data()
    others = {name: np.char.replace(getattr(data, name), "p", "q") for name in ("patient_ids", "patch_patient_ids")}
    write_dataset(folder / "here", data)
    write_dataset(folder / "there", replace(data, fingerprint="e" * 64, **others))
    (folder / "all.yaml").write_text(yaml.safe_dump({"name": "all", "stages": STAGES}))
    places = [part for name in ("here", "there") for part in ("--data", f"{name}={folder / name}")]
    return [str(folder / "all.yaml"), *places]


def start(*arguments: str) -> "subprocess.Popen[str]":
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", "diagram_ray.tune", *arguments, "--json"], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def run(*arguments: str) -> dict:
    process = start(*arguments)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return json.loads(out.splitlines()[-1]) | {"said": errors}


def tables(place: Place) -> list[pd.DataFrame]:
    study = Study.load(place)
    found = [study.trials, study.curves, study.predictions]
    return [table.drop(columns=["seconds", "worker_seconds"], errors="ignore") for table in found]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[StorePath]:
    with s3_server(tmp_path / "log"):
        yield StorePath("s3://bucket/studies")


def test_all_in_order_in_a_store_and_again_on_a_disk_after_a_kill(
    asked: list[str], tmp_path: Path, store: StorePath
) -> None:
    calm, cut = store / "calm", tmp_path / "cut"
    result = run(*asked, "--out", str(calm))
    assert list(result["stages"]) == ["first", "model", "tuned"]
    assert result["report"] == f"{calm}/report.html"
    assert (calm / "report.html").read_bytes().startswith(b"<!doctype html>")
    assert {path.name for path in calm.iterdir()} == {"stages.yaml", "report.html", "first", "model", "tuned"}
    started = Study.load(calm / "tuned").document["init_from"]
    assert started["source"] == str(calm / "first")
    assert Study.load(calm / "tuned").document["experiment"]["model"]["width"] == SMALL["model.width"]

    process = start(*asked, "--out", str(cut))
    deadline = time.monotonic() + 200
    while not (cut / "tuned" / "ledger.jsonl").is_file():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "the last stage was not reached"
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = (cut / "first" / "ledger.jsonl").read_bytes(), (cut / "model" / "model.safetensors").read_bytes()
    result = run("--resume", str(cut))
    assert f"{cut / 'first'}: done already" in result["said"]
    assert (cut / "first" / "ledger.jsonl").read_bytes() == before[0]
    assert (cut / "model" / "model.safetensors").read_bytes() == before[1]
    assert (calm / "model" / "model.safetensors").read_bytes() == before[1]
    for name in ("first", "tuned"):
        for one, two in zip(tables(calm / name), tables(cut / name), strict=True):
            pd.testing.assert_frame_equal(one, two, check_exact=True)
