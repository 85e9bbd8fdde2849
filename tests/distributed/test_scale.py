"""A study on a real local Ray against the same study simulated; and what Tune keeps of its trials."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diagram_ray.config import override
from diagram_ray.data.splits import make_splits
from diagram_ray.distributed.bridge import KEPT_BY_TUNE, Decisions
from diagram_ray.distributed.session import ray_session
from diagram_ray.results import Measurement
from diagram_ray.search.ledger import read_ledger
from diagram_ray.search.optuna_driver import Sampler
from diagram_ray.search.replay import Memory
from diagram_ray.search.simulation import ClusterConfig, Simulation
from diagram_ray.search.study_folder import read_plan
from diagram_ray.search.study_state import Rules

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = ["trials=20", "page.on=false"]

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def kept() -> list[int]:
    """How many trials Tune kept at most, each time that one was added."""
    return []


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, kept: list[int]) -> Iterator[Path]:
    """The study, undisturbed; its Ray stays."""
    real = Decisions.on_trial_add

    def spy(self: Decisions, controller: Any, trial: Any) -> None:
        real(self, controller, trial)
        kept.append(max(len(getattr(controller, name)) for name in KEPT_BY_TUNE))

    out = tmp_path_factory.mktemp("calm") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setattr(Decisions, "on_trial_add", spy)
        patch.setenv("FAKE_FOLDER", str(tmp_path_factory.mktemp("fake")))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(ROOT)]))  # for the workers
        patch.syspath_prepend(str(HERE))
        from drive_fake_study import run

        with ray_session(num_cpus=2):
            run(out, SETTINGS)
            yield out


def test_tune_forgets_trials_that_have_ended(calm: Path, kept: list[int]) -> None:
    assert len(kept) == 20
    assert max(kept) <= 8  # two run, two may wait, and some have just ended


def test_the_simulated_cluster_decides_as_ray_does(calm: Path) -> None:
    from fake_training import FakeValidation, tiny_data

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

        def standing(self, number: int, rung: int) -> Any:
            raise NotImplementedError

    sampler = Sampler(study.space, study.sampler, study.seed, lookback)
    cluster = ClusterConfig(workers=5, startup=7.0, preemptions=9.0)
    Simulation(Rules(study.trials, 5, lookback, ladder), sampler, journal, Trained(), cluster, seconds=20.0).run()
    assert journal.trials == read_ledger(calm)
