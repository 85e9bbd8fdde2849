"""A cross-validation whose folds are trained side by side: by threads of a process, and by several processes.

The results are those of one fold after another: only time and memory are not.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DiagramError
from diagram_ray.storage.paths import Place
from diagram_ray.training.checkpoints.serialisation import bytes_of, copied
from diagram_ray.training.cross_validation import CrossValidation, FoldResult, FoldRun, copied_weights, folds_behind
from diagram_ray.training.device import deterministic
from diagram_ray.training.parallel.fold_packing import fold_scheduler
from diagram_ray.training.parallel.fold_teams import FoldTeams
from diagram_ray.training.trainer import Trainer
from diagram_ray.training.transfer import InitialWeights

T = TypeVar("T")


class ParallelCrossValidation(CrossValidation):
    """The cross-validation that the processes of `teams` train, each with threads of its own.

    Each process makes its own with the same arguments, and all call the same methods in the same order. What a method
    returns, all get, unless it says otherwise.
    """

    def __init__(
        self,
        config: ExperimentConfig,
        data: TrainingData,
        splits: Splits,
        device: torch.device | str = "cpu",
        initial: InitialWeights | None = None,
        teams: FoldTeams | None = None,
    ) -> None:
        super().__init__(config, data, splits, device, initial)
        self.teams = teams or FoldTeams()
        self._group = self.teams.team
        self._scheduler = fold_scheduler(self.teams, splits.n_folds, self.config, torch.device(device))

    def export(self, folder: Place) -> None:
        """Writes the folds' models as a model folder, in the first process."""
        weights = self._of_all_folds(copied_weights)
        if self.teams.world.rank == 0:
            self._write_models(folder, weights)

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Goes on from a cross-validation's `state_dict`: the first process's; the others may be given None."""
        from_first = self.teams.world.from_first
        folds = state["folds"] if state else {}
        numbers, self._seconds, self._worker_seconds = from_first(
            (sorted(folds), state["seconds"], state["worker_seconds"]) if state else ([], 0.0, 0.0)
        )
        self._runs.clear()
        for number in numbers:
            saved: dict[str, Any] = from_first(folds[number] if state else {})  # one at a time: they may be large
            run = self._restored(number, saved)
            if self.teams.has(number):
                self._trainer(run).load_state_dict(saved["trainer"])

    def _rounds(self, runs: Sequence[FoldRun], epochs: int) -> Iterator[list[dict[str, Any]]]:
        while behind := folds_behind(runs, epochs):
            yield self._round(behind)

    def _round(self, runs: Sequence[FoldRun]) -> list[dict[str, Any]]:
        """Trains each of these folds for one epoch. What fails in one team is raised in all processes."""
        results: list[FoldResult] = []
        failure: DiagramError | None = None
        try:
            results = self._train_own([run for run in runs if self.teams.has(run.fold.number)])
        except DiagramError as error:
            failure = error
        of_own_team = results if self.teams.is_team_leader else []
        outcomes = self.teams.world.exchange((of_own_team, self.teams.team.world_size, failure))
        if failures := [of_other for _, _, of_other in outcomes if of_other is not None]:
            raise failure or failures[0]
        spent = [(sum(result.row["seconds"] for result in of_team), workers) for of_team, workers, _ in outcomes]
        slowest, together = max(seconds for seconds, _ in spent), sum(seconds * workers for seconds, workers in spent)
        return self._take_in([result for of_team, _, _ in outcomes for result in of_team], slowest, together)

    def _train_own(self, runs: list[FoldRun]) -> list[FoldResult]:
        """Trains folds of this process for one epoch, side by side or one after another: the results are the same."""
        for run in runs:
            self._trainer(run)  # first of all, because initial weights come from PyTorch's one generator
        with deterministic(self.config.training.deterministic):  # a switch of the whole process
            timed = self._scheduler.each(
                runs, lambda run: self.teams.place(run.fold.number), self._train_epoch, _kept_bytes
            )
        for result, seconds in timed:
            result.row["seconds"] = seconds
        return [result for result, _ in timed]

    def _of_all_folds(self, take: Callable[[Trainer], T]) -> dict[int, T]:
        """Fold -> what `take` takes of its trainer; complete in the first process only."""
        own = super()._of_all_folds(take)
        if self.teams.count == 1:
            return own
        of_teams = self.teams.world.to_first(copied(own) if self.teams.is_team_leader else {})
        return dict(sorted(item for of_team in of_teams for item in of_team.items()))


def _kept_bytes(run: FoldRun) -> int | None:
    """Bytes that a fold's trainer has between epochs; None if its training has stopped early."""
    return None if run.trainer is None or run.trainer.stopped else bytes_of(run.trainer.state_dict())
