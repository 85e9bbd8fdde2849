"""The process that trains: it serves one trial after another. Imports no more than it needs, for it starts often."""

from dataclasses import replace
from typing import Any

import ray
from ray import tune

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.nodes import here, own_device
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.work import Work
from diagram_ray.study.trial_files import TrialFiles
from diagram_ray.training.runs.trial import CrossValidationLike, TrialRun


class Worker(tune.Trainable):
    """A process that works on one trial after another."""

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], work: Work, share: TrialResources, data: TrainingData, splits: Any
    ) -> None:
        """Prepares the process; called once, with what all trials share."""
        import torch

        from diagram_ray.training.parallel.fold_teams import FoldTeams

        torch.set_num_threads(1)  # trials run side by side: one core each
        self._work, self._data, self._splits = work, data, splits
        one_by_one = share.folds_at_once == 1
        self._more = {} if one_by_one else {"teams": FoldTeams(at_once=share.folds_at_once, part=share.gpus)}
        self._run: TrialRun | None = None
        self._draining, self._left, self._devices = here(), False, (own_device(),)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins the next trial; Tune's name for it."""
        work, number = self._work, new_config["number"]
        config = override(work.base, new_config["params"], f"trial {number}")

        def make(experiment: ExperimentConfig) -> CrossValidationLike:
            return work.make(experiment, self._data, self._splits, work.device, **self._more)

        self.cleanup()
        self._run = TrialRun(number, config, work.ladder, TrialFiles.of(work.folder, number), make, self._draining)
        return True

    def step(self) -> dict[str, Any]:
        """Trains one round. After the last one on a machine that leaves, the process ends: Ray starts no more there."""
        assert self._run is not None  # noqa: S101 - set in `setup`
        if self._left:
            ray.actor.exit_actor()  # type: ignore[no-untyped-call]
        report = replace(self._run.step(), devices=self._devices)
        self._left = report.draining
        return {"round": report}

    def cleanup(self) -> None:
        """Closes the run; called when the process is not needed any more."""
        if self._run is not None:
            self._run.close()

    def __repr__(self) -> str:
        # In Ray's list of actors; it is asked for once, also where `setup` has failed.
        return f"{self._work.study if hasattr(self, '_work') else 'no study'}: trials"
