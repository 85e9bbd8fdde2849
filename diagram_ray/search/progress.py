"""What a search shows while it runs: a live table in a terminal, plain lines elsewhere."""

import logging
import time
from collections import Counter
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.files import best_of, better
from diagram_ray.search.study_state import Round, StudyState

log = logging.getLogger("diagram_ray")

HEARTBEAT = 30.0
REFRESH = 0.25


class Listener:
    """Is told what happens, to show it. All calls come from the thread that runs the search."""

    def started(self, trial: Trial) -> None:
        """A trial was given to a worker."""

    def advanced(self, round_: Round) -> None:
        """A trial finished a round."""

    def ended(self, trial: Trial) -> None:
        """A trial ended."""

    def tick(self) -> None:
        """Called some ten times a second."""


class Progress(Listener):
    """Counts what there is to show, and guesses the time that is left from the fold-epochs."""

    def __init__(self, state: StudyState, where: str) -> None:
        self.state = state
        self.where = where
        """Devices in use, in words."""
        self.best = best_of(state.trials)
        self.counts: Counter[TrialState] = Counter(
            trial.state for trial in state.trials.values() if trial.state is not TrialState.RUNNING
        )
        self.rounds: dict[int, Round] = {}
        """Latest round of each trial that runs."""
        self._began: float | None = None  # when the first round was done: the workers' start does not count
        self._trained = 0  # fold-epochs trained since then
        self._costs: list[int] = []  # fold-epochs of each trial that ended since then

    def started(self, trial: Trial) -> None:
        """Notes what the trial brings along from an earlier run."""
        last = trial.last
        done = last.folds * last.epochs if last else 0
        self.rounds[trial.number] = Round(trial.number, last.folds if last else 0, last.epochs if last else 0, done)

    def advanced(self, round_: Round) -> None:
        """Notes how far the trial is."""
        if self._began is None:
            self._began = time.monotonic()
        else:
            self._trained += max(0, round_.fold_epochs - self.rounds[round_.number].fold_epochs)
        self.rounds[round_.number] = round_

    def ended(self, trial: Trial) -> None:
        """Counts the trial."""
        self._costs.append(self.rounds.pop(trial.number).fold_epochs)
        self.counts[trial.state] += 1
        if trial.state is TrialState.COMPLETE and better(trial, self.best):
            self.best = trial

    def announce(self, text: str) -> None:
        """Something else begins."""
        self.where = text

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return sum(self.counts.values())

    def seconds_left(self) -> float | None:
        """A guess; None before there is anything to guess from."""
        if self._began is None or self._trained == 0:
            return None
        rules = self.state.rules
        expected = rules.ladder.expected(rules.trials, unpruned=rules.lookback) / rules.trials
        each = sum(self._costs) / len(self._costs) if len(self._costs) >= rules.lookback else expected
        left = each * (rules.trials - self.done) - sum(round_.fold_epochs for round_ in self.rounds.values())
        return max(0.0, left) * (time.monotonic() - self._began) / self._trained

    def summary(self) -> str:
        """One line."""
        left = self.seconds_left()
        parts = [
            f"{self.done} of {self.state.rules.trials} trials",
            ", ".join(f"{count} {state.value.lower()}" for state, count in sorted(self.counts.items())),
            f"best {_score(self.best)} (trial {self.best.number})" if self.best else "",
            f"about {_duration(left)} left" if left is not None and self.done < self.state.rules.trials else "",
        ]
        return " · ".join(part for part in parts if part)


class Lines(Progress):
    """A line for each trial that ends, and a sign of life in between."""

    def __init__(self, state: StudyState, where: str) -> None:
        super().__init__(state, where)
        self._said = time.monotonic()
        log.info("%s; %s", where, self.summary())

    def ended(self, trial: Trial) -> None:
        """Says so."""
        super().ended(trial)
        last = trial.last
        measured = f": {_score(trial)} after {last.folds} folds x {last.epochs} epochs" if last else ""
        reason = f" ({trial.reason})" if trial.state is TrialState.FAIL else ""
        self._say(f"trial {trial.number} {trial.state.value}{measured}{reason} · {self.summary()}")

    def tick(self) -> None:
        """Says something if it has been quiet for long."""
        if time.monotonic() - self._said > HEARTBEAT:
            running = ", ".join(f"trial {n} at epoch {r.epoch}" for n, r in sorted(self.rounds.items()))
            self._say(f"{running or self.where} · {self.summary()}")

    def announce(self, text: str) -> None:
        """Says so."""
        super().announce(text)
        self._say(text)

    def _say(self, text: str) -> None:
        self._said = time.monotonic()
        log.info("%s", text)


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
        table = Table("trial", "rung", "epoch", "AUC now", "parameters", box=None, header_style="dim")
        ladder = self.state.rules.ladder
        for number, round_ in sorted(self.rounds.items()):
            trial = self.state.trials[number]
            epochs = ladder.rungs[min(len(trial.measurements), ladder.top)].epochs
            table.add_row(
                str(number),
                f"{len(trial.measurements) + 1} of {len(ladder.rungs)}",
                f"{round_.epoch} of {epochs}",
                "" if round_.auc is None else f"{round_.auc:.3f}",
                ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in trial.params.items()),
            )
        return table


def _score(trial: Trial) -> str:
    last = trial.last
    return f"AUC {last.auc_mean:.3f} ± {last.auc_sd:.3f}" if last else "none"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
