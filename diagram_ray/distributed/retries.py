"""Workers that were lost: which trial starts again, and what has to be trained once more."""

from collections.abc import Callable
from dataclasses import dataclass

from diagram_ray.search.messages import TrialReport

RETRIES = 2
"""Times that a trial whose worker died is given a new one without having got any farther."""


@dataclass
class _Trial:
    gone: int  # machines that had gone when it started
    reached: int = 0  # fold-epochs, at most
    deaths: int = 0  # since it got farther than ever before
    lost: bool = False  # and has not been heard of since
    left: bool = False  # its worker said so before


class RetryPolicy:
    """A count of lost workers. `gone` returns how many machines have left the cluster so far.

    A trial may be what kills its workers, so it does not start again for ever. But a machine that goes is not its
    fault: each that went since the trial first started excuses one death.
    """

    def __init__(self, gone: Callable[[], int]) -> None:
        self.workers = 0
        """Number of workers that were lost, and whose trials started again."""
        self.fold_epochs = 0
        """Number of fold-epochs that had to be trained once more."""
        self._gone = gone
        self._trials: dict[int, _Trial] = {}

    def started(self, number: int) -> None:
        """Notes that trial `number` was given to a worker."""
        if number not in self._trials:
            self._trials[number] = _Trial(self._gone())

    def advanced(self, report: TrialReport) -> None:
        """Notes a worker's report."""
        trial = self._trials[report.number]
        if trial.lost:
            self.fold_epochs += max(0, trial.reached - report.begun_at)
        trial.lost, trial.left = False, report.draining
        if report.fold_epochs > trial.reached:
            trial.reached, trial.deaths = report.fold_epochs, 0

    def died(self, number: int) -> bool:
        """Notes that trial `number` lost its worker. Returns whether it may start again."""
        trial = self._trials[number]
        trial.deaths += not trial.left
        trial.lost = trial.deaths - (self._gone() - trial.gone) <= RETRIES
        self.workers += trial.lost
        return trial.lost

    def ended(self, number: int) -> None:
        """Forgets trial `number`, which needs no worker any more."""
        self._trials.pop(number, None)
