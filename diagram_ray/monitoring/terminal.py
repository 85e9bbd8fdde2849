"""Display of a search that runs: a live table in a terminal, plain lines elsewhere."""

import logging
import time
from collections import Counter
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diagram_ray.logs import EVENT, event
from diagram_ray.reporting.formatting import rough_duration, short
from diagram_ray.results import Trial, TrialState, best_of, better
from diagram_ray.search.messages import TrialReport
from diagram_ray.search.scheduler import StudyState

log = logging.getLogger("diagram_ray")

HEARTBEAT = 30.0
REFRESH = 0.25


class Listener:
    """A listener to a search, which shows what happens. All calls come from the thread that runs the search."""

    def started(self, trial: Trial) -> None:
        """Called when a trial was given to a worker."""

    def advanced(self, report: TrialReport) -> None:
        """Called when a trial finished a round."""

    def lost(self, trial: Trial) -> None:
        """Called when a trial lost its worker; it starts again where it was saved."""

    def ended(self, trial: Trial) -> None:
        """Called when a trial ended."""

    def tick(self) -> None:
        """Called some ten times a second."""


class Progress(Listener):
    """Counts what there is to show, and guesses the time that is left from the fold-epochs."""

    def __init__(self, state: StudyState, where: str) -> None:
        self.state = state
        self.where = where
        """Devices that the search uses, as text."""
        self.best = best_of(state.trials)
        self.counts: Counter[TrialState] = Counter(
            trial.state for trial in state.trials.values() if trial.state is not TrialState.RUNNING
        )
        self.rounds: dict[int, TrialReport] = {}
        """Latest round of each trial that runs, by number."""
        self.restarts = 0
        """Number of workers that were lost, and whose trials started again."""
        self.first_report: float | None = None
        """Seconds until the first round was done."""
        self.worked = 0.0
        """Seconds that workers have trained in this run, summed over all that worked side by side."""
        self._opened = time.monotonic()
        self._began: float | None = None  # when the first round was done: the workers' start does not count
        self._worked_before = 0.0
        self._trained = 0  # fold-epochs trained since then
        self._costs: list[int] = []  # fold-epochs of each trial that ended since then

    def started(self, trial: Trial) -> None:
        """Notes what the trial brings along from an earlier run."""
        last = trial.last
        done = last.folds * last.epochs if last else 0
        self.rounds[trial.number] = TrialReport(
            trial.number, last.folds if last else 0, last.epochs if last else 0, done
        )

    def advanced(self, report: TrialReport) -> None:
        """Notes how far the trial is."""
        self.worked += report.seconds * max(1, len(report.devices))
        if self._began is None:
            self._began = time.monotonic()
            self.first_report, self._worked_before = self._began - self._opened, self.worked
        else:
            self._trained += max(0, report.fold_epochs - self.rounds[report.number].fold_epochs)
        self.rounds[report.number] = report

    def ended(self, trial: Trial) -> None:
        """Counts the trial that has ended."""
        report = self.rounds.pop(trial.number, None)  # none: it broke a bound, and has not started
        self._costs.append(report.fold_epochs if report is not None else 0)
        self.counts[trial.state] += 1
        if trial.state is TrialState.COMPLETE and better(trial, self.best):
            self.best = trial

    def lost(self, trial: Trial) -> None:
        """Counts the loss; the trial waits for another worker."""
        self.restarts += 1
        self.rounds.pop(trial.number)

    def announce(self, text: str) -> None:
        """Notes that something else begins, which `text` names."""
        self.where = text

    @property
    def done(self) -> int:
        """Number of trials that have ended."""
        return sum(self.counts.values())

    @property
    def trained(self) -> int:
        """Fold-epochs that have been trained in this run, without those before the first round was done."""
        return self._trained

    @property
    def pace(self) -> float | None:
        """Fold-epochs a minute; None before any were trained."""
        if self._began is None or not self._trained:
            return None
        return 60.0 * self._trained / (time.monotonic() - self._began)

    def seconds_left(self) -> float | None:
        """A guess of the seconds that the search still takes; None before there is anything to guess from."""
        if self._began is None or self._trained == 0:
            return None
        return self._left() * (time.monotonic() - self._began) / self._trained

    def work_left(self) -> float | None:
        """A guess of the seconds that workers have yet to train, as `worked` counts them; None as above."""
        return self._left() * (self.worked - self._worked_before) / self._trained if self._trained else None

    def _left(self) -> float:
        """A guess of the fold-epochs that are left."""
        rules, costs = self.state.rules, tuple(self._costs)
        expected = rules.ladder.expected(rules.trials, unpruned=rules.lookback) / rules.trials
        per_trial = sum(costs) / len(costs) if len(costs) >= rules.lookback else expected
        under_way = sum(report.fold_epochs for report in tuple(self.rounds.values()))
        return max(0.0, per_trial * (rules.trials - self.done) - under_way)

    def summary(self) -> str:
        """The progress in one line."""
        left = self.seconds_left()
        parts = [
            f"{self.done} of {self.state.rules.trials} trials",
            ", ".join(f"{count} {state.value.lower()}" for state, count in sorted(self.counts.items())),
            f"best {_score(self.best)} (trial {self.best.number})" if self.best else "",
            f"about {rough_duration(left)} left" if left is not None and self.done < self.state.rules.trials else "",
        ]
        return " · ".join(part for part in parts if part)


class Lines(Progress):
    """A log line for each trial that ends, and a sign of life in between. All else are events for `--log-json`."""

    def __init__(self, state: StudyState, where: str, study: str = "") -> None:
        super().__init__(state, where)
        self._study = study
        self._last_line = time.monotonic()
        log.info("%s; %s", where, self.summary(), extra=event("begin", study=study))

    def started(self, trial: Trial) -> None:
        """Logs the start as an event."""
        super().started(trial)
        text = f"trial {trial.number} starts"
        log.log(EVENT, text, extra=event("start", study=self._study, trial=trial.number, params=trial.params))

    def advanced(self, report: TrialReport) -> None:
        """Logs the round as an event."""
        super().advanced(report)
        fields: dict[str, Any] = {"trial": report.number, "folds": report.folds, "epoch": report.epoch}
        fields |= {
            "auc": report.auc,
            "training_auc": report.training_auc,
            "fold_epochs": report.fold_epochs,
            "rung": report.rung,
        }
        if report.measurement is not None:
            fields["fold_auc"] = list(report.measurement.fold_auc)
        text = f"trial {report.number}: epoch {report.epoch} of {report.folds} folds"
        log.log(EVENT, text, extra=event("round", study=self._study, **fields))

    def ended(self, trial: Trial) -> None:
        """Logs the end of the trial."""
        super().ended(trial)
        last = trial.last
        fitted = f" (training {last.training_auc:.3f})" if last and last.training_auc is not None else ""
        measured = f": {_score(trial)}{fitted} after {last.folds} folds x {last.epochs} epochs" if last else ""
        reason = f" ({trial.reason})" if trial.state is TrialState.FAIL or not last else ""
        fields: dict[str, Any] = {"trial": trial.number, "state": trial.state.value, "reason": trial.reason}
        if last:
            fields |= {"auc": last.auc_mean, "auc_sd": last.auc_sd, "training_auc": last.training_auc}
            fields |= {"folds": last.folds, "epoch": last.epochs}
        self._say(f"trial {trial.number} {trial.state.value}{measured}{reason} · {self.summary()}", "ended", **fields)

    def lost(self, trial: Trial) -> None:
        """Logs the loss of the worker."""
        super().lost(trial)
        text = f"trial {trial.number} lost its worker; another one takes it where it was last saved"
        self._say(text, "lost", trial=trial.number)

    def tick(self) -> None:
        """Logs what runs if it has been quiet for long."""
        if time.monotonic() - self._last_line > HEARTBEAT:
            running = ", ".join(f"trial {n} at epoch {r.epoch}" for n, r in sorted(self.rounds.items()))
            self._say(f"{running or self.where} · {self.summary()}", "alive")

    def announce(self, text: str) -> None:
        """Logs that something else begins, which `text` names."""
        super().announce(text)
        self._say(text, "announce")

    def _say(self, text: str, name: str, **fields: Any) -> None:
        self._last_line = time.monotonic()
        log.info("%s", text, extra=event(name, study=self._study, **fields))


class Screen(Progress):
    """A table that is kept up to date in a terminal."""

    def __init__(self, state: StudyState, where: str, console: Console) -> None:
        super().__init__(state, where)
        self._shown = 0.0
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> "Screen":
        self._live.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._live.update(self.render(), refresh=True)
        self._live.stop()

    def tick(self) -> None:
        """Draws anew, a few times a second."""
        if time.monotonic() - self._shown > REFRESH:
            self._shown = time.monotonic()
            self._live.update(self.render(), refresh=True)

    def render(self) -> RenderableType:
        """Bar, summary and one row for each running trial."""
        bar = ProgressBar(total=self.state.rules.trials, completed=self.done, width=40)
        note = f"stopping: {self.state.stopping}" if self.state.stopping else self.where
        shown: list[RenderableType] = [bar, Text(self.summary()), Text(note, style="dim")]
        return Group(*shown, self._running()) if self.rounds else Group(*shown)

    def _running(self) -> Table:
        table = Table("trial", "rung", "epoch", "AUC now", "training AUC", "parameters", box=None, header_style="dim")
        ladder = self.state.rules.ladder
        for number, report in sorted(self.rounds.items()):
            trial = self.state.trials[number]
            epochs = ladder.rungs[min(len(trial.measurements), ladder.top)].epochs
            table.add_row(
                str(number),
                f"{len(trial.measurements) + 1} of {len(ladder.rungs)}",
                f"{report.epoch} of {epochs}",
                "" if report.auc is None else f"{report.auc:.3f}",
                "" if report.training_auc is None else f"{report.training_auc:.3f}",
                ", ".join(f"{key.rpartition('.')[2]}={short(value)}" for key, value in trial.params.items()),
            )
        return table


def _score(trial: Trial) -> str:
    last = trial.last
    return f"AUC {last.auc_mean:.3f} ± {last.auc_sd:.3f}" if last else "none"
