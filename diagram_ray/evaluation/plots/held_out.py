"""The figures of an evaluation on held-out images, each as a data URI: ROC, precision and recall, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from diagram_ray.evaluation.calibration import ReliabilityBin
from diagram_ray.evaluation.metrics import Floats, Roc
from diagram_ray.evaluation.plots.style import BLUE, DASHES, FOLDS, QUIET, figure


@figure(4.7, 4.3)
def roc(ax: Axes, curves: Mapping[str, Roc]) -> None:
    """The ROC curve of each model, by name."""
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)), label="guessing")
    for number, (name, curve) in enumerate(curves.items()):
        ax.plot(curve.false, curve.true, **_look(number), label=name)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
    ax.legend(loc="lower right")


@figure(4.7, 4.3)
def precision_recall(ax: Axes, labels: NDArray[np.int64], scores: Mapping[str, Floats]) -> None:
    """Precision against recall of each model's scores (N,); dotted: the part of the labels that is positive."""
    ax.axhline(labels.mean(), color=QUIET, linewidth=1, linestyle=(0, (1, 2)), label="guessing")
    for number, (name, values) in enumerate(scores.items()):
        order = np.argsort(-values, kind="stable")
        last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
        positive = np.cumsum(labels[order])[last]
        ax.plot(positive / labels.sum(), positive / (last + 1), **_look(number), label=name)
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set(xlabel="recall (sensitivity)", ylabel="precision")
    ax.legend(loc="best")


@figure(4.7, 4.3)
def calibration(ax: Axes, bins: Sequence[ReliabilityBin]) -> None:
    """The part that is positive against the mean score in bins of about equal size, with 95 % intervals."""
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle=(0, (1, 2)), label="scores that mean what they say")
    x = [part.score for part in bins]
    y = [part.observed.value for part in bins]
    below = [max(0.0, part.observed.value - part.observed.low) for part in bins]
    above = [max(0.0, part.observed.high - part.observed.value) for part in bins]
    ax.errorbar(
        x, y, yerr=[below, above], color=BLUE, marker="o", markersize=5, linewidth=1.4, capsize=2, label="images"
    )
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set(xlabel="mean score", ylabel="part that is positive")
    ax.legend(loc="upper left")


def _look(number: int) -> dict[str, Any]:
    return {"color": FOLDS[number % len(FOLDS)], "linestyle": DASHES[number % len(DASHES)], "linewidth": 1.8}
