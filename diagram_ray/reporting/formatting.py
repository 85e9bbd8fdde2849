"""Figures as text, in the same way wherever they are shown."""

from typing import Any

from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.verdict import signed


def interval_text(interval: Interval) -> str:
    """The two ends of an interval."""
    return f"{interval.low:.3f} to {interval.high:.3f}"


def signed_interval_text(interval: Interval) -> str:
    """The two ends of an interval of differences, each with its sign."""
    return f"{signed(interval.low)} to {signed(interval.high)}"


def listed(words: list[str]) -> str:
    """The words of a list in a sentence."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def short(value: Any) -> str:
    """The value of a parameter in few characters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def rough_duration(seconds: float) -> str:
    """A guessed time in the one unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def duration(seconds: float) -> str:
    """A measured time in hours, minutes and seconds: the two largest that are not zero."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
