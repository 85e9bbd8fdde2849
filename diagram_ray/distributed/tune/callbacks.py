"""The bridge between Ray Tune's callbacks and the StudyState. Nothing is decided here."""

import time
from collections.abc import Callable
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.util import remove_placement_group

from diagram_ray.distributed.retries import RETRIES, RetryPolicy
from diagram_ray.distributed.tune.internals import forget, keep_idle_workers, let_workers_start
from diagram_ray.errors import CheckpointError
from diagram_ray.monitoring.terminal import Listener
from diagram_ray.search.budget import Meter
from diagram_ray.search.messages import TrialReport
from diagram_ray.search.scheduler import StudyState
from diagram_ray.study.trial_files import TrialCleanup

TIME_BUDGET = "time budget"


class Bridge:
    """Carries Tune's calls to the StudyState. A fault in here stops the search instead of vanishing in Tune's log."""

    def __init__(
        self,
        state: StudyState,
        keeper: TrialCleanup,
        losses: RetryPolicy,
        listener: Listener,
        time_budget: float | None,
        meter: Meter | None = None,
    ) -> None:
        self.state = state
        self.listener = listener
        self.fault: BaseException | None = None
        self.places: dict[str, Any] = {}
        """Trial -> the placement group of its workers, where it has any beside Tune's."""
        self._keeper = keeper
        self._losses = losses
        self._meter = meter
        self._numbers: dict[str, int] = {}
        self._deadline = time.monotonic() + time_budget if time_budget is not None else None

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its arguments into a snapshot of its own, which is never read."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next trial's `config`, None if none may start yet, Searcher.FINISHED if none ever will."""
        trial = self._guard(self.state.next_start)
        while self.state.refused:
            self._ended(self.state.refused.pop(0))
        if trial is None:  # one that runs may have to start again
            done = self.state.stopping or not (self.state.more or self.state.running)
            return str(Searcher.FINISHED) if done else None
        self._numbers[trial_id] = trial.number
        self._losses.started(trial.number)
        self.listener.started(trial)
        return {"number": trial.number, "params": trial.params}

    def result(self, report: TrialReport) -> str:
        """Returns whether the trial goes on, as Tune's CONTINUE or STOP."""
        return str(self._guard(lambda: self._result(report)) or TrialScheduler.STOP)

    def died(self, trial_id: str) -> None:
        """Handles the death of a worker: another one takes the trial, unless this has happened once too often."""
        number = self._numbers.pop(trial_id, None)
        if number is None or number not in self.state.running:
            return
        if self._losses.died(number):
            self.state.again(number)
            self.listener.lost(self.state.trials[number])
        else:
            self._guard(lambda: self.state.failed(number, f"its worker process died {RETRIES + 1} times"))
            self._ended(number)

    def over(self, trial_id: str) -> None:
        """Forgets the trial, with which Tune is done."""
        self._numbers.pop(trial_id, None)
        self.places.pop(trial_id, None)

    def tick(self) -> None:
        """Stops the search when its time or money is spent."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.state.stop(TIME_BUDGET)
        if self._meter is not None and (spent := self._meter.tick(len(self.state.running))):
            self.state.stop(spent)
        self.listener.tick()

    def _result(self, report: TrialReport) -> str:
        self._losses.advanced(report)
        self.listener.advanced(report)
        if self._goes_on(report):
            return str(TrialScheduler.CONTINUE)
        self._ended(report.number)
        return str(TrialScheduler.STOP)

    def _goes_on(self, report: TrialReport) -> bool:
        if report.storage_failure:
            raise CheckpointError(f"trial {report.number}: {report.storage_failure}")
        if report.failed:
            self.state.failed(report.number, report.failed)
            return False
        if report.rung is None or report.measurement is None:
            return True
        return self.state.measured(report.number, report.rung, report.measurement)

    def _ended(self, number: int) -> None:
        self._losses.ended(number)
        self._keeper.ended(self.state.trials[number])
        self.listener.ended(self.state.trials[number])

    def _guard(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            self.fault = self.fault or error
            self.state.stop(str(error))
            return None


class Proposals(Searcher):
    """The searcher by which Tune asks for trials."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> Any:
        """Returns a trial's `config`."""
        return self._bridge.suggest(trial_id)

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Notes that Tune is done with a trial; called with `error` when a worker died."""
        if error:
            self._bridge.died(trial_id)
        else:
            self._bridge.over(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Saves nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Restores nothing: the ledger has it."""


class Decisions(FIFOScheduler):
    """The scheduler by which Tune asks whether a trial goes on."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._bridge = bridge
        self._kept = False
        self._first = True
        self._ended: list[Any] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Called before Tune starts anything for the trial."""
        if self._first:
            self._first = False
            let_workers_start(tune_controller)
        forget(tune_controller, [ended for ended in self._ended if ended.is_finished()])
        self._ended = [ended for ended in self._ended if not ended.is_finished()]

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Notes that the trial's process died."""
        self._ended.append(trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns CONTINUE or STOP."""
        if "place" in result:
            self._bridge.places[trial.trial_id] = result["place"]
            return str(TrialScheduler.CONTINUE)
        return self._bridge.result(result["round"])

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Called before Tune decides whether to keep the trial's worker.

        When the last trials have workers, idle ones give their machines back.
        """
        self._ended.append(trial)
        state = self._bridge.state
        keep = state.more or len(state.running) >= state.rules.parallel  # then one of those has no worker yet
        if self._kept != keep:
            self._kept = keep
            keep_idle_workers(tune_controller, trial.placement_group_factory, state.rules.parallel, keep)


class Stopper(tune.Stopper):
    """Ends the run when the study is to stop."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Returns False: the run never stops for one trial alone."""
        return False

    def stop_all(self) -> bool:
        """Whether the search is to end now."""
        return bool(self._bridge.state.stopping)


class Ticks(TrialProgressCallback):
    """A clock for the display and the time budget; and what is left of trials whose process died is cleared away.

    It stands in the place of Tune's own display, which Tune would add otherwise: that prints nothing here, but keeps
    every trial for ever, more than 20 KiB each.
    """

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def on_trial_result(self, *args: Any, **info: Any) -> None:
        """Does nothing: `Decisions` has the result."""

    def on_trial_complete(self, *args: Any, **info: Any) -> None:
        """Does nothing: `Decisions` has the end."""

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Looks at the clock after each turn of Tune's loop."""
        self._bridge.tick()

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Removes the placement group of a trial whose process died: Ray would keep it until the study ends."""
        place = self._bridge.places.pop(trial.trial_id, None)
        if place is not None:
            remove_placement_group(place)
