"""One process leads, the others follow: a cross-validation in many processes, used as if it were in one.

The first process alone decides what is done next, writes files and talks to whoever asked for the training. Before it
calls a method of its cross-validation that concerns all, it tells the others, and they call it too.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from diagram_ray.errors import DiagramError
from diagram_ray.storage.paths import Place
from diagram_ray.training.parallel.parallel_cross_validation import ParallelCrossValidation
from diagram_ray.training.parallel.process_group import ProcessGroup


class WorkersLost(BaseException):
    """Another process is gone or does something else: what this one does has no meaning any more.

    Not an Exception, because it says nothing of the trial: nobody must take it for a reason to give the trial up.
    """


class LeaderCrossValidation:
    """The leader's cross-validation: behaves as the one it is given, and takes the followers along."""

    def __init__(self, own: ParallelCrossValidation, world: ProcessGroup) -> None:
        self._own, self._world = own, world
        self.measure, self.scores, self.predictions = own.measure, own.scores, own.predictions  # they ask nobody else

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        """Brings the folds to `epochs` epochs, as `CrossValidation.advance`."""
        while rows := self._all("advance_once", folds, epochs):
            yield rows

    @property
    def identity(self) -> dict[str, Any]:
        """What a checkpoint must be of, as `CrossValidation.identity`."""
        return self._own.identity

    def state_dict(self) -> dict[str, Any]:
        """The state of all folds, as `CrossValidation.state_dict`."""
        state: dict[str, Any] = self._all("state_dict")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes the state back, as `CrossValidation.load_state_dict`, and gives the followers their folds' states."""
        with _together():
            self._world.from_first(("load_state_dict", (None,)))
            self._own.load_state_dict(state)

    def export(self, folder: Place) -> None:
        """Writes config.yaml and the folds' weights, as `CrossValidation.export`."""
        self._all("export", folder)

    def dismiss(self) -> None:
        """Lets the followers go."""
        with _together():
            self._world.from_first(None)

    def _all(self, method: str, *arguments: Any) -> Any:
        with _together():
            self._world.from_first((method, arguments))
            return getattr(self._own, method)(*arguments)


@contextmanager
def _together() -> Iterator[None]:
    """Tells failures of the training, which all processes have alike, and of disks from those of the others."""
    try:
        yield
    except (DiagramError, OSError):
        raise
    except Exception as error:
        raise WorkersLost(f"{type(error).__name__}: {error}") from error


def run_follower(own: ParallelCrossValidation, world: ProcessGroup) -> None:
    """Does what the leader says until it lets go.

    A DiagramError is raised in all processes alike, so the leader has it as well and decides what follows.
    """
    nothing: tuple[str, tuple[Any, ...]] | None = None
    while (call := world.from_first(nothing)) is not None:
        method, arguments = call
        with suppress(DiagramError):
            getattr(own, method)(*arguments)
