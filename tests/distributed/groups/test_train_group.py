"""Trials in a Ray Train worker group: the numbers of one process, even when workers are killed; nothing left over."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
import torch

from diagram_ray.distributed.resources import TrialResources, divide_resources
from diagram_ray.distributed.work import cross_validation
from diagram_ray.errors import ConfigError, UsageError
from diagram_ray.study.config import ParallelConfig, ScalingConfig, read_study
from diagram_ray.study.ledger import read_ledger
from tests.support import fake_study
from tests.support.fake_study.drive import run_by_hand, run_on
from tests.support.fake_study.training import three_at_once, tiny_data

SMALL = "base={model.width: 4, model.generator_width: 4, model.latent_size: 4, training.epochs: 4}"
STUDY = [SMALL, "ladder.rungs=[[3, 1], [3, 2], [3, 4]]", "parallel.lookback=2", "parallel.trials=1", "trials=2"]
STUDY += ["control.shuffles=0", "space={training.weight_decay: {type: float, low: 0.0, high: 0.1}}"]
GROUP = ["scaling.workers=2", "scaling.cpus_per_worker=0.9"]
ONE = "trials=1"
"""Each trial's group starts anew, which takes longer than all else here."""


@pytest.fixture(scope="module")
def session(cluster: dict[str, str]) -> Iterator[None]:
    """A local Ray with two CPUs; one thread, as its workers have."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def by_hand(session: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study in one process, without Ray."""
    out = tmp_path_factory.mktemp("hand") / "study"
    run_by_hand(out, STUDY, tiny_data(), cross_validation)
    return out


def run(out: Path, *assignments: str) -> Path:
    run_on(out, [*STUDY, *assignments], tiny_data(), cross_validation)
    return out


def numbers(out: Path, trials: int) -> dict[str, np.ndarray]:
    """All that was measured in the first `trials`, in an order that does not depend on when."""
    curves = pd.read_parquet(out / "curves.parquet").sort_values(["trial", "fold", "epoch"]).query("trial < @trials")
    scores = pd.read_parquet(out / "predictions.parquet").sort_values(["trial", "fold", "image_id"])
    told = {name: curves[name].to_numpy(float) for name in curves.columns if name.startswith("loss_") or name == "auc"}
    told["score"] = scores.query("trial < @trials")["score"].to_numpy(float)
    return told | {"trial": curves["trial"].to_numpy(float)}


def assert_close(out: Path, other: Path, tolerance: float) -> None:
    """What `out` measured, `other` did, too; all of its trials are complete."""
    trials = read_ledger(out)
    assert {trial.state for trial in trials.values()} == {"COMPLETE"}
    ours, theirs = numbers(out, len(trials)), numbers(other, len(trials))
    assert ours.keys() == theirs.keys() >= {"loss_image", "score"}
    for name, values in ours.items():
        np.testing.assert_allclose(values, theirs[name], atol=tolerance, rtol=0, err_msg=name)


def room_taken() -> list[str]:
    groups = ray.util.placement_group_table().values()
    return [group["state"] for group in groups if group["state"] != "REMOVED"]


def train_workers() -> list[int]:
    """The processes of this test's worker group."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    mine = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sorted(pid for pid in mine if "RayTrainWorker" in _name(pid))


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def kill_after(ledger: Path) -> threading.Thread:
    """Kills the group's first process when a rung is measured, and the second one when another is; to be joined."""
    ended = threading.Event()

    def reached(rungs: int) -> bool:
        done = ledger.is_file() and ledger.read_text().count('"measured"') >= rungs
        return done and len(train_workers()) == 2

    def work() -> None:
        for rungs, which in ((1, 0), (2, 1)):
            while not reached(rungs):
                assert not ended.wait(0.02)
            os.kill(train_workers()[which], signal.SIGKILL)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.ray
@pytest.mark.slow
class TestGroups:
    def test_two_workers_at_one_fold_give_the_numbers_of_one_process(
        self, session: None, by_hand: Path, tmp_path: Path
    ) -> None:
        out = run(tmp_path / "study", *GROUP)
        assert len(read_ledger(out)) == 2
        assert_close(out, by_hand, 1e-5)  # float32 sums in another order
        assert room_taken() == []
        assert train_workers() == []

    def test_workers_that_train_whole_folds_give_them_to_the_last_bit(
        self, session: None, by_hand: Path, tmp_path: Path
    ) -> None:
        """One of the two trains two folds, side by side."""
        out = run(tmp_path / "study", *GROUP, "scaling.folds_at_once=3", ONE)
        assert_close(out, by_hand, 0.0)

    def test_one_worker_trains_as_many_folds_side_by_side_as_it_is_told(
        self, session: None, by_hand: Path, tmp_path: Path
    ) -> None:
        run_on(tmp_path / "study", [*STUDY, "scaling.folds_at_once=3", ONE], tiny_data(), three_at_once)
        assert_close(tmp_path / "study", by_hand, 0.0)

    def test_workers_that_are_killed_cost_time_alone(self, session: None, by_hand: Path, tmp_path: Path) -> None:
        """The first process leads; either may die."""
        killer = kill_after(tmp_path / "study" / "ledger.jsonl")
        out = run(tmp_path / "study", *GROUP, "scaling.folds_at_once=2", ONE)
        killer.join(5)
        assert not killer.is_alive()
        assert_close(out, by_hand, 0.0)
        assert room_taken() == []


CPUS, GPUS = {"CPU": 8.0}, {"CPU": 32.0, "GPU": 8.0}


@pytest.mark.parametrize(
    ("cluster", "scaling", "trials", "expected"),
    [
        (CPUS, {"workers": 2, "cpus_per_worker": 0.9}, None, TrialResources(4, 0.9, 0.0, 2)),
        (GPUS, {"workers": 4, "folds_at_once": 2}, None, TrialResources(2, 1.0, 1.0, 4, folds_at_once=2)),
        (GPUS, {"workers": 2, "folds_at_once": "auto"}, None, TrialResources(4, 1.0, 1.0, 2, folds_at_once=None)),
        (GPUS, {"folds_at_once": "auto"}, 16, TrialResources(16, 1.0, 0.5, folds_at_once=None)),
        (GPUS, {"folds_at_once": 3}, None, TrialResources(8, 1.0, 1.0, folds_at_once=3)),
        (GPUS, {"workers": 4, "gpus_per_worker": 0}, 1, TrialResources(1, 1.0, 0.0, 4)),
        (GPUS, {"workers": 16, "min_workers": 8}, 1, TrialResources(1, 1.0, 1.0, 16, 8)),
    ],
)
def test_the_cluster_is_divided_among_groups(
    cluster: dict[str, float], scaling: dict[str, float], trials: int | None, expected: TrialResources
) -> None:
    assert divide_resources(cluster, ParallelConfig(trials=trials), ScalingConfig.model_validate(scaling)) == expected


@pytest.mark.parametrize(
    ("scaling", "trials", "reason"),
    [
        ({"workers": 16}, None, "1 trials at once of at least 16 workers with 1 GPU each need 16 GPU"),
        ({"workers": 4}, 3, "3 trials at once of at least 4 workers with 1 GPU each need 12 GPU"),
        ({"workers": 2, "cpus_per_worker": 20}, 1, "with 20 CPU each need 40 CPU; the cluster has 32"),
    ],
)
def test_a_group_that_the_cluster_has_no_room_for_is_refused(
    scaling: dict[str, float], trials: int | None, reason: str
) -> None:
    """Ray would wait for ever."""
    with pytest.raises(UsageError, match=reason):
        divide_resources(GPUS, ParallelConfig(trials=trials), ScalingConfig.model_validate(scaling))


@pytest.mark.parametrize("value", ["many", "0", "2.5", "true"])
def test_folds_at_once_are_auto_or_a_number(value: str) -> None:
    with pytest.raises(ConfigError, match=r"scaling\.folds_at_once: .* allowed are auto and whole numbers from 1"):
        read_study(fake_study.STUDY, [f"scaling.folds_at_once={value}"])


def test_parts_of_gpus() -> None:
    assert divide_resources(GPUS, ParallelConfig(gpus_per_trial=0.25)) == TrialResources(32, 1.0, 0.25)
    with pytest.raises(UsageError, match=r"gpus_per_trial 0\.5: 20 trials at once need 10 GPUs; there are 8"):
        divide_resources(GPUS, ParallelConfig(trials=20, gpus_per_trial=0.5))


def test_more_workers_at_least_than_at_most_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"min_workers.*must not be above scaling\.workers, which is 2"):
        read_study(fake_study.STUDY, ["scaling.workers=2", "scaling.min_workers=3"])
