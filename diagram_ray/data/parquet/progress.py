"""How far preparation is, in numbers and in words."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

WINDOW = 60.0
"""Seconds that a speed is the mean of."""


@dataclass(frozen=True)
class PreparationProgress:
    """How far preparation is."""

    what: str
    """The stage: 'preparing images' or 'writing shards'."""
    done: int
    total: int
    rejects: int = 0
    megapixels: float = 0.0
    """Megapixels decoded in this run."""


class Speed:
    """Files and megapixels a second over the last minute. What was there before the first tally does not count."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, PreparationProgress]] = deque()

    def text(self, tally: PreparationProgress) -> str:
        """The progress in words, for example '12.3 files/s, 150 megapixels/s, 4 rejected'; '' where there is nothing to
        say."""
        now = self._clock()
        while len(self._seen) > 1 and now - self._seen[0][0] > WINDOW:
            self._seen.popleft()
        parts = [f"{tally.rejects} rejected"] if tally.rejects else []
        if tally.megapixels and self._seen:
            began, first = self._seen[0]
            seconds = max(now - began, 1e-3)
            parts[:0] = [
                f"{(tally.done - first.done) / seconds:.1f} files/s",
                f"{(tally.megapixels - first.megapixels) / seconds:.0f} megapixels/s",
            ]
        self._seen.append((now, tally))
        return ", ".join(parts)
