"""Nested and repeated cross-validation on a real local Ray: what is trained, what is not, and what a kill costs."""

import contextlib
import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from diagram_ray.distributed import retries
from diagram_ray.distributed.after_search import fold_tasks
from diagram_ray.distributed.tune import callbacks
from diagram_ray.evaluation.metrics import auc
from diagram_ray.results import Study
from diagram_ray.study import holdout_files
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.nested_plan import price
from diagram_ray.study.study_folder import read_plan
from tests.support.fake_study import DRIVER, drive

ASKED = ["sampler.name=random", "trials=6", "repeats=3", "control.nested=true", "parallel.lookback=2"]

pytestmark = pytest.mark.ray


def run(out: Path, *assignments: str) -> dict:
    return drive.run(out, list(assignments))


@pytest.fixture(scope="module")
def undisturbed(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "study"
    run(out, *ASKED)
    return out


def told(out: Path, name: str) -> dict:
    return json.loads((out / name).read_text())


def test_it_leaves_what_the_report_needs(undisturbed: Path) -> None:
    found, best = told(undisturbed, "nested.json"), int(Study.load(undisturbed).best["number"])
    assert found["candidates"] == list(range(6))
    assert [each["fold"] for each in found["folds"]] == [0, 1, 2]
    assert found["auc_mean"] == pytest.approx(np.mean([each["auc"] for each in found["folds"]]))
    table = Study.load(undisturbed).predictions
    repeated = table[table["repeat"] > 0]
    assert set(repeated["trial"]) == {best}
    assert repeated.groupby("repeat").size().to_dict() == {1: 12, 2: 12}
    assert repeated.groupby(["repeat", "image_id"]).size().max() == 1
    assignments = [
        table[(table["trial"] == best) & (table["repeat"] == r)].set_index("image_id")["fold"] for r in (1, 2)
    ]
    assert not assignments[0].sort_index().equals(assignments[1].sort_index())
    recorded = told(undisturbed, "repeats.json")
    assert recorded["trial"] == best
    for each in recorded["repeats"]:
        mine = repeated[repeated["repeat"] == each["repeat"]]
        values = [auc(part["label"], part["score"]) for _, part in mine.groupby("fold")]
        assert each["fold_auc"] == pytest.approx(values)
    assert not list((undisturbed / "nested").glob("*/*/checkpoint"))
    assert not list((undisturbed / "repeats").glob("*/*/*/checkpoint"))


def test_it_costs_at_most_what_was_told_before(undisturbed: Path) -> None:
    plan, found = read_plan(undisturbed), told(undisturbed, "nested.json")
    cost = price(plan.study, plan.study.make_ladder(6), plan.study.parallel.lookback)
    assert 0 < found["fold_epochs"] <= cost.largest == found["largest_fold_epochs"]


def test_what_is_there_is_not_made_again(undisturbed: Path, cluster: dict[str, str], tmp_path: Path) -> None:
    out, log = shutil.copytree(undisturbed, tmp_path / "study"), Path(cluster["FAKE_FOLDER"]) / "log"
    before, lines = (out / "nested.json").read_bytes(), log.read_text()
    run(out)
    assert log.read_text() == lines
    for name in ("nested.json", "repeats.json"):
        (out / name).unlink()
    run(out)  # from the files of the models
    assert (out / "nested.json").read_bytes() == before
    assert told(out, "repeats.json") == told(undisturbed, "repeats.json")
    assert log.read_text() == lines


@contextlib.contextmanager
def driver(out: Path, cluster: dict[str, str], *assignments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*DRIVER, str(out), *assignments]
    process = subprocess.Popen(command, env=cluster, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


def test_a_finished_study_is_nested_later_and_a_kill_costs_no_model_that_was_done(
    undisturbed: Path, cluster: dict[str, str], tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    out, folder = tmp_path / "study", Path(cluster["FAKE_FOLDER"])
    run(out, "sampler.name=random", "trials=6", "parallel.lookback=2")
    before = Study.load(out).predictions
    (folder / "slow").write_text("1")
    try:
        with driver(out, cluster, "control.nested=true") as process:
            wait_until(lambda: len(list(out.glob("nested/*/*/after-*.parquet"))) >= 5, seconds=240)
            process.kill()
            _, errors = process.communicate()
        assert "price of nested cross-validation: 6 configurations, at most" in errors
        assert not (out / "nested.json").exists()
    finally:
        (folder / "slow").unlink()
    trials, done = read_ledger(out), Counter[tuple[str, str]]()
    for path in out.glob("nested/*/without-*-*/after-*.parquet"):
        decay = trials[int(path.parts[-3])].params["training.weight_decay"]
        number = sum(map(int, path.parts[-2].split("-")[1:])) % 3
        done[str(decay), str(number)] = max(done[str(decay), str(number)], int(path.stem.split("-")[1]))
    lines = (folder / "log").read_text().count("\n")
    result = run(out)
    trained = [line.split() for line in (folder / "log").read_text().splitlines()[lines:]]
    assert trained
    assert not [entry for entry in trained if int(entry[2]) <= done[entry[0], entry[1]]]
    assert told(out, "nested.json") == told(undisturbed, "nested.json")
    assert result["nested_auc"] == told(out, "nested.json")["auc_mean"]
    assert result["repeated_auc"] is None
    pd.testing.assert_frame_equal(Study.load(out).predictions, before)
    nested_table = "nested/predictions.parquet"
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / nested_table), pd.read_parquet(undisturbed / nested_table), check_exact=True
    )


def test_configurations_that_fail_are_told_and_cost_only_themselves(
    cluster: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in (callbacks, fold_tasks, retries):
        monkeypatch.setattr(room, "RETRIES", 0)  # each of many models kills its worker, and a new one takes seconds
    space = '{"training.k": {"type": "categorical", "choices": [1, 13, 14, 15]}}'
    out = tmp_path / "study"
    run(out, f"space={space}", "trials=4", "sampler.name=qmc", "control.nested=true", "ladder.rungs=[[3,6]]")
    found, trials = told(out, "nested.json"), read_ledger(out)
    (good,) = (number for number, trial in trials.items() if trial.params["training.k"] == 1)
    assert [each["winner"] for each in found["folds"]] == [good] * 3
    for path in out.glob("nested/*/*/after-6.parquet"):
        about = json.loads(pq.read_schema(path).metadata[holdout_files.ABOUT])
        why = {1: "", 13: "diverged", 14: "out of memory: 400 GiB", 15: "its worker process died 1 times"}
        assert why[trials[int(path.parts[-3])].params["training.k"]] in about["failed"]
        assert bool(about["failed"]) == (int(path.parts[-3]) != good)


def test_a_candidate_that_has_yet_to_start_is_waited_for(cluster: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    run(out, *ASKED, "time_budget=0.001s")
    assert not (out / holdout_files.NESTED_RESULT).exists()
