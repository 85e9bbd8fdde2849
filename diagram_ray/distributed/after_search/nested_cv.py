"""Nested cross-validation of a study on the cluster: what `search.nested` asks for is trained, in the study's folder.

What it leaves is described in `study.holdout_files`.
"""

import json
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pyarrow as pa

from diagram_ray.config import flatten
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster, FoldTask, Variant, read_scores, run_fold_tasks
from diagram_ray.evaluation.metrics import Floats, auc
from diagram_ray.evaluation.predictions import FoldPredictions, check_predictions, predictions_table
from diagram_ray.results import TrialState
from diagram_ray.search.nested import Failed, Field, HeldOutModel, NestedSearch, Outer, leave_out
from diagram_ray.search.racing import Cases, make_race
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import read_table, write_table
from diagram_ray.storage.paths import Place, remove
from diagram_ray.study.holdout_files import (
    CHECKPOINT,
    NESTED,
    NESTED_RESULT,
    PREDICTIONS,
    model_folder,
)
from diagram_ray.study.nested_plan import blind, candidates, inner_ladder, price
from diagram_ray.study.trial_files import TrialFiles


def missing(study: EndedStudy) -> tuple[int, ...]:
    """The candidates that the study has not come to yet. Nested cross-validation waits for them."""
    return tuple(number for number in blind(study.config, study.lookback) if number not in study.trials)


def is_nested(study: EndedStudy) -> bool:
    """Whether nested cross-validation is done, with the candidates that the study has now."""
    path = study.folder / NESTED_RESULT
    return path.is_file() and json.loads(path.read_text(encoding="utf-8"))["candidates"] == _candidates(study)


def _candidates(study: EndedStudy) -> list[int]:
    return candidates(study.config, study.trials, study.lookback)


def run_nested(study: EndedStudy, cluster: Cluster) -> dict[str, Any] | None:
    """Trains what is missing and writes the result, which it returns; None if it was stopped: what is done is kept.

    Raises LeakageError for a study with initial weights that have seen patients whom an inner fold leaves out, and
    where nothing can be written any more.
    """
    _check_initial(study)
    store = _Store(study)
    search = NestedSearch(_field(study), store)

    def waiting(busy: Set[Place]) -> list[FoldTask]:
        store.forget_unknown()
        models = search.advance()
        store.tidy(search, busy)
        return [store.task(model) for model in models]

    inputs = study.inputs
    if not run_fold_tasks(waiting, {0: Variant(inputs.splits)}, inputs.data, study.make, cluster):
        return None
    result = _write(study, search.results(), store.spent())
    for place in _models(study):
        remove(place / CHECKPOINT)
    return result


def _models(study: EndedStudy) -> Iterator[Place]:
    """Yields the folders of the held-out models, also of those that are not trained to the end."""
    trials: list[Place] = [*(study.folder / NESTED).glob("[0-9]*")]
    return (place for trial in trials for place in trial.glob("without-*"))


def _field(study: EndedStudy) -> Field:
    config, inputs = study.config, study.inputs
    cases = Cases.of(inputs.data, inputs.splits, config.race.resamples, config.seed)
    return Field(tuple(_candidates(study)), inner_ladder(study.ladder), study.lookback, make_race(config.race), cases)


def _check_initial(study: EndedStudy) -> None:
    """Raises LeakageError unless each pair of folds is left out by weights that have not seen it."""
    config, inputs = study.config, study.inputs
    if config.init_from is not None:
        from diagram_ray.training.transfer import read_initial  # PyTorch, which most drivers need not load

        for one in range(config.folds):
            for other in range(one):
                apart, number = leave_out(inputs.splits, (other, one))
                read_initial(config.init_from, study.base, inputs.data, apart, number)


class _Store:
    """The scores of the study's models, from its own folds and from files (`search.nested.Scores`)."""

    def __init__(self, study: EndedStudy) -> None:
        self._study = study
        data, splits = study.inputs.data, study.inputs.splits
        self._folds = np.array([splits.patients[patient] for patient in data.patient_ids.tolist()])
        self._identity = study.identity(study.inputs.splits, study.inputs.data)
        self._epochs = tuple(sorted({rung.epochs for rung in study.ladder.rungs}))
        self._known: dict[HeldOutModel, Floats | Failed | None] = {}

    def of(self, model: HeldOutModel, fold: int) -> Floats | Failed | None:
        """The model's scores of a fold (see `search.nested.Scores.of`)."""
        if model not in self._known:
            self._known[model] = self._read(model)
        scores = self._known[model]
        return scores[self._folds[self._rows(model)] == fold] if isinstance(scores, np.ndarray) else scores

    def forget_unknown(self) -> None:
        """Makes the next look-up read anew the models that were not there."""
        self._known = {model: scores for model, scores in self._known.items() if scores is not None}

    def task(self, model: HeldOutModel) -> FoldTask:
        """The task that trains a model."""
        folds = " and ".join(map(str, model.without))
        identity = self._identity | flatten(self._study.trial_config(model.trial)) | {"without": list(model.without)}
        return FoldTask(
            f"trial {model.trial} without fold{'s' * (len(model.without) > 1)} {folds}",
            self._place(model),
            self._study.trial_config(model.trial),
            identity,
            model.without,
            model.epochs,
            self._epochs if len(model.without) > 1 else self._epochs[-1:],
        )

    def tidy(self, search: NestedSearch, busy: Set[Place]) -> None:
        """Removes the states of models that nobody will go on from, or is going on from at a `busy` place."""
        for model, scores in self._known.items():
            place = self._place(model)
            if scores is not None and len(model.without) > 1 and place not in busy and not search.wants(model):
                remove(place / CHECKPOINT)

    def spent(self) -> int:
        """Epochs of one fold that were trained, in this run and in earlier ones, whether or not they failed."""
        files = [[*place.glob("after-*.parquet")] for place in _models(self._study)]
        return sum(max((int(path.stem.removeprefix("after-")) for path in paths), default=0) for paths in files)

    def _read(self, model: HeldOutModel) -> Floats | Failed | None:
        trial, rows = self._study.trials[model.trial], self._rows(model)
        images = self._study.inputs.data.image_ids[rows]
        if len(model.without) == 1 and trial.state is TrialState.COMPLETE:
            table = read_table(TrialFiles.of(self._study.folder, trial.number).predictions)
            known = dict(zip(table["image_id"].to_pylist(), table["score"].to_pylist(), strict=True))
            return np.array([known[image] for image in images.tolist()])
        task = self.task(model)
        path = task.file(model.epochs)
        return read_scores(path, task.identity, images.tolist()) if path.is_file() else None

    def _rows(self, model: HeldOutModel) -> Any:
        return np.flatnonzero(np.isin(self._folds, model.without))

    def _place(self, model: HeldOutModel) -> Place:
        return model_folder(self._study.folder / NESTED / f"{model.trial:04d}", model.without)


def _write(study: EndedStudy, results: list[Outer] | Failed, spent: int) -> dict[str, Any]:
    """Writes nested.json, its predictions first; returns its content."""
    config = study.config
    cost = price(config, study.ladder, study.lookback)
    result: dict[str, Any] = {
        "candidates": _candidates(study),
        "fold_epochs": spent,
        "largest_fold_epochs": cost.largest,
        "expected_fold_epochs": cost.expected,
    }
    if isinstance(results, Failed):
        result["failed"] = results.reason
    else:
        table = _predictions(study, results)
        write_table(study.folder / NESTED / PREDICTIONS, table)
        labels = {outer.fold: table.filter(pa.compute.equal(table["fold"], outer.fold))["label"] for outer in results}
        values = [auc(labels[outer.fold].to_numpy(), outer.scores) for outer in results]
        result["auc_mean"] = float(np.mean(values))
        result["folds"] = [
            {"fold": outer.fold, "winner": outer.trial, "inner_auc": outer.inner_auc, "auc": value}
            for outer, value in zip(results, values, strict=True)
        ]
    write_atomic(study.folder / NESTED_RESULT, json.dumps(result, indent=1))
    return result


def _predictions(study: EndedStudy, outer: list[Outer]) -> pa.Table:
    """The table `trial, fold, image_id, patient_id, label, score`: every image once."""
    data, splits = study.inputs.data, study.inputs.splits
    folds = np.array([splits.patients[patient] for patient in data.patient_ids.tolist()])
    parts = [FoldPredictions(part.fold, np.flatnonzero(folds == part.fold), part.scores) for part in outer]
    table = predictions_table(data, parts, trial=[part.trial for part in outer])
    check_predictions(table, data.image_ids, data.patient_ids)
    return table
