"""How the figures look: one quiet style, colours of Okabe and Ito that colour-blind readers can tell apart.

Whatever a colour says is also said by the shape of a marker, the kind of a line, or words.
"""

import base64
import io
from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

INK, QUIET, HAIR = "#22303c", "#5b6b79", "#dfe5ea"
BLUE, ORANGE, GREEN, PURPLE, SKY, RED = "#0072b2", "#d55e00", "#009e73", "#a45a86", "#56b4e9", "#b3261e"
FOLDS = (BLUE, ORANGE, GREEN, PURPLE, SKY, "#8a7300", QUIET)
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#9aa7b2",
    "axes.linewidth": 0.8,
    "axes.labelcolor": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": HAIR,
    "grid.linewidth": 0.7,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "figure.facecolor": "white",
    "svg.hashsalt": "diagram_ray",
    "text.parse_math": False,
}


def figure(width: float, height: float) -> Callable[[Callable[Concatenate[Axes, P], None]], Callable[P, str]]:
    """Makes of a function that draws on one Axes a function that returns the picture as a data URI (SVG).

    Width and height in inches of 72 points, which a browser shows as 96 pixels. Text is drawn as outlines, so that the
    picture looks the same everywhere, and is never read as mathematics.
    """

    def decorate(draw: Callable[Concatenate[Axes, P], None]) -> Callable[P, str]:
        @wraps(draw)
        def drawn(*args: P.args, **kwargs: P.kwargs) -> str:
            with rc_context(STYLE):
                picture = Figure(figsize=(width, height), layout="constrained")
                draw(picture.subplots(), *args, **kwargs)
                return _data_uri(picture)

        return drawn

    return decorate


def _data_uri(picture: Figure) -> str:
    buffer = io.BytesIO()
    picture.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
