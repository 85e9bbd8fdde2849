"""The page of a study that runs, as HTML that keeps itself up to date."""

from diagram_ray.monitoring.snapshot import StudySnapshot
from diagram_ray.reporting.templates_env import environment

SHOWN = 200
"""Most trials that are shown, the newest."""
DEVICES = 8
"""Most devices that are named."""


def live_page(snapshot: StudySnapshot, nonce: str) -> str:
    """The page as HTML. `nonce` lets the page's own script run, and no other."""
    rows = [(row, [_shade(value) for value in row.folds]) for row in snapshot.rows[:SHOWN]]
    devices = [f"{name} ({count} workers)" if count > 1 else name for name, count in snapshot.devices.items()]
    shown = devices[:DEVICES] + ["and others"] * (len(devices) > DEVICES)
    page = environment().get_template("live.html.j2")
    return page.render(snapshot=snapshot, rows=rows, hidden=len(snapshot.rows) - len(rows), devices=shown, nonce=nonce)


def _shade(auc: float) -> str:
    """The style of a square: from nothing at 0.5 to blue at 1; below 0.5 towards orange, in light and dark pages."""
    part = min(1.0, abs(auc - 0.5) * 2)
    red, green, blue = (0, 114, 178) if auc >= 0.5 else (213, 94, 0)
    return f"background: rgb({red} {green} {blue} / {part * 0.85:.2f}); color: {'#fff' if part > 0.9 else 'inherit'}"
