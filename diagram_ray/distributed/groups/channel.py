"""The channel between Ray Tune's process and the worker group that trains: one job out, rounds back, one at a time.

An actor, so that it outlives the workers: a group that lost a worker is started anew and takes the same job again. It
belongs to the process that asked, and dies with it; then the group's first worker ends, and with it the group.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from diagram_ray.search.messages import TrialReport


@dataclass(frozen=True)
class Job:
    """A trial that is to be trained."""

    number: int
    params: dict[str, Any]


class GroupChannel:
    """A channel to a worker group. All methods may be waiting at the same time. `failures_allowed`: times that a job is
    taken up again."""

    def __init__(self, failures_allowed: int) -> None:
        self._allowed = failures_allowed
        self._changed = asyncio.Condition()
        self._job: Job | None = None
        self._failures = 0
        self._closed = False
        self._round: TrialReport | None = None  # handed over, and not yet fetched
        self._turn = 0  # a worker that waits goes on when this rises
        self._place: Any = None

    # --- for the process that wants trials trained ---

    async def begin(self, job: Job) -> None:
        """Sets the next job; whatever was going on before is to stop."""
        async with self._changed:
            self._job, self._round, self._failures = job, None, 0
            self._changed.notify_all()

    async def next_round(self) -> TrialReport:
        """Lets the workers go on from the round that was fetched last, and waits for their next report."""
        async with self._changed:
            if self._round is None:
                self._turn += 1
                self._changed.notify_all()
            await self._changed.wait_for(lambda: self._round is not None)
            report, self._round = self._round, None
            assert report is not None  # noqa: S101 - that is what was waited for
            return report

    async def place(self) -> Any:
        """Waits until the group has begun to work; returns the placement group that it occupies."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._place is not None)
            return self._place

    async def close(self) -> None:
        """Ends the work: the workers get no more jobs."""
        async with self._changed:
            self._job, self._closed = None, True
            self._changed.notify_all()

    # --- for the first worker ---

    async def arrive(self, place: Any) -> None:
        """Notes that the group has started, in this placement group."""
        async with self._changed:
            self._place = place
            self._changed.notify_all()

    async def take(self) -> Job | None:
        """Waits for a job, the one under way if there is one; None: there are no more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._job is not None)
            return self._job

    async def hand_over(self, number: int, report: TrialReport) -> bool:
        """Hands over a round of trial `number`, and waits until it is known whether the trial goes on."""
        async with self._changed:
            turn = self._turn
            if self._goes_on(number):
                self._round = report
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._turn > turn or not self._goes_on(number))
            return self._goes_on(number)

    # --- for the group's controller ---

    async def failed(self, why: str, excused: bool = False) -> None:
        """Counts a failure: the group lost a worker and will be started anew; too often, and the job has failed.

        It is `excused` if a machine has gone meanwhile.
        """
        async with self._changed:
            self._failures += not excused
            if self._job is not None and self._failures > self._allowed:
                times = f"its workers died {self._failures} times, the last time because: {why}"
                self._round = TrialReport(self._job.number, 0, 0, 0, failed=times)
                self._job = None
                self._changed.notify_all()

    def _goes_on(self, number: int) -> bool:
        return self._job is not None and self._job.number == number
