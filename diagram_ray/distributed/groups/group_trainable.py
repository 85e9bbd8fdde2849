"""A trial on several devices, as Ray Tune sees it: a process that does nothing itself but asks a worker group."""

from typing import Any

from ray import tune

from diagram_ray.distributed.groups.train_group import WorkerGroup
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.work import Work
from diagram_ray.errors import DiagramError
from diagram_ray.search.messages import TrialReport
from diagram_ray.storage.paths import Place


class GroupWorker(tune.Trainable):
    """A trainable that serves one trial after another, with a worker group that stays between them.

    The group has the study's name and the number of its first trial: so Ray calls it.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], work: Work, share: TrialResources, inputs: tuple[Any, Any], scratch: Place
    ) -> None:
        """Starts the group; called once in each process. `inputs`: references of data and splits."""
        self._name = f"{work.study}-group-{config['number']}"
        self._group = WorkerGroup(self._name, work, share, inputs, scratch / f"group-{config['number']:04d}")
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begins the next trial; Tune's name for it."""
        self._number = new_config["number"]
        self._group.begin(self._number, new_config["params"])
        self._place: Any = None
        return True

    def step(self) -> dict[str, Any]:
        """Returns one round; but first the group's `place`, so that the driver knows it if this process dies."""
        try:
            if self._place is None:
                self._place = self._group.place()
                return {"place": self._place}
            return {"round": self._group.next_round()}
        except DiagramError as error:
            return {"round": TrialReport(self._number, 0, 0, 0, storage_failure=str(error))}

    def cleanup(self) -> None:
        """Ends the group; called when the process is not needed any more."""
        self._group.close()

    def __repr__(self) -> str:
        return f"{self._name}: trials"  # in Ray's list of actors; it is asked for once
