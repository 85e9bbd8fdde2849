"""The sentences above the figures: each says what its figure shows, computed from the same numbers."""

import numpy as np

from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import TrialState

LOW_ALARMS = 0.2
RISE = 0.01
"""Least rise of AUC in the last third of the epochs: with less there is nothing to train longer for."""


def of_roc(study_data: StudyData) -> str:
    """A sentence on how many of the positive images are found at a bearable rate of false alarms."""
    mean = study_data.rocs.mean
    sensitivity = float(np.interp(LOW_ALARMS, mean.false, mean.true))
    negative, positive = study_data.classes
    return f"On average {sensitivity:.0%} of “{positive}” is found when {LOW_ALARMS:.0%} of “{negative}” is flagged"


def of_history(study_data: StudyData) -> str:
    """A sentence on whether the best trial stands out."""
    complete = study_data.trials[study_data.trials["state"] == TrialState.COMPLETE]
    if study_data.best is None:
        return "No trial is complete"
    if len(complete) == 1:
        return f"Trial {study_data.number} is the only complete one"
    others = complete[complete["number"] != study_data.number]["auc_mean"]
    gap = float(study_data.best["auc_mean"] - others.max())
    near = int((others > study_data.best["auc_mean"] - study_data.best["auc_sd"]).sum())
    close = f"{near} more within one standard deviation of it" if near else "no other within one standard deviation"
    return f"Trial {study_data.number} is best of {len(complete)} complete ones, by {gap:.3f}; {close}"


def of_importance(study_data: StudyData) -> str:
    """A sentence on the setting that matters most, with its part."""
    parts = study_data.importance.parts
    if not parts:
        return "Which settings matter cannot be said"
    name = max(parts, key=lambda key: parts[key])
    return f"{name} made the largest difference ({parts[name]:.0%})"


def of_curves(study_data: StudyData) -> str:
    """A sentence on where the mean AUC of the best trial was highest, and where it ended: only the latter counts."""
    table = study_data.curves_of_best
    if table.empty:
        return "The best trial's curves are missing"
    mean = table.groupby("epoch")["auc"].mean()
    epochs, values = mean.index.to_numpy(), mean.to_numpy()
    top, last = int(epochs[values.argmax()]), int(epochs[-1])
    if top == last:
        before = float(values[epochs <= last * 2 / 3][-1]) if len(values) > 2 else float(values[0])
        rising = values[-1] - before > RISE
        more = "still rising: longer training may give more" if rising else "hardly rising any more"
        return f"Test AUC of the best trial ended at its highest, {values[-1]:.3f}, {more}"
    return (
        f"Test AUC of the best trial was highest at epoch {top} ({values.max():.3f}) and ended at {values[-1]:.3f}, "
        "which is what counts"
    )


def of_ladder(study_data: StudyData) -> str:
    """A sentence on what the search cost, as a part of the exhaustive one."""
    spent, whole = int(study_data.trials["fold_epochs"].sum()), study_data.ladder.exhaustive(len(study_data.trials))
    part = spent / max(whole, 1)
    return f"{len(study_data.trials)} trials began; dropping the weak ones early left {part:.0%} of the full cost"
