"""The work of a worker: the cross-validation of one trial, real or a stand-in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.search.ladder import Ladder
from diagram_ray.storage.paths import Place
from diagram_ray.training.runs.trial import CrossValidationLike

CrossValidationFactory = Callable[..., CrossValidationLike]
"""(configuration, data, splits, device) -> a cross-validation, as `training.cross_validation.CrossValidation`.

In a group of processes, and where folds are trained side by side, it is given `teams` as well.
"""


def cross_validation(
    config: ExperimentConfig, data: TrainingData, splits: Any, device: str, initial: Any = None, teams: Any = None
) -> CrossValidationLike:
    """The real training. `initial`: the `training.transfer.InitialWeights` that the folds start with, if any; `teams`:
    the `training.parallel.fold_teams.FoldTeams` of the processes that train it, if folds are trained side by side.
    """
    if teams is None:
        from diagram_ray.training.cross_validation import CrossValidation

        return CrossValidation(config, data, splits, device, initial)
    from diagram_ray.training.parallel.parallel_cross_validation import ParallelCrossValidation

    return ParallelCrossValidation(config, data, splits, device, initial, teams)


@dataclass(frozen=True)
class Work:
    """The inputs of the workers, besides a trial's parameters."""

    study: str
    """Name of the study, for Ray's own views."""
    folder: Place
    base: ExperimentConfig
    ladder: Ladder
    device: str
    make: CrossValidationFactory
