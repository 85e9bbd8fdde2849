"""Intervals of AUC drawn by the page itself: positions on a common scale, in per cent of its width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diagram_ray.evaluation.estimates.winner import ControlCheck
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.reporting.formatting import interval_text

LOWEST = 0.4


@dataclass(frozen=True)
class Line:
    """One interval of the picture."""

    label: str
    interval: Interval
    look: str = ""
    """`main` for the estimate that counts, `chance` where the interval is what chance allows."""


def chance(control: ControlCheck | None) -> list[Line]:
    """The no-signal control's line, if there was one."""
    if control is None:
        return []
    allowed = Interval(control.value, control.low, control.high)
    return [Line("No-signal control, and what chance allows", allowed, "chance")]


def draw(lines: Sequence[Line]) -> dict[str, Any]:
    """Positions of the lines, of 0.5, and of the scale's ticks. The scale ends at 1 and begins at 0.4 or below."""
    bottom = min([LOWEST, *(math.floor(10 * line.interval.low) / 10 for line in lines)])

    def at(auc: float) -> float:
        return round(100 * (min(max(auc, bottom), 1.0) - bottom) / (1 - bottom), 2)

    ticks = [tick / 10 for tick in range(round(10 * bottom), 11)]
    return {
        "guess": at(0.5),
        "ticks": [{"at": at(tick), "text": f"{tick:.1f}"} for tick in ticks],
        "lines": [
            {
                "label": line.label,
                "look": line.look,
                "left": at(line.interval.low),
                "width": round(at(line.interval.high) - at(line.interval.low), 2),
                "at": at(line.interval.value),
                "value": f"{line.interval.value:.3f}",
                "reach": interval_text(line.interval),
            }
            for line in lines
        ],
    }
