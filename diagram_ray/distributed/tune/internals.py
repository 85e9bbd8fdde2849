"""Changes of what Tune's controller does otherwise than a search needs it, where it has no public setting for that.

They use private names of Tune's, looked up carefully: a version without them does as it does, a little slower.
"""

import time
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

KEPT = ("_trials", "_live_trials", "_stopped_trials", "_failed_trials", "_trials_to_cache")
"""Names of lists and sets of trials."""
ROOM, START = 0.5, 20.0
"""Seconds in which Ray finds room for a worker where there is some (0.03 were seen), and then starts it."""


def forget(controller: Any, trials: list[Any]) -> None:
    """Tune would keep every trial that has ended, look through all of them in each turn of its loop, and describe each
    in a snapshot in the end. It would also keep its orders to stop workers that it gave up before they had started.
    """
    for trial in trials:
        for name in KEPT:
            kept: Any = getattr(controller, name, ())
            if trial in kept:
                kept.remove(trial)
    workers = getattr(controller, "_actor_manager", None)
    orders: Any = getattr(workers, "_pending_actors_to_enqueued_actor_tasks", {})
    starting: Any = getattr(workers, "_pending_actors_to_attrs", orders)
    for worker in [worker for worker in orders if worker not in starting]:
        del orders[worker]


def let_workers_start(controller: Any, clock: Callable[[], float] = time.monotonic) -> None:
    """A trial that waits for its worker to start would take one that becomes free meanwhile, and the new one would be
    given up. With trials shorter than a start that goes on for ever, and all but one of the machines do nothing. From
    now on the trial waits, where there is room for its worker; the next trial takes the free one.
    """
    take: Any = getattr(controller, "_maybe_reuse_cached_actor", None)
    if take is not None:
        whole = take.__self__  # `controller` is a view of it
        whole._maybe_reuse_cached_actor = _InTime(whole, take, clock)


class _InTime:
    """Gives a trial a free worker (`take`), unless its own is about to start.

    Where no room was found for a worker, nobody waits for room again before as much time has gone by as a start takes:
    trials may be many more than machines, and short.
    """

    def __init__(self, controller: Any, take: Callable[[Any], bool], clock: Callable[[], float]) -> None:
        self._controller, self._take, self._clock = controller, take, clock
        self._since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()
        self._full = float("-inf")

    def __getstate__(self) -> dict[str, Any]:
        """Returns nothing: Tune pickles its controller into a snapshot, which is never read."""
        return {}

    def __call__(self, trial: Any) -> bool:
        worker = self._controller._trial_to_actor.get(trial)
        starts = worker is not None and worker not in self._controller._started_actors
        return not (starts and self._waits_for(worker)) and self._take(trial)

    def _waits_for(self, worker: Any) -> bool:
        now = self._clock()
        waited = now - self._since.setdefault(worker, now)
        if self._controller._actor_manager.is_actor_started(worker):  # it has its room, and not more
            return waited < START
        if waited >= ROOM:
            self._full = now
        return now - self._full >= START


def keep_idle_workers(controller: Any, room: Any, count: int, stay: bool) -> None:
    """Keeps `count` more workers of that `room` for later trials; or, from now on, no longer (not `stay`).

    Tune would keep one and stop the others; a worker that waits for an earlier trial to end would be lost, and a new
    one takes seconds.
    """
    cache: Any = getattr(controller, "_actor_cache", None)
    if cache is not None:
        change = cache.increase_max if stay else cache.decrease_max
        change(room, by=count)
