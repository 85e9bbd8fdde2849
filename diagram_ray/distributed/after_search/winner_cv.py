"""Cross-validations of a study's winner besides the study's own: on other folds, or on data changed on purpose."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from diagram_ray.config import flatten
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster, FoldTask, Variant, read_scores, run_fold_tasks
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.predictions import FoldPredictions
from diagram_ray.search.nested import Failed
from diagram_ray.storage.paths import Place
from diagram_ray.study.holdout_files import model_folder


@dataclass(frozen=True)
class WinnerCV:
    """A cross-validation of the winner."""

    name: str
    """Name of the cross-validation in messages, for example "repeat 1"."""
    place: Place
    """The folder of its models."""
    variant: Variant
    data: TrainingData
    """The study's data as the variant changes them."""


def as_row(run: WinnerCV, folds: Sequence[FoldPredictions] | Failed) -> dict[str, Any]:
    """The entry in a file of results: `fold_auc`, or `failed`, which fold failed and why."""
    if isinstance(folds, Failed):
        return {"failed": folds.reason}
    return {"fold_auc": [auc(run.data.labels[fold.rows], fold.scores) for fold in folds]}


def cross_validate(
    study: EndedStudy, winner: int, runs: Sequence[WinnerCV], cluster: Cluster
) -> list[list[FoldPredictions] | Failed] | None:
    """The folds' scores of each of `runs`, or which fold failed and why; None if it was stopped: what is done is kept.

    Raises where nothing can be written any more.
    """
    tasks = [task for number, run in enumerate(runs) for task in _fold_tasks(study, winner, number, run)]

    def waiting(_: Set[Place]) -> list[FoldTask]:
        return [task for task in tasks if not task.file(task.epochs).is_file()]

    variants = {number: run.variant for number, run in enumerate(runs)}
    if not run_fold_tasks(waiting, variants, study.inputs.data, study.make, cluster):
        return None
    return [_scores_of(run, [task for task in tasks if task.variant == number]) for number, run in enumerate(runs)]


def _fold_tasks(study: EndedStudy, winner: int, number: int, run: WinnerCV) -> list[FoldTask]:
    config, epochs = study.trial_config(winner), study.ladder.rungs[-1].epochs
    splits = run.variant.splits
    identity = study.identity(splits, run.data) | flatten(config)
    return [
        FoldTask(
            name=f"trial {winner}, {run.name}, fold {fold}",
            place=model_folder(run.place, (fold,)),
            config=config,
            identity=identity | {"without": [fold]},
            without=(fold,),
            epochs=epochs,
            marks=(epochs,),
            variant=number,
        )
        for fold in range(splits.n_folds)
    ]


def _scores_of(run: WinnerCV, tasks: Sequence[FoldTask]) -> list[FoldPredictions] | Failed:
    folds: list[FoldPredictions] = []
    for task in tasks:
        rows = run.variant.splits.fold(run.data, task.without[0]).test_images
        scores = read_scores(task.file(task.epochs), task.identity, run.data.image_ids[rows].tolist())
        if isinstance(scores, Failed):
            return Failed(f"fold {task.without[0]}: {scores.reason}")
        folds.append(FoldPredictions(task.without[0], rows, scores))
    return folds
