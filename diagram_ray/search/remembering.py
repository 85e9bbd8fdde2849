"""Which trials a sampler still looks at when there are thousands: TPE's time grows with their number.

The latest ones, and of those before them the best. TPE takes at most 25 trials for good ones, so its idea of the good
is that of the whole study; its idea of the others, in which it gives older ones less weight anyway, is of the latest.
Until 600 trials nothing is forgotten.
"""

import heapq
from collections.abc import Mapping

from diagram_ray.results import Trial, TrialState

LATEST = 500
STEP = 100
"""Trials after which older ones are forgotten, all at once."""
BEST = 25


def first_remembered(number: int, lookback: int) -> int:
    """The first trial that the sampler of trial `number` looks at; all before it have ended."""
    return max(0, number - max(LATEST, lookback)) // STEP * STEP


def best_before(since: int, trials: Mapping[int, Trial]) -> list[Trial]:
    """The best complete ones before trial `since`, in the order of their numbers; the earlier one of equals."""
    scored = [
        (trial.last.auc_mean, -number)
        for number in range(since)
        if (trial := trials[number]).state is TrialState.COMPLETE and trial.last
    ]
    return [trials[number] for number in sorted(-place for _, place in heapq.nlargest(BEST, scored))]
