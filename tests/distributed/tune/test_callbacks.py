"""What Tune is answered, and stopping when asked to. No cluster is started."""

import io
import os
import signal
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle, tune
from ray.air.execution._internal import RayActorManager
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher
from rich.console import Console

from diagram_ray.distributed.retries import RETRIES, RetryPolicy
from diagram_ray.distributed.tune.callbacks import (
    TIME_BUDGET,
    Bridge,
    Decisions,
    Proposals,
    Stopper,
    Ticks,
)
from diagram_ray.distributed.tune.internals import ROOM, START, let_workers_start
from diagram_ray.monitoring.terminal import Lines, Listener, Screen
from diagram_ray.results import Measurement, TrialState
from diagram_ray.search.budget import COST, BudgetConfig, Meter
from diagram_ray.search.constraints import Goals
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Rules, TrialReport
from diagram_ray.search.scheduler import StudyState
from diagram_ray.signals import cooperative_stop
from diagram_ray.study.ledger import Ledger, open_ledger
from diagram_ray.study.trial_files import TrialCleanup, TrialFiles

LADDER = Ladder((Rung(1, 1), Rung(1, 2)), 2)


class Constant:
    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        return {"training.k": number}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with open_ledger(tmp_path) as ledger:
        yield ledger


def bridge(ledger: Ledger, trials: int = 3, time_budget: float | None = None) -> Bridge:
    state = StudyState(Rules(trials, 2, 2, LADDER), Constant(), ledger)
    return Bridge(
        state, TrialCleanup(ledger.path.parent, ledger.trials), RetryPolicy(lambda: 0), Listener(), time_budget
    )


def reached(number: int, rung: int) -> TrialReport:
    point = LADDER.rungs[rung]
    measurement = Measurement(point.folds, point.epochs, (0.5,), (0.5,), 1.0)
    return TrialReport(number, point.folds, point.epochs, point.fold_epochs, 0.5, rung, measurement)


def test_suggests_waits_and_finishes(ledger: Ledger) -> None:
    asked = bridge(ledger)
    searcher = Proposals(asked)
    assert searcher.suggest("a") == {"number": 0, "params": {"training.k": 0}}
    assert searcher.suggest("b") == {"number": 1, "params": {"training.k": 1}}
    assert searcher.suggest("c") is None
    assert asked.result(TrialReport(0, 1, 1, 1)) == TrialScheduler.CONTINUE
    assert asked.result(reached(0, 0)) == TrialScheduler.CONTINUE
    assert asked.result(reached(0, 1)) == TrialScheduler.STOP
    assert searcher.suggest("c") == {"number": 2, "params": {"training.k": 2}}
    assert searcher.suggest("d") is None  # a trial that runs may have to start again
    for number in (1, 2):
        assert [asked.result(reached(number, rung)) for rung in (0, 1)][-1] == TrialScheduler.STOP
    assert searcher.suggest("d") == Searcher.FINISHED


def test_a_failed_trial_ends(ledger: Ledger) -> None:
    asked = bridge(ledger)
    asked.suggest("a")
    checkpoint = TrialFiles.of(ledger.path.parent, 0).checkpoints / "000001"
    checkpoint.mkdir(parents=True)
    assert asked.result(TrialReport(0, 0, 0, 0, failed="diverged")) == TrialScheduler.STOP
    assert not checkpoint.parent.exists()
    assert (ledger.trials[0].state, ledger.trials[0].reason) == (TrialState.FAIL, "diverged")


def test_a_worker_that_died_too_often_fails_its_trial(ledger: Ledger) -> None:
    asked = bridge(ledger)
    searcher = Proposals(asked)
    for life in range(RETRIES + 1):
        assert searcher.suggest(f"life {life}") == {"number": 0, "params": {"training.k": 0}}
        assert ledger.trials[0].state is TrialState.RUNNING
        searcher.on_trial_complete(f"life {life}", error=True)
    assert asked.fault is None
    assert ledger.trials[0].reason == f"its worker process died {RETRIES + 1} times"


def test_the_last_trial_can_start_again(ledger: Ledger) -> None:
    asked = bridge(ledger, trials=1)
    searcher = Proposals(asked)
    searcher.suggest("a")
    assert searcher.suggest("b") is None
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("b") == {"number": 0, "params": {"training.k": 0}}


def test_a_full_disk_stops_the_study_and_not_only_a_trial(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = bridge(ledger)
    asked.suggest("a")
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(ledger, "measured", lambda *arguments: (_ for _ in ()).throw(full))
    assert asked.result(reached(0, 0)) == TrialScheduler.STOP
    assert asked.fault is full
    assert Stopper(asked).stop_all()
    assert asked.suggest("b") == Searcher.FINISHED


def test_a_trial_that_cannot_write_halts_the_study_and_keeps_its_checkpoint(ledger: Ledger) -> None:
    asked = bridge(ledger)
    asked.suggest("a")
    checkpoint = TrialFiles.of(ledger.path.parent, 0).checkpoints / "000001"
    checkpoint.mkdir(parents=True)
    assert asked.result(TrialReport(0, 0, 0, 1, storage_failure="No space left on device")) == TrialScheduler.STOP
    assert str(asked.fault) == "trial 0: No space left on device"
    assert Stopper(asked).stop_all()
    assert checkpoint.is_dir()
    assert ledger.trials[0].state is TrialState.RUNNING


def test_tune_can_pickle_it_whatever_shows_the_progress(ledger: Ledger) -> None:
    asked = bridge(ledger)
    asked.listener = Screen(asked.state, "", Console(file=io.StringIO(), force_terminal=True))
    for each in (Stopper(asked), Proposals(asked), Decisions(asked), Ticks(asked)):
        cloudpickle.dumps(each)


def test_nothing_is_kept_of_a_trial_that_is_over(ledger: Ledger) -> None:
    asked = bridge(ledger)
    decisions, searcher = Decisions(asked), Proposals(asked)
    searcher.suggest("a")
    trial = SimpleNamespace(trial_id="a", placement_group_factory=None)
    decisions.on_trial_result(None, trial, {"place": "somewhere"})
    decisions.on_trial_result(None, trial, {"round": reached(0, 0)})
    assert asked.places == {"a": "somewhere"}
    assert list(asked.state.decisions) == [0]
    decisions.on_trial_result(None, trial, {"round": reached(0, 1)})
    searcher.on_trial_complete("a")
    assert not asked.places
    assert not asked.state.decisions


class NoRoom:
    """Gives workers a place, when there is one: never."""

    def request_resources(self, resource_request: Any) -> None:
        """Noted."""

    def cancel_resource_request(self, resource_request: Any) -> None:
        """Noted."""


def test_tune_forgets_workers_that_it_gave_up_before_they_started(ledger: Ledger) -> None:
    workers = RayActorManager(NoRoom())
    room = tune.PlacementGroupFactory([{"CPU": 1}])
    given_up, starting = (workers.add_actor(object, {}, room) for _ in range(2))
    for worker in (given_up, starting):
        workers.schedule_actor_task(worker, "stop")
    workers.remove_actor(given_up)
    gone, there = weakref.ref(given_up), weakref.ref(starting)
    del given_up, starting, worker
    decisions = Decisions(bridge(ledger))
    decisions.on_trial_add(SimpleNamespace(_actor_manager=workers), None)
    assert gone() is None
    assert len(workers._pending_actors_to_enqueued_actor_tasks[there()]) == 1
    decisions.on_trial_add(SimpleNamespace(), None)  # another version of Tune


class Worker(str):
    """As one of Tune's: weak references to it are allowed."""


class Tune:
    """As much of Tune's controller as gives workers to trials. Workers `placed` have room and are starting."""

    def __init__(self) -> None:
        self.taken, self._started_actors, self.placed = [], set[str](), set[str]()
        self._trial_to_actor = {name: Worker(f"{name}'s worker") for name in ("first", "second", "third")}
        self._actor_manager = SimpleNamespace(is_actor_started=lambda worker: worker in self.placed)

    def _maybe_reuse_cached_actor(self, trial: str) -> bool:
        self.taken.append(trial)
        return True


@pytest.fixture
def waiting() -> tuple[Tune, list[float]]:
    """A controller whose trials wait for their own workers, and its clock."""
    controller, now = Tune(), [100.0]
    view = SimpleNamespace(_maybe_reuse_cached_actor=controller._maybe_reuse_cached_actor)
    let_workers_start(view, lambda: now[0])
    return controller, now


def test_a_trial_waits_for_its_own_worker_but_not_for_ever(waiting: tuple[Tune, list[float]]) -> None:
    controller, now = waiting
    take = controller._maybe_reuse_cached_actor
    assert not take("first")
    assert take("one without a worker of its own")
    controller.placed = {"first's worker"}
    now[0] += START - 1
    assert not take("first")
    now[0] += 1
    assert take("first")  # its machine may be gone
    controller._started_actors = {"second's worker"}
    assert take("second")
    assert controller.taken == ["one without a worker of its own", "first", "second"]
    let_workers_start(SimpleNamespace())  # another version of Tune


def test_where_there_is_no_room_trials_do_not_wait_for_it(waiting: tuple[Tune, list[float]]) -> None:
    controller, now = waiting
    take = controller._maybe_reuse_cached_actor
    assert not take("first")
    now[0] += ROOM
    assert take("first")
    assert take("second")
    now[0] += START
    assert not take("third")  # there may be more machines now


def test_the_time_budget_stops_the_study(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = bridge(ledger, time_budget=60.0)
    asked.tick()
    assert not Stopper(asked).stop_all()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    asked.tick()
    assert asked.state.stopping == TIME_BUDGET
    assert Stopper(asked).stop_all()


def test_the_cost_budget_puts_aside_what_runs(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    meter = Meter(BudgetConfig(cost=0.1, cost_per_worker_hour=6.0), 1, clock=lambda: now[0])
    state = StudyState(Rules(3, 2, 2, LADDER), Constant(), ledger)
    asked = Bridge(
        state, TrialCleanup(ledger.path.parent, ledger.trials), RetryPolicy(lambda: 0), Listener(), None, meter
    )
    asked.suggest("a")
    for now[0] in (0.0, 30.0, 59.0):
        asked.tick()
        assert not Stopper(asked).stop_all()
    now[0] = 61.0
    asked.tick()
    assert asked.state.stopping == COST
    assert Stopper(asked).stop_all()
    assert ledger.trials[0].state is TrialState.RUNNING


def test_trials_that_break_a_bound_are_told_and_take_no_worker(ledger: Ledger) -> None:
    goals = Goals(bounds={"parameters": 3.0})
    size_estimator = {n: {"parameters": 9.0 if n in (0, 1) else 2.0} for n in range(4)}
    state = StudyState(
        Rules(4, 2, 2, LADDER, None, goals),
        Constant(),
        ledger,
        None,
        lambda params: size_estimator[params["training.k"]],
    )
    lines = Lines(state, "here")
    asked = Bridge(state, TrialCleanup(ledger.path.parent, ledger.trials), RetryPolicy(lambda: 0), lines, None)
    assert asked.suggest("a") == {"number": 2, "params": {"training.k": 2}}
    assert (lines.done, state.running, state.refused) == (2, {2}, [])
    assert ledger.trials[1].reason == "constraint: 9 parameters > 3"
    assert asked.suggest("b") == {"number": 3, "params": {"training.k": 3}}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_the_second_insists(number: signal.Signals) -> None:
    asked: list[int] = []
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with cooperative_stop(lambda: asked.append(number)):
            os.kill(os.getpid(), number)
            assert asked == [number]
            assert signal.getsignal(signal.SIGTERM) == before
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with cooperative_stop(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
