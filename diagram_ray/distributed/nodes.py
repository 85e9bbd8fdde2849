"""Machines that come and go: how many have left, and which have been asked to leave."""

import time
from collections.abc import Callable, Iterable

import ray

from diagram_ray.search.messages import Device

EVERY = 1.0
"""Seconds between two questions to the cluster."""


def gone() -> int:
    """The number of machines that have left the cluster so far, in whatever way."""
    return sum(not node["Alive"] for node in ray.nodes())  # type: ignore[no-untyped-call]


class DrainNotice:
    """Whether one of `nodes` (Ray's ids) has been asked to leave: a spot machine, one drained or scaled away."""

    def __init__(self, nodes: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._nodes = frozenset(nodes)
        self._clock = clock
        self._asked_at = -EVERY
        self._noticed = False

    def __call__(self) -> bool:
        """The notice as it was a second ago at most. Once there, it stands."""
        if not self._noticed and self._clock() - self._asked_at >= EVERY:
            self._asked_at = self._clock()
            self._noticed = not self._nodes.isdisjoint(_draining())
        return self._noticed


def _draining() -> Iterable[str]:
    # As Ray Train asks; there is no public call for a process outside of it.
    return set(ray._private.state.state.get_draining_nodes())


def here() -> DrainNotice:
    """The notice of the machine that this process runs on."""
    return DrainNotice([ray.get_runtime_context().get_node_id()])


def own_device() -> Device:
    """The device that this process computes on, as Ray assigned it."""
    gpus = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    return Device(ray.util.get_node_ip_address(), ",".join(map(str, gpus)))  # type: ignore[no-untyped-call]
