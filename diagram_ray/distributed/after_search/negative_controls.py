"""The winning configuration on changed data: what it scores where nothing can be learnt, and where patients leak.

The no-signal control shuffles the labels by patient: it must score 0.5. If it scores more, something leaks: a patient
on both sides of a split, or the label itself into the images. The price of leakage is what the same configuration
scores in addition when folds are dealt by image, so that a patient's images stand on both sides.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import forget_patients, shuffle_patients
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.after_search.fold_tasks import POLL, Cluster
from diagram_ray.distributed.work import MakeValidation

Change = Callable[[TrainingData, int], TrainingData]
"""(data, seed) -> changed data"""


@dataclass(frozen=True)
class Winner:
    """What is to be trained once more."""

    trial: int
    config: ExperimentConfig
    folds: int
    seed: int
    """Of the folds; the changes are made with seed, seed + 1, ..."""
    make: MakeValidation


def run_control(winner: Winner, shuffles: int, data: TrainingData, cluster: Cluster) -> dict[str, Any] | None:
    """control.json's content: `trial`, `auc_mean` over all shuffles and folds, `shuffles` (`seed`, `fold_auc`).

    Runs on the cluster that is joined, one task a shuffle. None if it was stopped. Raises what the training raises.
    """
    scores = _run(winner, shuffle_patients, shuffles, data, cluster)
    if scores is None:
        return None
    return {
        "trial": winner.trial,
        "auc_mean": statistics.fmean(value for fold_auc in scores for value in fold_auc),
        "shuffles": [{"seed": winner.seed + n, "fold_auc": list(fold_auc)} for n, fold_auc in enumerate(scores)],
    }


def run_leaky(winner: Winner, data: TrainingData, cluster: Cluster) -> dict[str, Any] | None:
    """leakage.json's content: `trial`, `auc_mean`, `fold_auc` with folds dealt by image. Otherwise as `run_control`."""
    scores = _run(winner, forget_patients, 1, data, cluster)
    if scores is None:
        return None
    return {"trial": winner.trial, "auc_mean": statistics.fmean(scores[0]), "fold_auc": list(scores[0])}


def _run(
    winner: Winner, change: Change, times: int, data: TrainingData, cluster: Cluster
) -> list[tuple[float, ...]] | None:
    """The folds' AUC for each of the seeds."""
    share, shared = cluster.share, ray.put(data)
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)(_on_changed_data)
    return results([task.remote(winner, change, shared, winner.seed + n, share.device) for n in range(times)], cluster)


def results(tasks: list[Any], cluster: Cluster) -> list[Any] | None:
    """What the tasks return; None if they were stopped. Raises what they raise, and RayError if their process died."""
    pending = tasks
    while pending:
        _, pending = ray.wait(pending, num_returns=len(pending), timeout=POLL)
        cluster.tick()
        if cluster.stopping():
            for each in pending:
                ray.cancel(each, force=True)
            return None
    return [_result(each) for each in tasks]


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _on_changed_data(winner: Winner, change: Change, data: TrainingData, seed: int, device: str) -> tuple[float, ...]:
    """The folds' AUC. The folds are cut anew, as they would be if the data had come like this."""
    import torch

    from diagram_ray.data.splits import make_splits

    torch.set_num_threads(1)
    changed = change(data, seed)
    splits = make_splits(changed, winner.folds, winner.seed)
    validation = winner.make(winner.config, changed, splits, device)
    for _ in validation.advance(winner.folds, winner.config.training.epochs):
        pass
    return validation.measure(winner.folds).fold_auc
