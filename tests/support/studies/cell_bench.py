"""Models of nested and repeated cross-validation trained in this process, without Ray."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diagram_ray.distributed.after_search import fold_tasks
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.work import cross_validation
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import read_plan
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.runs.inputs import load


class Bench:
    """Does what `run_fold_tasks` does, in this process; remembers what it trained, and can be stopped."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.stop_after = 10**6

    def __call__(
        self, waiting: Callable[[Any], Sequence[fold_tasks.FoldTask]], variants: Any, data: Any, make: Any, _: Any
    ) -> bool:
        while tasks := waiting(frozenset()):
            task = min(tasks, key=lambda task: (task.epochs, task.place))
            if len(self.trained) >= self.stop_after:
                return False
            self.trained.append(f"{task.name} to {task.epochs}")
            variant = variants[task.variant]
            fold_tasks.train(task, variant.change(data), variant.splits, make, "cpu")
        return True


def searched(study: Path, repeats: int = 1) -> EndedStudy:
    plan = read_plan(study)
    inputs = load(plan)
    asked = plan.study.model_copy(update={"repeats": repeats})
    return EndedStudy(study, asked, fit_to_data(plan.base, inputs.data), read_ledger(study), inputs, cross_validation)
