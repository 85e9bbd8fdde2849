"""Forecasts from a recording: how long a search would take on a cluster, and what it would cost."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diagram_ray.config import build
from diagram_ray.errors import UsageError
from diagram_ray.replay.alternatives import changed
from diagram_ray.replay.recording import Recording, read_recording, recording_of
from diagram_ray.replay.replay import RecordedOrder, recorded_figures
from diagram_ray.replay.simulated_cluster import ClusterConfig, Forecast, Simulation
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.ladder import Ladder, usual_lookback
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.racing import Race, RaceConfig, make_race
from diagram_ray.storage.paths import Place, on_disk
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import DOCUMENT, read_plan
from diagram_ray.yaml_text import parse_assignment, read_yaml


@dataclass(frozen=True)
class Scenario:
    """A recording, and the way in which it is to be searched."""

    recording: Recording
    ladder: Ladder
    race: Race | None
    seconds: float | None
    """Seconds of an epoch of one fold, as it was trained; None: unknown."""


@dataclass(frozen=True)
class Line:
    """The forecast for one lookback."""

    lookback: int
    forecast: Forecast
    lost: float
    """AUC by which the winner falls short of the best configuration of all that were tried."""

    def row(self) -> dict[str, Any]:
        """The line as plain values."""
        hours, use = self.forecast.hours, self.forecast.use
        return {"lookback": self.lookback, "auc_lost": self.lost, "hours": hours, "use": use} | asdict(self.forecast)


def read_cluster(text: str) -> ClusterConfig:
    """Reads the cluster from a text such as `workers=1000,startup=120`. Raises ConfigError."""
    return build(ClusterConfig, dict(parse_assignment(part) for part in text.split(",")), "--simulate")


def read_scenario(source: Place, assignments: Sequence[str]) -> Scenario:
    """Reads the complete trials of the study in a folder, or a file of benchmarks/record.py; `assignments` change the
    ladder and the race. Raises UsageError, ConfigError and DataError."""
    if source.is_file():
        ladders, race = changed({}, assignments)
        with on_disk(source) as path:
            recording = read_recording(path, _resamples(race))
        return Scenario(recording, ladders.make(recording.folds, recording.top.epochs), make_race(race), None)
    plan, raw = read_plan(source), read_yaml(source / DOCUMENT)["study"]
    ladders, race = changed(raw, assignments)
    ladder = ladders.make(plan.study.folds, plan.base.training.epochs)
    return Scenario(recording_of(source, _resamples(race)), ladder, make_race(race), _pace(read_ledger(source)))


def _resamples(race: RaceConfig) -> int:
    return 1 if race.rule == "none" else race.resamples  # nobody looks at them


def forecasts(scenario: Scenario, cluster: ClusterConfig) -> Iterator[Line]:
    """Yields a line for each lookback: the cluster's own; or half, once, twice, four times its workers, and the
    default.

    The configurations come in a random order. Where more trials are wanted than were recorded, the others are drawn
    from them again. Raises UsageError if the seconds are unknown, or for a ladder that was not recorded.
    """
    seconds = cluster.seconds or scenario.seconds
    if seconds is None:
        raise UsageError("--simulate: how long an epoch of one fold takes was not recorded; give seconds=...")
    order, workers = _order(scenario.recording.configurations, cluster), cluster.workers
    usual = sorted([max(1, workers // 2), workers, 2 * workers, 4 * workers, usual_lookback(workers, len(order))])
    for lookback in dict.fromkeys(
        min(candidate, len(order)) for candidate in ([cluster.lookback] if cluster.lookback else usual)
    ):
        rules = Rules(len(order), workers, lookback, scenario.ladder, scenario.race)
        scored, journal = recorded_figures(scenario.recording, scenario.ladder, order), Memory()
        forecast = Simulation(rules, RecordedOrder(scenario.recording, order), journal, scored, cluster, seconds).run()
        yield Line(lookback, forecast, _lost(journal.trials, scenario.recording, order))


def _order(recorded: int, cluster: ClusterConfig) -> list[int]:
    random = np.random.default_rng([cluster.seed, 0])
    count = cluster.trials or recorded
    again = random.integers(0, recorded, max(0, count - recorded))
    return [int(number) for number in np.concatenate([random.permutation(recorded), again])[:count]]


def _lost(trials: Mapping[int, Trial], recording: Recording, order: Sequence[int]) -> float:
    final = recording.final[np.asarray(order)]
    complete = [number for number, trial in trials.items() if trial.state is TrialState.COMPLETE]
    return float(final.max() - final[complete].max())


def _pace(trials: Mapping[int, Trial]) -> float | None:
    """Seconds of an epoch of one fold."""
    measured = [trial.last for trial in trials.values() if trial.last]
    spent, trained = sum(m.seconds for m in measured), sum(m.folds * m.epochs for m in measured)
    return spent / trained if trained and spent > 0 else None
