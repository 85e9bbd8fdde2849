"""The figure of an audit's page."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from diagram_ray.evaluation.style import DASHES, FOLDS, figure


@figure(4.7, 2.9)
def histogram(ax: Axes, classes: Mapping[str, Sequence[float]]) -> None:
    """The mean histogram of each class: the part of the breast's pixels in each bin of the grey scale."""
    for number, (name, parts) in enumerate(classes.items()):
        edges = np.linspace(0, 1, len(parts) + 1)
        ax.stairs(parts, edges, color=FOLDS[number % len(FOLDS)], linestyle=DASHES[number % len(DASHES)],
                  linewidth=1.8, label=name)  # fmt: skip
    ax.set(xlim=(0, 1), xlabel="grey level, 0 darkest to 1 brightest", ylabel="part of the breast")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="upper right")
