"""The fake study driven by a process that joins a running cluster, and what it must leave."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from tests.support.cluster.elastic import MOST
from tests.support.cluster.nodes import START
from tests.support.fake_study import DRIVER
from tests.support.fake_study.drive import run_by_hand
from tests.support.fake_study.training import FakeValidation, tiny_data
from tests.support.repository import ROOT

STUDY = ["parallel.lookback=4", "trials=28"]
ELASTIC = [f"parallel.trials={MOST}", "parallel.elastic=true", *STUDY]
TIMES = ["seconds", "worker_seconds"]


def make_calm(out: Path) -> Path:
    """The same study by hand."""
    run_by_hand(out, STUDY, tiny_data(), FakeValidation)
    return out


@contextmanager
def driver(
    address: str, environment: dict[str, str], out: Path, inside: tuple[str, ...] = ()
) -> Iterator["subprocess.Popen[str]"]:
    """The study, driven by a process of its own, `inside` of another command, that joins the cluster at `address`."""
    own = {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
    command = [*inside, *DRIVER, str(out), *ELASTIC]
    with (out.parent / "driver.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment | own, stdout=subprocess.PIPE, stderr=log, text=True
        )  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            process.communicate()


def ended(process: "subprocess.Popen[str]", out: Path) -> dict[str, Any]:
    """What the driver prints at its end."""
    told, _ = process.communicate(timeout=START)
    assert process.returncode == 0, (out.parent / "driver.log").read_text()[-3000:]
    result: dict[str, Any] = json.loads(told.splitlines()[-1])
    return result


def assert_same(out: Path, calm: Path) -> None:
    for name in ("trials", "curves", "predictions"):
        one, other = (
            pd.read_parquet(folder / f"{name}.parquet").drop(columns=TIMES, errors="ignore") for folder in (out, calm)
        )
        pd.testing.assert_frame_equal(one, other, check_exact=True)


def ended_trials(out: Path) -> int:
    """How many there are."""
    ledger = out / "ledger.jsonl"
    return ledger.read_text().count('"ended"') if ledger.is_file() else 0


def has_ended(out: Path, count: int) -> bool:
    """So many trials."""
    return ended_trials(out) >= count
