"""A snapshot of a search that runs, in plain values, for a page that shows it."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from diagram_ray.evaluation.resampling import Interval
from diagram_ray.monitoring.terminal import Progress
from diagram_ray.reporting.formatting import rough_duration, short
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.messages import Device, TrialReport

Span = Callable[[Trial], Interval]
"""Function from a complete trial to its mean AUC with the 95 % interval."""


@dataclass(frozen=True)
class Row:
    """A trial in the snapshot."""

    number: int
    state: str
    params: str
    folds: tuple[float, ...]
    """AUC of each fold at the last rung."""
    mean: float | None
    rung: int
    """Number of rungs that it has reached."""
    epoch: int
    reason: str
    """Reason why it was dropped; of a trial that runs, why it went on."""
    devices: tuple[Device, ...] = ()
    """Devices that train it now."""
    training_auc: float | None = None
    """Mean AUC over the folds at the last rung, on some of their training images."""


@dataclass(frozen=True)
class StudySnapshot:
    """The state of a study that runs."""

    name: str
    dataset: str
    where: str
    stopping: str
    trials: int
    done: int
    counts: dict[str, int]
    best: dict[str, Any] | None
    """The best complete trial: `number`, `mean`, `sd`, `low`, `high`."""
    fold_epochs: int
    restarts: int
    """Workers that were lost, and whose trials started again."""
    pace: float | None
    """Fold-epochs trained in a minute."""
    seconds_left: float | None
    left: str
    """Guess of the time left, in words; empty before there is one."""
    rungs: tuple[str, ...]
    rows: tuple[Row, ...]
    """The trials, the newest first."""
    time: float
    origin: str = ""
    """Fingerprint of the data, and commit of the code."""
    first_report: float | None = None
    """Seconds until the first round was done."""
    worker_hours: float = 0.0
    """Hours that workers have trained in this run."""
    worker_hours_left: float | None = None
    """A guess of the hours that workers have yet to train."""
    price: float | None = None
    """Price of a worker-hour."""

    @property
    def cost(self) -> float | None:
        """Cost of the worker-hours; None where the price is not known."""
        return None if self.price is None else self.price * self.worker_hours

    @property
    def cost_left(self) -> float | None:
        """A guess of the cost to come, or None."""
        return None if self.price is None or self.worker_hours_left is None else self.price * self.worker_hours_left

    @property
    def devices(self) -> dict[str, int]:
        """Device -> processes that train on it now; a trial may have several."""
        return dict(sorted(Counter(str(device) for row in self.rows for device in row.devices).items()))

    def plain(self) -> dict[str, Any]:
        """The snapshot as plain values, for JSON."""
        return asdict(self) | {"cost": self.cost, "cost_left": self.cost_left, "devices": self.devices}


def take_snapshot(
    progress: Progress, name: str, dataset: str, span: Span, origin: str = "", price: float | None = None
) -> StudySnapshot:
    """The snapshot of `progress` now. May be called from another thread than the search's."""
    state, best = progress.state, progress.best
    trials, rounds, left = dict(state.trials), dict(progress.rounds), progress.seconds_left()
    work_left, decisions = progress.work_left(), dict(state.decisions)
    rows = tuple(
        _row(trial, rounds.get(number), decisions.get(number, ""))
        for number, trial in sorted(trials.items(), reverse=True)
    )
    return StudySnapshot(
        name=name,
        dataset=dataset,
        where=progress.where,
        stopping=state.stopping,
        trials=state.rules.trials,
        done=progress.done,
        counts={kind.value.lower(): count for kind, count in sorted(dict(progress.counts).items())},
        best=_best(best, span) if best else None,
        fold_epochs=progress.trained,
        restarts=progress.restarts,
        pace=progress.pace,
        seconds_left=left,
        left=f"about {rough_duration(left)}" if left is not None and progress.done < state.rules.trials else "",
        rungs=tuple(map(str, state.rules.ladder.rungs)),
        rows=rows,
        time=time.time(),
        origin=origin,
        first_report=progress.first_report,
        worker_hours=progress.worked / 3600,
        worker_hours_left=None if work_left is None else work_left / 3600,
        price=price,
    )


def _row(trial: Trial, report: TrialReport | None, decision: str) -> Row:
    last = trial.last
    reason = decision if trial.state is TrialState.RUNNING else trial.reason
    return Row(
        number=trial.number,
        state=trial.state.value.lower(),
        params=", ".join(f"{key.rpartition('.')[2]} {short(value)}" for key, value in trial.params.items()),
        folds=last.fold_auc if last else (),
        mean=last.auc_mean if last else None,
        rung=len(trial.measurements),
        epoch=report.epoch if report else last.epochs if last else 0,
        reason=reason,
        devices=report.devices if report else (),
        training_auc=last.training_auc if last else None,
    )


def _best(trial: Trial, span: Span) -> dict[str, Any]:
    interval, sd = span(trial), trial.last.auc_sd if trial.last else 0.0
    return {"number": trial.number, "mean": interval.value, "sd": sd, "low": interval.low, "high": interval.high}
