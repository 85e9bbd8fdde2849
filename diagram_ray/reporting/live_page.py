"""The page of a study that runs: what there is to see, as HTML that keeps itself up to date."""

from diagram_ray.reporting.html import environment
from diagram_ray.search.sight import Sight

SHOWN = 200
"""Trials: the newest."""


def live_page(sight: Sight, nonce: str) -> str:
    """`nonce` lets the page's own script run, and no other."""
    rows = [(row, [_shade(value) for value in row.folds]) for row in sight.rows[:SHOWN]]
    return environment().get_template("live.html.j2").render(sight=sight, rows=rows, nonce=nonce)


def _shade(auc: float) -> str:
    """From white at 0.5 to blue at 1; below 0.5 towards orange."""
    part = min(1.0, abs(auc - 0.5) * 2)
    end = (0, 114, 178) if auc >= 0.5 else (213, 94, 0)
    red, green, blue = (round(255 + (channel - 255) * part * 0.85) for channel in end)
    return f"background: rgb({red}, {green}, {blue}); color: {'#fff' if part > 0.85 else '#22303c'}"
