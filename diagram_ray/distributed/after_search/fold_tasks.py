"""Tasks on the cluster after a search: each trains one model on all folds but those that it is tested on.

What they leave is described in `study.holdout_files`.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import ray
from ray.exceptions import RayError

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.nodes import gone
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.retries import RETRIES
from diagram_ray.distributed.session import result_of
from diagram_ray.distributed.work import CrossValidationFactory
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.search.nested import Failed, leave_out
from diagram_ray.storage.paths import Place
from diagram_ray.study.holdout_files import CHECKPOINT, read_held_out, scores_file, write_held_out
from diagram_ray.training.checkpoints.run_identity import Identity, check_identity
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.runs.trial import SAVE_EVERY, cannot_write, reason_of

log = logging.getLogger("diagram_ray")


POLL = 0.25
"""Seconds between two looks at whether the study is to stop."""


@dataclass(frozen=True)
class Cluster:
    """The resources that tasks get of the cluster that is joined, and the calls that may stop them."""

    share: TrialResources
    stopping: Callable[[], bool]
    tick: Callable[[], None]
    """Function that is called while tasks are waited for, four times a second."""


def unchanged(data: TrainingData) -> TrainingData:
    """Returns the study's data as they are."""
    return data


@dataclass(frozen=True)
class Variant:
    """The folds of a cross-validation, and what it changes in the study's data, whose images stay in shared memory."""

    splits: Splits
    change: Callable[[TrainingData], TrainingData] = unchanged


class FoldValidation(Protocol):
    """The methods of `training.cross_validation.CrossValidation` that a fold task needs."""

    def advance_fold(self, number: int, epochs: int) -> Iterator[dict[str, Any]]:
        """Trains one fold up to `epochs`."""

    def fold_scores(self, number: int) -> Floats:
        """The scores of the images of the fold, in the order of the data."""

    @property
    def identity(self) -> dict[str, Any]:
        """The identity that a checkpoint must have."""

    def state_dict(self) -> dict[str, Any]:
        """The state of the training."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of the training."""


@dataclass(frozen=True)
class FoldTask:
    """A model to be trained, and where its scores go."""

    name: str
    """Name of the model in messages."""
    place: Place
    config: ExperimentConfig
    identity: Identity
    """All that decides what the model is, in plain values."""
    without: tuple[int, ...]
    """Folds that the model must not see."""
    epochs: int
    marks: tuple[int, ...]
    """Epochs, ascending, after which its scores are kept; `epochs` is one of them."""
    variant: int = 0
    """Number of the variant that it is trained on."""

    def file(self, epochs: int) -> Place:
        """The file of its scores after so many epochs."""
        return scores_file(self.place, epochs)


def read_scores(path: Place, identity: Identity, image_ids: Sequence[str]) -> Floats | Failed:
    """Reads a model's scores of these images. Raises DataError, and MismatchError for a model of another study."""
    file = read_held_out(path)
    check_identity(file.identity, identity, str(path))
    if file.failed:
        return Failed(file.failed)
    if file.image_ids != list(image_ids):
        many = len(file.image_ids)
        raise DataError(f"{path}: has the scores of {many} other images than the {len(image_ids)} left out")
    return file.scores


def train(task: FoldTask, data: TrainingData, splits: Splits, make: CrossValidationFactory, device: str) -> None:
    """Brings the model of `task` to its epochs, from where it was saved. That it cannot be trained is a result too.

    Raises where nothing can be written any more.
    """
    apart, fold = leave_out(splits, task.without)
    images = data.image_ids[apart.fold(data, fold).test_images].tolist()
    try:
        validation: Any = make(task.config, data, apart, device)
        for mark, scores in _scores_at_marks(task, validation, fold):
            write_held_out(task.file(mark), task.identity, images, scores)
    except Exception as error:
        log.debug("%s failed", task.name, exc_info=error)
        if cannot_write(error):
            raise
        write_held_out(task.file(task.epochs), task.identity, [], np.empty(0), failed=reason_of(error))


def _scores_at_marks(task: FoldTask, validation: FoldValidation, fold: int) -> Iterator[tuple[int, Floats]]:
    """Yields the scores at each mark that is not there yet, after saving the model."""
    marks = [mark for mark in task.marks if mark <= task.epochs and not task.file(mark).is_file()]
    if not marks:  # the worker died after its work was done
        return
    with CheckpointStore(task.place / CHECKPOINT, validation.identity, every=SAVE_EVERY) as store:
        checkpoint = store.load()
        if checkpoint is not None and checkpoint[0] <= marks[0]:  # else scores were lost that it cannot give any more
            validation.load_state_dict(checkpoint[1])
        for mark in marks:
            for row in validation.advance_fold(fold, mark):
                if store.due:
                    store.save(row["epoch"], validation.state_dict())
            if mark < task.marks[-1]:
                store.save(mark, validation.state_dict())
                store.wait()
            yield mark, validation.fold_scores(fold)
        if task.epochs == task.marks[-1]:
            store.clear()


def run_fold_tasks(
    waiting: Callable[[Set[Place]], Sequence[FoldTask]],
    variants: Mapping[int, Variant],
    data: TrainingData,
    make: CrossValidationFactory,
    cluster: Cluster,
) -> bool:
    """Trains the models that are `waiting` on the cluster that is joined, as many side by side as there is room for.

    `waiting` is called again after each model with the places at which models are being trained: those are left alone,
    as models in one place go on from each other. True when nothing waits any more, False if it was stopped. A model
    that cannot be trained, or whose worker dies too often, is a result too: its file says why. Raises where nothing can
    be written any more.
    """
    shared = _Shared.put(variants, data, make)
    running: dict[Any, FoldTask] = {}
    left = gone()
    while True:
        _start(waiting, running, shared, cluster.share)
        if not running:
            return True
        done = wait_for_one(running, cluster)
        if done is None:
            return False
        task = running.pop(done)
        try:
            result_of(done)
        except RayError as error:
            left, before = gone(), left
            if left == before:  # no machine that has left is to blame
                log.debug("%s lost its workers", task.name, exc_info=error)
                why = f"its worker process died {RETRIES + 1} times"
                write_held_out(task.file(task.epochs), task.identity, [], np.empty(0), failed=why)


@dataclass(frozen=True)
class _Shared:
    """What all tasks share, in Ray's object store."""

    data: Any
    variants: Mapping[int, Any]
    make: CrossValidationFactory

    @classmethod
    def put(cls, variants: Mapping[int, Variant], data: TrainingData, make: CrossValidationFactory) -> "_Shared":
        return cls(ray.put(data), {number: ray.put(variant) for number, variant in variants.items()}, make)


def _start(
    waiting: Callable[[Set[Place]], Sequence[FoldTask]],
    running: dict[Any, FoldTask],
    shared: _Shared,
    share: TrialResources,
) -> None:
    """Starts what waits in places where nothing is trained, the shortest first."""
    remote = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=RETRIES)(_train_one)
    busy = {task.place for task in running.values()}
    for task in sorted(waiting(frozenset(busy)), key=lambda task: task.epochs):
        if task.place not in busy:
            busy.add(task.place)
            variant = shared.variants[task.variant]
            running[remote.remote(task, shared.data, variant, shared.make, share.device)] = task


def wait_for_one(running: Collection[Any], cluster: Cluster) -> Any:
    """Waits for the next of these Ray tasks that ends, and returns it; None if all were stopped."""
    while True:
        done, _ = ray.wait(list(running), timeout=POLL)
        cluster.tick()
        if cluster.stopping():
            for reference in running:
                ray.cancel(reference, force=True)
            ray.wait(list(running), num_returns=len(running), timeout=10.0)  # none may write any more
            return None
        if done:
            return done[0]


def _train_one(task: FoldTask, data: TrainingData, variant: Variant, make: CrossValidationFactory, device: str) -> None:
    import torch

    torch.set_num_threads(1)  # as the trials' workers: sums over several threads have another order
    train(task, variant.change(data), variant.splits, make, device)
