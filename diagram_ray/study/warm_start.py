"""Warm start: the sampler learns from the trials of earlier studies before the first trial of the new one.

That is what their trials scored, and which of them break a bound of the new study. Those need no score; without them
the sampler would find the bound only by running into it again.

The trials are copied into the new study's folder, `warm_start.json`, so that a study that is resumed proposes the same
whatever has become of the earlier ones. They are never trials of the new study.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diagram_ray.errors import ConfigError, DataError, UsageError, one_line
from diagram_ray.results import Measurement, Study, Trial, TrialState
from diagram_ray.search.conditions import exists, ordered
from diagram_ray.search.constraints import Goals, SizeEstimator
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.space import FloatRange, Space
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place, place_at
from diagram_ray.study.ledger import read_ledger

FILE = "warm_start.json"
OTHER_KEYS, OUTSIDE, NO_SCORE, OTHER_RUNGS = "other keys", "outside the space", "no score", "no rung in common"


@dataclass(frozen=True)
class Source:
    """The use that was made of the trials of one earlier study."""

    study: str
    dataset: str
    """Fingerprint of its dataset."""
    told: int
    left_out: dict[str, int]
    """Reason -> number of trials left out for it."""

    def __str__(self) -> str:
        others = "".join(f", {count} left out: {why}" for why, count in self.left_out.items())
        return f"{self.study}: {self.told} trials{others}"


@dataclass(frozen=True)
class Mapper:
    """A mapping of earlier trials into the space, the ladder and the aims of the new study."""

    space: Space
    ladder: Ladder
    goals: Goals
    size_estimator: SizeEstimator | None

    def map(self, trial: Trial) -> Trial | str:
        """The trial as the sampler is to learn of it, or why it says nothing.

        It says something if it has exactly the parameters that exist here with its values, each within its range. Of
        what it scored that counts which was measured at the rungs of this study, without a gap. One that breaks a bound
        of this study says so much without a score: it is what teaches the sampler where the bound lies.
        """
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return NO_SCORE
        params = self._params(trial)
        if isinstance(params, str):
            return params
        try:
            sizes = self.size_estimator(params) if self.size_estimator is not None else {}
        except ConfigError:
            return OUTSIDE
        measured = _at(self.ladder, trial)
        if not measured and not self.goals.broken(sizes):
            return OTHER_RUNGS if trial.measurements else NO_SCORE
        state = TrialState.COMPLETE if len(measured) == len(self.ladder.rungs) else TrialState.PRUNED
        return Trial(trial.number, params, state, trial.reason, measured, sizes)

    def _params(self, trial: Trial) -> dict[str, Any] | str:
        """The trial's parameters, if they are a configuration of this study; or why they are none."""
        params: dict[str, Any] = {}
        for key, values in ordered(self.space).items():
            if exists(values, params):
                if key not in trial.params:
                    return OTHER_KEYS
                value = trial.params[key]
                if not values.holds(value):
                    return OUTSIDE
                params[key] = float(value) if isinstance(values, FloatRange) else value
        return params if params.keys() == trial.params.keys() else OTHER_KEYS


def gather(studies: Sequence[str], mapper: Mapper) -> tuple[list[Trial], list[Source]]:
    """The trials of earlier studies that say something about the new one, in order, and what was left out.

    Raises DataError if a folder holds no study, or one that is damaged.
    """
    gathered: list[Trial] = []
    sources = []
    for name in studies:
        trials, fingerprint = _read(name)
        mapped = [mapper.map(trial) for _, trial in sorted(trials.items())]
        useful = [result for result in mapped if isinstance(result, Trial)]
        left_out = Counter(result for result in mapped if isinstance(result, str))
        sources.append(Source(name, fingerprint, len(useful), dict(sorted(left_out.items()))))
        gathered += useful
    return gathered, sources


def write_warm_start(folder: Place, trials: Sequence[Trial], sources: Sequence[Source]) -> None:
    """Writes the trials and their sources into a new study's folder."""
    rows = [asdict(trial) for trial in trials]
    write_atomic(folder / FILE, json.dumps({"sources": [asdict(source) for source in sources], "trials": rows}))


def read_warm_start(folder: Place) -> list[Trial]:
    """Reads the trials that `write_warm_start` wrote. Raises DataError if the file is missing or damaged."""
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))["trials"]
        return [_trial(row) for row in rows]
    except (OSError, AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(
            f"{folder / FILE}: cannot be read, and without it the study cannot go on as it began: {one_line(error)}"
        ) from None


def check_studies(studies: Sequence[str], where: str) -> None:
    """Raises UsageError if one of these folders holds no study."""
    for name in studies:
        if not (place_at(name) / "study.yaml").is_file():
            raise UsageError(f"{where}: warm_start: {name}: not a study: it has no study.yaml")


def _read(name: str) -> tuple[dict[int, Trial], str]:
    document = Study.load(name).document
    dataset = document.get("dataset")
    fingerprint = dataset.get("fingerprint") if isinstance(dataset, dict) else None
    return read_ledger(place_at(name)), str(fingerprint)


def _at(ladder: Ladder, trial: Trial) -> tuple[Measurement, ...]:
    """The measurements at the first rungs of the ladder, as far as there are some."""
    by_rung = {(measured.folds, measured.epochs): measured for measured in trial.measurements}
    measurements = []
    for rung in ladder.rungs:
        if (rung.folds, rung.epochs) not in by_rung:
            break
        measurements.append(by_rung[rung.folds, rung.epochs])
    return tuple(measurements)


def _trial(row: Mapping[str, Any]) -> Trial:
    measured = tuple(
        Measurement(**{**entry, "fold_auc": tuple(entry["fold_auc"]), "fold_accuracy": tuple(entry["fold_accuracy"])})
        for entry in row["measurements"]
    )
    state, sizes = TrialState(row["state"]), dict(row["sizes"])
    return Trial(int(row["number"]), dict(row["params"]), state, str(row["reason"]), measured, sizes)
