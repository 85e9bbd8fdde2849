"""The report's figures. Each function returns one picture as a data URI; titles and words stand in the page.

They are small and many rather than large and few, so that a page can lay them out beside each other or, on a narrow
screen, under each other, always at the size at which they were made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from diagram_ray.evaluation.metrics import MeanRoc, Roc
from diagram_ray.evaluation.plots.style import BLUE, DASHES, FOLDS, INK, ORANGE, QUIET, RED, figure
from diagram_ray.results import TrialState

Limits = tuple[float, float]
NEAR_GUESSING = 0.7


@figure(4.7, 4.3)
def roc(ax: Axes, curves: Sequence[Roc], mean: MeanRoc, auc: str) -> None:
    """The folds' ROC curves, their vertical mean and a band of one standard deviation (the paper's Fig. 2)."""
    ax.plot([0, 1], [0, 1], color=QUIET, linewidth=1, linestyle="--", label="guessing")
    for number, curve in enumerate(curves):
        ax.plot(curve.false, curve.true, color="#8fa3b3", linewidth=0.9, label=None if number else "each fold")
    low, high = np.clip(mean.true - mean.sd, 0, 1), np.clip(mean.true + mean.sd, 0, 1)
    ax.fill_between(mean.false, low, high, color=BLUE, alpha=0.15, linewidth=0, label="± 1 sd")
    ax.plot(mean.false, mean.true, color=BLUE, linewidth=2.2, label=f"mean, {auc}")
    ax.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    ax.set(xlabel="false positive rate (1 − specificity)", ylabel="true positive rate (sensitivity)")
    ax.legend(loc="lower right")


@figure(2.55, 2.15)
def scatter(ax: Axes, trials: pd.DataFrame, parameter: str, log: bool, best: int | None, limits: Limits) -> None:
    """AUC of every trial against one searched parameter; what failed lies on the lower edge.

    `trials` has `number, state, auc_mean` and the column `parameter`, whose axis is logarithmic if `log`; `limits` are
    those of AUC.
    """
    values = trials[parameter]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        x = values.astype(float)
        _numeric_axis(ax, x, log)
    else:
        names = sorted({str(value) for value in values.dropna()})
        x = values.map(lambda value: names.index(str(value)) if pd.notna(value) else np.nan).astype(float)
        ax.set_xticks(range(len(names)), [_short(name) for name in names])
        ax.set_xlim(-0.5, len(names) - 0.5)
    _points(ax, x, trials, best, limits)
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


@figure(4.9, 3.5)
def history(ax: Axes, trials: pd.DataFrame, best: int | None, limits: Limits) -> None:
    """AUC of the trials in their order, and the best complete one so far."""
    _points(ax, trials["number"].astype(float), trials, best, limits)
    complete = trials[trials["state"] == TrialState.COMPLETE]
    if len(complete):
        so_far = complete["auc_mean"].cummax()
        last = [float(trials["number"].max())]
        ax.step([*complete["number"], *last], [*so_far, so_far.iloc[-1]], where="post", color=BLUE, linewidth=1.2)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set(xlabel="trial", ylabel="AUC at the last rung reached")


@figure(4.9, 3.5)
def pareto(ax: Axes, trials: pd.DataFrame, size: str, front: pd.DataFrame, best: int | None, limits: Limits) -> None:
    """AUC of every trial against a size of its model, the column `size`; a line joins the trials of the front."""
    line = front.sort_values(size)
    ax.plot(line[size], line["auc_mean"], color=BLUE, linewidth=1.2, zorder=2)
    x = trials[size].astype(float)
    _numeric_axis(ax, x[trials["auc_mean"].notna()], log=True)
    _points(ax, x, trials[["number", "state", "auc_mean"]], best, limits)
    ax.set(xlabel=size.replace("_", " "), ylabel="AUC at the last rung reached")


@figure(3.25, 2.3)
def curves(ax: Axes, table: pd.DataFrame, column: str) -> None:
    """One column of the best trial's curves against the epoch: each fold (thin) and their mean (thick)."""
    for at, (fold, part) in enumerate(table.groupby("fold")):
        colour, dash = FOLDS[at % len(FOLDS)], DASHES[at % len(DASHES)]
        label = f"fold {fold}"
        ax.plot(part["epoch"], part[column], color=colour, linestyle=dash, linewidth=1, alpha=0.85, label=label)
    mean = table.groupby("epoch")[column].mean()
    ax.plot(mean.index, mean, color=INK, linewidth=2.2, label="mean", marker="o" if len(mean) == 1 else None)
    if column == "auc":
        ax.axhline(0.5, color=QUIET, linewidth=1, linestyle="--")
        ax.legend(loc="lower right", ncols=2, fontsize=7.5, handlelength=2.4)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.set(xlabel="epoch")


@figure(3.25, 2.3)
def fit(ax: Axes, table: pd.DataFrame) -> None:
    """The `training_auc` of the best trial's curves beside `auc`, on its test folds: folds (thin) and means (thick)."""
    lines = (("training_auc", "training images", ORANGE, "--"), ("auc", "test images", INK, "-"))
    for column, label, colour, dash in lines:
        for _, part in table.groupby("fold"):
            ax.plot(part["epoch"], part[column], color=colour, linestyle=dash, linewidth=0.8, alpha=0.35)
        mean = table.groupby("epoch")[column].mean()
        marker = "o" if len(mean) == 1 else None
        ax.plot(mean.index, mean, color=colour, linestyle=dash, linewidth=2.2, label=label, marker=marker)
    ax.axhline(0.5, color=QUIET, linewidth=1, linestyle=":")
    ax.legend(loc="lower right", fontsize=8)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.set(xlabel="epoch")


def auc_limits(trials: pd.DataFrame) -> Limits:
    """One range of AUC for all pictures of the trials: every trial is in it, and 0.5 where a trial comes near it."""
    known = trials["auc_mean"].dropna()
    low, high = min(known, default=0.5), max([0.6, *known])
    low = min(low, 0.5) if low < NEAR_GUESSING else min(low, high - 0.05)
    return low - 0.08 * (high - low), high + 0.06 * (high - low)


def _points(ax: Axes, x: "pd.Series[float]", trials: pd.DataFrame, best: int | None, limits: Limits) -> None:
    ax.set_ylim(*limits)
    ax.axhline(0.5, color=QUIET, linewidth=1, linestyle="--", zorder=1)
    looks: tuple[tuple[TrialState, dict[str, Any]], ...] = (
        (TrialState.RUNNING, {"marker": "|", "color": QUIET, "s": 30}),
        (TrialState.PRUNED, {"marker": "o", "facecolors": "white", "edgecolors": "#7b8a97", "s": 20}),
        (TrialState.FAIL, {"marker": "x", "color": RED, "s": 26, "linewidths": 1.4, "clip_on": False}),
        (TrialState.COMPLETE, {"marker": "o", "color": BLUE, "s": 26}),
    )
    floor = trials["auc_mean"].where(trials["state"] != TrialState.FAIL, limits[0])
    for state, look in looks:
        rows = trials["state"] == state
        ax.scatter(x[rows], floor[rows], zorder=3, **look)
    rows = trials["number"] == best
    ax.scatter(x[rows], floor[rows], marker="D", color=ORANGE, edgecolors="white", s=62, zorder=4)


def _numeric_axis(ax: Axes, x: "pd.Series[float]", log: bool) -> None:
    low, high = float(x.min()), float(x.max())
    if log and low > 0:
        ax.set_xscale("log")
        _decades(ax.xaxis, low, high)
    else:
        whole = bool((x.dropna() == x.dropna().round()).all())
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=whole, steps=[1, 2, 5, 10]))


def _decades(axis: Axis, low: float, high: float) -> None:
    """Plain numbers at decades; between them where there are too few decades to read a value from."""
    between = (1.0, 2.0, 5.0) if high / low < 30 else (1.0, 3.0) if high / low < 100 else (1.0,)
    axis.set_major_locator(LogLocator(subs=between))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float, _: object) -> str:
    if value < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:,.0f}" if value >= 1000 else f"{value:g}"


def _short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
