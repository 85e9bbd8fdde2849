"""Models that are trained without a part of the patients, besides a study's own folds: tasks on the cluster.

What they leave is described in `study.holdout_files`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.nodes import gone
from diagram_ray.distributed.resources import Share
from diagram_ray.distributed.retries import RETRIES
from diagram_ray.distributed.work import MakeValidation
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.search.nested import Failed, leave_out
from diagram_ray.storage.paths import Place
from diagram_ray.study.holdout_files import CHECKPOINT, read_cell, scores_file, write_cell
from diagram_ray.training.checkpoints.run_identity import Identity, check_identity
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.runs.trial import SAVE_EVERY, cannot_write, reason_of

log = logging.getLogger("diagram_ray")


POLL = 0.25


@dataclass(frozen=True)
class Cluster:
    """Where it is trained, and who may stop it."""

    share: Share
    stopping: Callable[[], bool]
    tick: Callable[[], None]


class FoldValidation(Protocol):
    """What a cell needs of `training.cross_validation.CrossValidation`."""

    def advance_fold(self, number: int, epochs: int) -> Iterator[dict[str, Any]]:
        """Trains one fold up to `epochs`."""

    def fold_scores(self, number: int) -> Floats:
        """Of the images of the fold, in the order of the data."""

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of."""

    def state_dict(self) -> dict[str, Any]:
        """The state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the state back."""


@dataclass(frozen=True)
class Order:
    """A model to be trained."""

    name: str
    """In messages."""
    place: Place
    config: ExperimentConfig
    identity: Identity
    """What it is, in plain values."""
    without: tuple[int, ...]
    """Folds it must not see."""
    epochs: int
    marks: tuple[int, ...]
    """Epochs, ascending, after which its scores are kept; `epochs` is one of them."""
    repeat: int = 0
    """Of which deal of folds."""

    def file(self, epochs: int) -> Place:
        """Its scores after so many epochs."""
        return scores_file(self.place, epochs)


def read_scores(path: Place, identity: Identity, image_ids: Sequence[str]) -> Floats | Failed:
    """A model's scores of these images. Raises DataError, and MismatchError for a model of another study."""
    found = read_cell(path)
    check_identity(found.identity, identity, str(path))
    if found.failed:
        return Failed(found.failed)
    if found.image_ids != list(image_ids):
        many = len(found.image_ids)
        raise DataError(f"{path}: has the scores of {many} other images than the {len(image_ids)} left out")
    return found.scores


def train(order: Order, data: TrainingData, splits: Splits, make: MakeValidation, device: str) -> None:
    """Brings the model of `order` to its epochs, from where it was saved. That it cannot be trained is a result too.

    Raises where nothing can be written any more.
    """
    apart, fold = leave_out(splits, order.without)
    images = data.image_ids[apart.fold(data, fold).test_images].tolist()
    try:
        validation: Any = make(order.config, data, apart, device)
        for mark, scores in _climb(order, validation, fold):
            write_cell(order.file(mark), order.identity, images, scores)
    except Exception as error:
        log.debug("%s failed", order.name, exc_info=error)
        if cannot_write(error):
            raise
        write_cell(order.file(order.epochs), order.identity, [], np.empty(0), failed=reason_of(error))


def _climb(order: Order, validation: FoldValidation, fold: int) -> Iterator[tuple[int, Floats]]:
    """The scores at each mark that is not there yet. The model is saved at a mark before its scores are told."""
    marks = [mark for mark in order.marks if mark <= order.epochs and not order.file(mark).is_file()]
    if not marks:  # the worker died after its work was done
        return
    with CheckpointStore(order.place / CHECKPOINT, validation.identity, every=SAVE_EVERY) as store:
        found = store.load()
        if found is not None and found[0] <= marks[0]:  # else scores were lost that it cannot give any more
            validation.load_state_dict(found[1])
        for mark in marks:
            for row in validation.advance_fold(fold, mark):
                if store.due:
                    store.save(row["epoch"], validation.state_dict())
            if mark < order.marks[-1]:
                store.save(mark, validation.state_dict())
                store.wait()
            yield mark, validation.fold_scores(fold)
        if order.epochs == order.marks[-1]:
            store.clear()


def train_all(
    orders: Callable[[Set[Place]], Sequence[Order]],
    deals: Mapping[int, Splits],
    data: TrainingData,
    make: MakeValidation,
    cluster: Cluster,
) -> bool:
    """Trains what `orders` gives on the cluster that is joined; `deals`: repeat -> folds.

    It is asked again after each, and told the places at which models are being trained: those are left alone, as models
    in one place go on from each other. True when it gives nothing any more, False if it was stopped.
    Raises what `train` raises.
    """
    share, work = cluster.share, _Work(ray.put(data), {number: ray.put(deal) for number, deal in deals.items()}, make)
    task = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=RETRIES)(_train_one)
    running: dict[Any, Order] = {}
    left = gone()
    while True:
        busy = {order.place for order in running.values()}
        for order in sorted(orders(frozenset(busy)), key=lambda order: order.epochs):
            if order.place not in busy:
                busy.add(order.place)
                running[task.remote(order, work.data, work.deals[order.repeat], work.make, share.device)] = order
        if not running:
            return True
        done = _next(running, cluster)
        if done is None:
            return False
        order = running.pop(done)
        try:
            ray.get(done)
        except RayTaskError as error:
            raise error.cause from None
        except RayError as error:
            left, before = gone(), left
            if left == before:  # no machine that has left is to blame
                log.debug("%s lost its workers", order.name, exc_info=error)
                why = f"its worker process died {RETRIES + 1} times"
                write_cell(order.file(order.epochs), order.identity, [], np.empty(0), failed=why)


@dataclass(frozen=True)
class _Work:
    """What all tasks share, in Ray's object store."""

    data: Any
    deals: Mapping[int, Any]
    make: MakeValidation


def _next(running: Mapping[Any, Order], cluster: Cluster) -> Any:
    """The next task that has ended; None if all were stopped."""
    while True:
        done, _ = ray.wait(list(running), timeout=POLL)
        cluster.tick()
        if cluster.stopping():
            for each in running:
                ray.cancel(each, force=True)
            ray.wait(list(running), num_returns=len(running), timeout=10.0)  # none may write any more
            return None
        if done:
            return done[0]


def _train_one(order: Order, data: TrainingData, splits: Splits, make: MakeValidation, device: str) -> None:
    import torch

    torch.set_num_threads(1)  # as the trials' workers: sums over several threads have another order
    train(order, data, splits, make, device)
