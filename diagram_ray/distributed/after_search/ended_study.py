"""A study whose trials have ended, from which more models are trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.work import CrossValidationFactory
from diagram_ray.results import Trial
from diagram_ray.search.ladder import Ladder
from diagram_ray.storage.paths import Place
from diagram_ray.study.config import StudyConfig
from diagram_ray.training.checkpoints.run_identity import identity_of
from diagram_ray.training.runs.inputs import StudyInputs


@dataclass(frozen=True)
class EndedStudy:
    """A study whose trials have ended."""

    folder: Place
    config: StudyConfig
    base: ExperimentConfig
    """The configuration that every trial starts from."""
    trials: Mapping[int, Trial]
    inputs: StudyInputs
    make: CrossValidationFactory

    @property
    def ladder(self) -> Ladder:
        """The ladder of the study."""
        return self.config.make_ladder(self.base.training.epochs)

    @property
    def lookback(self) -> int:
        """The lookback of the study, as it was resolved."""
        return self.config.parallel.lookback or 1

    def trial_config(self, trial: int) -> ExperimentConfig:
        """The configuration of one trial."""
        return override(self.base, self.trials[trial].params, f"trial {trial}")

    def identity(self, splits: Splits, data: TrainingData) -> dict[str, Any]:
        """The identity of models on these folds of `data`, the study's own or changed ones, without their
        configuration."""
        initial = self.inputs.initial
        return identity_of(self.base, data, splits, initial=initial and initial.digest)
