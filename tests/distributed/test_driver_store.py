"""Studies in an object store: a real S3 API, real clusters and real kills."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from diagram_ray.errors import UsageError
from diagram_ray.results import Study, TrialState
from diagram_ray.storage.object_store import StorePath
from diagram_ray.study.ledger import open_ledger, read_ledger
from tests.support.fake_study import DRIVER
from tests.support.fake_study.drive import run_by_hand
from tests.support.fake_study.training import FakeValidation, tiny_data
from tests.support.object_store import s3_server
from tests.support.repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

STUDY = ["parallel.lookback=4", "parallel.trials=2"]
TIMES = ["seconds", "worker_seconds"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of a driver that starts a Ray of its own, and finds the store. There is no folder that both it and S3 know."""
    with s3_server(tmp_path_factory.mktemp("store") / "log"):
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        yield kept | {"PYTHONPATH": str(ROOT), "FAKE_FOLDER": str(tmp_path_factory.mktemp("fake"))}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The same study on a disk, by hand."""
    out = tmp_path_factory.mktemp("calm") / "study"
    run_by_hand(out, STUDY, tiny_data(), FakeValidation)
    return Study(out)


@contextmanager
def driver(uri: str, environment: dict[str, str], cpus: int) -> Iterator["subprocess.Popen[str]"]:
    """A driver with a Ray of its own: when it is killed, its head and workers end with it."""
    process = subprocess.Popen(
        [*DRIVER, uri, *STUDY],
        env=environment | {"FAKE_CPUS": str(cpus)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: "subprocess.Popen[str]") -> dict[str, Any]:
    told, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-3000:]
    return dict(json.loads(told.splitlines()[-1]))


def assert_same(found: Study, calm: Study) -> None:
    for name in ("trials", "curves", "predictions"):
        one, other = (getattr(study, name).drop(columns=TIMES, errors="ignore") for study in (found, calm))
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    best = {path.name: path.read_bytes() for path in (found.path / "best").iterdir()}
    assert best == {path.name: path.read_bytes() for path in (calm.path / "best").iterdir()}


def names_in(place: StorePath) -> set[str]:
    return {path.name for path in place.iterdir()}


def test_a_head_that_dies_is_survived_by_a_new_cluster_of_another_size(
    environment: dict[str, str], calm: Study, wait_until: Callable[..., None]
) -> None:
    """Driver, head and workers are killed; what goes on knows the URI and nothing else."""
    place = StorePath("s3://bucket/studies/killed")
    slow = Path(environment["FAKE_FOLDER"]) / "slow"
    slow.write_text("5")  # so slow that it has not ended when the lock has been watched, which takes a beat or two
    with driver(str(place), environment, cpus=2) as first:
        wait_until(lambda: (place / "ledger" / "00000012.json").exists(), 400)
        with (
            pytest.raises(UsageError, match=f"{place}: this study is being run by process {first.pid} on "),
            open_ledger(place),
        ):
            pass
        assert first.poll() is None
        first.send_signal(signal.SIGKILL)
        first.communicate()
    before = read_ledger(place)
    assert any(trial.state is TrialState.RUNNING for trial in before.values())
    assert {".lock", "ledger", "trials", "study.yaml"} <= names_in(place)
    slow.unlink()
    with driver(str(place), environment, cpus=3) as third:
        result = ended(third)
    assert result["study"] == str(place)
    assert_same(Study.load(str(place)), calm)
    after = read_ledger(place)
    for number, trial in before.items():
        assert after[number].measurements[: len(trial.measurements)] == trial.measurements
    assert names_in(place) == {
        "study.yaml", "splits.json", "images.parquet", "ledger", "trials", "trials.parquet", "curves.parquet",
        "predictions.parquet", "baselines.json", "baselines.parquet", "reference.json", "reference.parquet", "best",
        "optuna.journal",
    }  # fmt: skip
    events = [json.loads(path.read_bytes()) for path in (place / "ledger").iterdir()]
    drivers = [f"process {each.pid} on {os.uname().nodename}" for each in (first, third)]
    assert [event["by"] for event in events if "by" in event] == drivers
