"""The study's tables, made from the ledger and the trials' own files. They can be made again at any time.

Whatever depends on time stands in `seconds` and `worker_seconds`; all else is the same in every run of a study.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from diagram_ray.results import Measurement, Trial, TrialState, best_of
from diagram_ray.storage.parquet_files import read_table, write_table
from diagram_ray.storage.paths import Place
from diagram_ray.study.trial_files import TrialFiles, copy_models

Trials = Mapping[int, Trial]


def write_tables(folder: Place, trials: Trials) -> None:
    """Writes trials, curves and predictions, and `best/`, each atomically."""
    curves = _gather(folder, trials, "curves")
    if curves is not None:
        write_table(folder / "curves.parquet", curves)
    complete = {number: trial for number, trial in trials.items() if trial.state is TrialState.COMPLETE}
    predictions, best = _gather(folder, complete, "predictions"), best_of(trials)
    if predictions is not None and best is not None:
        repeat = pa.array([0] * len(predictions), pa.int32())
        tables = [predictions.add_column(1, "repeat", repeat), *_repeats(folder, best.number)]
        write_table(folder / "predictions.parquet", pa.concat_tables(tables, promote_options="permissive"))
    if best is not None and TrialFiles.of(folder, best.number).models.is_dir():
        copy_models(TrialFiles.of(folder, best.number).models, folder / "best")
    write_table(folder / "trials.parquet", trials_table(trials, _fold_epochs(curves)))


def repeat_file(folder: Place, trial: int, repeat: int) -> Place:
    """The out-of-fold scores of a trial on folds that were assigned anew, as they stand in predictions.parquet."""
    return folder / "repeats" / f"{trial:04d}" / f"repeat-{repeat}.parquet"


def _repeats(folder: Place, trial: int) -> list[pa.Table]:
    paths: list[Place] = [*repeat_file(folder, trial, 1).parent.glob("repeat-*.parquet")]
    return [read_table(path) for path in sorted(paths, key=lambda path: (len(path.name), path.name))]


def trials_table(trials: Trials, fold_epochs: Mapping[int, int]) -> pa.Table:
    """The table of trials, one row each, by number. `fold_epochs`: number -> epochs of one fold that it has trained."""
    ordered = [trial for _, trial in sorted(trials.items())]
    last = [trial.last for trial in ordered]
    floats, lists = pa.float64(), pa.list_(pa.float64())
    return pa.table(
        {
            "number": pa.array([trial.number for trial in ordered], pa.int64()),
            "state": pa.array([trial.state.value for trial in ordered], pa.string()),
            "reason": pa.array([trial.reason for trial in ordered], pa.string()),
            **_params(ordered),
            "auc_mean": pa.array([m.auc_mean if m else None for m in last], floats),
            "auc_sd": pa.array([m.auc_sd if m else None for m in last], floats),
            "training_auc": pa.array([m.training_auc if m else None for m in last], floats),
            "accuracy_mean": pa.array([m.accuracy_mean if m else None for m in last], floats),
            "fold_auc": pa.array([list(m.fold_auc) if m else [] for m in last], lists),
            "fold_accuracy": pa.array([list(m.fold_accuracy) if m else [] for m in last], lists),
            "folds": pa.array([m.folds if m else 0 for m in last], pa.int64()),
            "epochs": pa.array([m.epochs if m else 0 for m in last], pa.int64()),
            "fold_epochs": pa.array([fold_epochs.get(trial.number, 0) for trial in ordered], pa.int64()),
            "seconds": pa.array([m.seconds if m else 0.0 for m in last], floats),
            "worker_seconds": pa.array([_worker_seconds(m) if m else 0.0 for m in last], floats),
            **_sizes(ordered),
        }
    )


def _worker_seconds(measurement: Measurement) -> float:
    return measurement.seconds if measurement.worker_seconds is None else measurement.worker_seconds


def _params(trials: list[Trial]) -> dict[str, pa.Array]:
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    return {f"params.{key}": _column([trial.params.get(key) for trial in trials]) for key in keys}


def _sizes(trials: list[Trial]) -> dict[str, pa.Array]:
    """Columns of the models' sizes; none in a study that does not need them."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.sizes))
    return {name: pa.array([trial.sizes.get(name) for trial in trials], pa.float64()) for name in names}


def _column(values: list[Any]) -> pa.Array:
    """A column of one type; choices of several types become text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) == 1:
        return pa.array([float(value) if kinds == {int, float} and value is not None else value for value in values])
    return pa.array([None if value is None else str(value) for value in values], pa.string())


def _gather(folder: Place, trials: Trials, kind: str) -> pa.Table | None:
    """The `kind` tables of all trials that have one, under each other, with the trial's number in front."""
    tables = []
    for number in sorted(trials):
        path = getattr(TrialFiles.of(folder, number), kind)
        if path.is_file():
            table = read_table(path)
            tables.append(table.add_column(0, "trial", pa.array([number] * len(table), pa.int64())))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def _fold_epochs(curves: pa.Table | None) -> dict[int, int]:
    if curves is None:
        return {}
    counts = curves.group_by("trial").aggregate([("fold", "count")])
    return dict(zip(counts["trial"].to_pylist(), counts["fold_count"].to_pylist(), strict=True))
