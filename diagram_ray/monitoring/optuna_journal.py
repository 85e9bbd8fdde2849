"""The study as an Optuna journal, for those who know Optuna: `optuna-dashboard STUDY/optuna.journal`.

It is made from the ledger when a study ends or is interrupted; nothing is ever read from it.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.constraints import Goals
from diagram_ray.search.space import Space
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place

FILE = "optuna.journal"
STATES = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAIL: OptunaState.FAIL,
}


def write_optuna_file(
    folder: Place, name: str, space: Space, trials: Mapping[int, Trial], goals: Goals | None = None
) -> None:
    """Writes the trials that have ended into STUDY/optuna.journal, by their numbers, in place of the old one.

    The intermediate values are the mean AUC at each rung, by epoch. A pruned trial has no value: Optuna's own rule is
    to give it its last intermediate one. A study of several objectives has no intermediate values in Optuna.
    """
    goals = goals or Goals()
    distributions = {key: values.distribution() for key, values in space.items()}
    with _replacing(folder / FILE) as draft:
        storage = JournalStorage(JournalFileBackend(str(draft), lock_obj=JournalFileOpenLock(str(draft))))
        study = optuna.create_study(storage=storage, study_name=name, directions=goals.directions)
        ended = (trial for _, trial in sorted(trials.items()) if trial.state in STATES)
        study.add_trials([_frozen(trial, distributions, goals) for trial in ended])


@contextmanager
def _replacing(path: Place) -> Iterator[Path]:
    """A draft on a disk that takes the place of `path` once it is whole."""
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="diagram-ray-") as folder:
            yield Path(folder) / path.name
            path.write_bytes((Path(folder) / path.name).read_bytes())
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}-0")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _frozen(trial: Trial, distributions: dict[str, BaseDistribution], goals: Goals) -> FrozenTrial:
    present = {key: distribution for key, distribution in distributions.items() if key in trial.params}
    curve = {measured.epochs: measured.auc_mean for measured in trial.measurements}
    frozen = optuna.trial.create_trial(
        state=STATES[trial.state],
        params={key: trial.params[key] for key in present},
        distributions=present,
        values=goals.values(trial) if trial.last and trial.state is TrialState.COMPLETE else None,
        intermediate_values=curve if len(goals.objectives) == 1 else None,
        constraints=goals.excess(trial.sizes),
        user_attrs=_attributes(trial),
    )
    frozen.datetime_start = frozen.datetime_complete = datetime.now(UTC).replace(tzinfo=None)
    return frozen


def _attributes(trial: Trial) -> dict[str, object]:
    last = trial.last
    attributes: dict[str, object] = {"number": trial.number, "reason": trial.reason, **trial.sizes}
    return attributes | ({"fold_auc": list(last.fold_auc), "seconds": last.seconds} if last else {})
