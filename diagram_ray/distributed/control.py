"""The no-signal control: the winning configuration on labels that were shuffled by patient must score 0.5.

If it scores more, something leaks: a patient on both sides of a split, or the label itself into the images.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.dataset import TrainingData
from diagram_ray.distributed.share import Share
from diagram_ray.distributed.worker import MakeValidation

POLL = 0.25


@dataclass(frozen=True)
class Control:
    """What is to be trained on shuffled labels."""

    trial: int
    """Number of the winner."""
    config: ExperimentConfig
    folds: int
    seed: int
    """Of the folds; the shuffles are seed, seed + 1, ..."""
    shuffles: int
    make: MakeValidation


def run_control(
    control: Control, data: TrainingData, share: Share, stopping: Callable[[], bool], tick: Callable[[], None]
) -> dict[str, Any] | None:
    """control.json's content: `trial`, `auc_mean` over all shuffles and folds, `shuffles` (`seed`, `fold_auc`).

    Runs on the cluster that is joined, one task a shuffle. None if it was stopped. Raises what the training raises.
    """
    seeds = [control.seed + n for n in range(control.shuffles)]
    shared = ray.put(data)
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=2)(_on_shuffled_labels)
    tasks = [task.remote(control, shared, seed, share.device) for seed in seeds]
    pending = tasks
    while pending:
        _, pending = ray.wait(pending, num_returns=len(pending), timeout=POLL)
        tick()
        if stopping():
            for each in pending:
                ray.cancel(each, force=True)
            return None
    scores = [_result(each) for each in tasks]
    return {
        "trial": control.trial,
        "auc_mean": statistics.fmean(value for fold_auc in scores for value in fold_auc),
        "shuffles": [{"seed": s, "fold_auc": list(fold_auc)} for s, fold_auc in zip(seeds, scores, strict=True)],
    }


def _result(task: Any) -> tuple[float, ...]:
    try:
        scores: tuple[float, ...] = ray.get(task)
        return scores
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None


def _on_shuffled_labels(control: Control, data: TrainingData, seed: int, device: str) -> tuple[float, ...]:
    """The folds' AUC. The folds are cut anew, stratified by the shuffled labels, as they were by the true ones."""
    import torch

    from diagram_ray.data.splits import make_splits, shuffle_patients

    torch.set_num_threads(1)
    shuffled = shuffle_patients(data, seed)
    splits = make_splits(shuffled, control.folds, control.seed)
    validation = control.make(control.config, shuffled, splits, device)
    for _ in validation.advance(control.folds, control.config.training.epochs):
        pass
    return validation.measure(control.folds).fold_auc
