"""A study on a real local Ray against the same study simulated, and under blows; and what Tune keeps of its trials."""

import gc
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

import pandas as pd
import pytest

from benchmarks import kills
from diagram_ray.config import override
from diagram_ray.data.splits import make_splits
from diagram_ray.distributed.tune.callbacks import Decisions
from diagram_ray.distributed.tune.internals import KEPT
from diagram_ray.replay.simulated_cluster import ClusterConfig, Simulation
from diagram_ray.results import Measurement
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import read_plan
from tests.support.fake_study import DRIVER, drive
from tests.support.fake_study.training import FakeValidation, tiny_data

SETTINGS = ["trials=20", "page.on=false"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def kept() -> list[int]:
    """How many trials Tune kept at most, each time that one was added."""
    return []


@pytest.fixture(scope="module")
def alive() -> list[int]:
    """How many of Tune's trials were in memory when the last one was added."""
    return []


@pytest.fixture(scope="module")
def workers() -> list[Any]:
    """The processes that Tune asked for."""
    return []


@pytest.fixture(scope="module")
def calm(
    cluster: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    kept: list[int],
    alive: list[int],
    workers: list[Any],
) -> Path:
    """The study, undisturbed."""
    real, trials = Decisions.on_trial_add, WeakSet[Any]()

    def spy(self: Decisions, controller: Any, trial: Any) -> None:
        if not kept:
            add = controller._actor_manager.add_actor
            controller._actor_manager.add_actor = lambda **asked: workers.append(worker := add(**asked)) or worker
        real(self, controller, trial)
        kept.append(max(len(getattr(controller, name)) for name in KEPT))
        trials.add(trial)
        if len(kept) == 20:
            gc.collect()
            alive.append(len(trials))

    out = tmp_path_factory.mktemp("calm") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Decisions, "on_trial_add", spy)
        drive.run(out, [*SETTINGS, "parallel.trials=2"])
    return out


def test_tune_forgets_trials_that_have_ended(calm: Path, kept: list[int]) -> None:
    assert len(kept) == 20
    assert max(kept) <= 8  # two run, two may wait, and some have just ended


def test_each_worker_that_is_started_serves_to_the_end(calm: Path, workers: list[Any]) -> None:
    assert len(workers) == 2  # though trials take less time than a process's start


def test_nothing_else_holds_them(calm: Path, alive: list[int]) -> None:
    assert len(alive) == 1
    assert alive[0] <= 8


def test_the_simulated_cluster_decides_as_ray_does(calm: Path) -> None:
    plan, data, journal = read_plan(calm), tiny_data(), Memory()
    study, ladder = plan.study, plan.study.make_ladder(plan.base.training.epochs)
    lookback = study.parallel.lookback or 0

    class Trained:
        def measurement(self, number: int, rung: int) -> Measurement:
            config = override(plan.base, journal.trials[number].params, "")
            validation = FakeValidation(config, data, make_splits(data, 3, 0), "cpu")
            for point in ladder.rungs[: rung + 1]:
                list(validation.advance(point.folds, point.epochs))
            return validation.measure(ladder.rungs[rung].folds)

        def case_scores(self, number: int, rung: int) -> Any:
            raise NotImplementedError

    sampler = Sampler(study.space, study.sampler, study.seed, lookback)
    cluster = ClusterConfig(workers=5, startup=7.0, preemptions=9.0)
    Simulation(Rules(study.trials, 5, lookback, ladder), sampler, journal, Trained(), cluster, seconds=20.0).run()
    assert journal.trials == read_ledger(calm)


def starter(study: Path, fake: Path) -> Callable[[], "subprocess.Popen[bytes]"]:
    """Starts a driver with a Ray of its own."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"FAKE_FOLDER": str(fake), "RAY_AUTH_MODE": "token", kills.MARK: str(study)}
    command = [*DRIVER, str(study), *SETTINGS]
    return lambda: subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def test_killed_again_and_again_it_is_the_same(calm: Path, tmp_path: Path, wait_until: Callable[..., None]) -> None:
    study, total = tmp_path / "study", kills.events(calm)
    (tmp_path / "slow").write_text("1")
    blows = [(0.1 * total, "trial"), (0.2 * total, "driver"), (0.3 * total, "trial"), (0.4 * total, "node")]
    killed = kills.harassed(study, starter(study, tmp_path), blows)
    assert sum(killed.values()) == 4
    assert killed["driver"] >= 1
    assert killed["trial"] >= 1
    for name in ("trials", "curves", "predictions"):
        one, other = (pd.read_parquet(folder / f"{name}.parquet") for folder in (calm, study))
        left = [column for column in one.columns if column not in kills.TIMES]
        pd.testing.assert_frame_equal(one[left], other[left], check_exact=True)
    assert sorted(read_ledger(study)) == list(range(20))
    assert not pd.read_parquet(study / "predictions.parquet").duplicated(["trial", "fold", "image_id"]).any()
    assert not pd.read_parquet(study / "curves.parquet").duplicated(["trial", "fold", "epoch"]).any()
    wait_until(lambda: not kills.left(study))
