"""Models of nested and repeated cross-validation trained in this process, without Ray."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diagram_ray.distributed.after_search import fold_tasks
from diagram_ray.distributed.after_search.ended_study import Searched
from diagram_ray.distributed.work import cross_validation
from diagram_ray.study.folder import read_plan
from diagram_ray.study.ledger import read_ledger
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.runs.inputs import load


class Bench:
    """Does what `train_all` does, in this process; remembers what it trained, and can be stopped."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.stop_after = 10**6

    def __call__(
        self, orders: Callable[[Any], Sequence[fold_tasks.Order]], deals: Any, data: Any, make: Any, _: Any
    ) -> bool:
        while waiting := orders(frozenset()):
            order = min(waiting, key=lambda order: (order.epochs, order.place))
            if len(self.trained) >= self.stop_after:
                return False
            self.trained.append(f"{order.name} to {order.epochs}")
            fold_tasks.train(order, data, deals[order.repeat], make, "cpu")
        return True


def searched(study: Path, repeats: int = 1) -> Searched:
    plan = read_plan(study)
    materials = load(plan)
    asked = plan.study.model_copy(update={"repeats": repeats})
    return Searched(
        study, asked, fit_to_data(plan.base, materials.data), read_ledger(study), materials, cross_validation
    )
