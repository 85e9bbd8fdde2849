"""The winning configuration on changed data: what it scores where nothing can be learnt, and where patients leak.

The no-signal control shuffles the labels by patient: it must score 0.5. If it scores more, something leaks: a patient
on both sides of a split, or the label itself into the images. The price of leakage is what the same configuration
scores in addition when folds are assigned by image, so that a patient's images stand on both sides.

The models stand in `controls/` in the study's folder until the result is written.
"""

import json
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

from diagram_ray.data.splits import forget_patients, make_splits, shuffle_patients
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster, Variant
from diagram_ray.distributed.after_search.winner_cv import WinnerCV, as_row, cross_validate
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place, remove
from diagram_ray.study.holdout_files import CONTROL, CONTROLS, LEAKAGE


def is_controlled(study: EndedStudy, winner: int) -> bool:
    """Whether the study asks for no control, or has the winner's."""
    return not study.config.control.shuffles or _is_of(study.folder / CONTROL, winner)


def is_leakage_known(study: EndedStudy, winner: int) -> bool:
    """Whether the study does not ask what leakage adds, or knows it of the winner."""
    return not study.config.control.leakage or _is_of(study.folder / LEAKAGE, winner)


def run_control(study: EndedStudy, winner: int, cluster: Cluster) -> dict[str, Any] | None:
    """Writes control.json, which it returns: `trial`, `auc_mean` over all shuffles and folds, and `shuffles`.

    Each shuffle has its `seed` and `fold_auc`, or `failed`, which fold failed and why; `auc_mean` is of the others and
    None if there are none. None if it was stopped. Raises where nothing can be written any more.
    """
    seeds = [study.config.seed + number for number in range(study.config.control.shuffles)]
    place = study.folder / CONTROLS / f"shuffles-{winner:04d}"
    runs = [
        _changed(study, f"shuffle {number}", place / str(number), partial(shuffle_patients, seed=seed))
        for number, seed in enumerate(seeds)
    ]
    results = cross_validate(study, winner, runs, cluster)
    if results is None:
        return None
    shuffles = [{"seed": seed} | as_row(run, folds) for seed, run, folds in zip(seeds, runs, results, strict=True)]
    values = [value for shuffle in shuffles for value in shuffle.get("fold_auc", [])]
    mean = statistics.fmean(values) if values else None
    return _write(study.folder / CONTROL, {"trial": winner, "auc_mean": mean, "shuffles": shuffles}, place)


def run_leaky(study: EndedStudy, winner: int, cluster: Cluster) -> dict[str, Any] | None:
    """Writes leakage.json, which it returns: `trial`, `auc_mean`, `fold_auc` or `failed`; raises as `run_control`."""
    place = study.folder / CONTROLS / f"leaky-{winner:04d}"
    run = _changed(study, "folds by image", place, partial(forget_patients, seed=study.config.seed))
    results = cross_validate(study, winner, [run], cluster)
    if results is None:
        return None
    result = as_row(run, results[0])
    mean = statistics.fmean(result["fold_auc"]) if "fold_auc" in result else None
    return _write(study.folder / LEAKAGE, {"trial": winner, "auc_mean": mean} | result, place)


def _changed(study: EndedStudy, name: str, place: Place, change: Callable[[TrainingData], TrainingData]) -> WinnerCV:
    """A cross-validation on changed data, with the folds that would be assigned if the data had come like this."""
    data = change(study.inputs.data)
    return WinnerCV(name, place, Variant(make_splits(data, study.config.folds, study.config.seed), change), data)


def _write(path: Place, result: dict[str, Any], models: Place) -> dict[str, Any]:
    """Writes a result, and removes the models that it was made from."""
    write_atomic(path, json.dumps(result, indent=1))
    remove(models)
    return result


def _is_of(path: Place, winner: int) -> bool:
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("trial") == winner
