"""Importance of the searched settings, by Optuna's PED-ANOVA (Watanabe et al., IJCAI 2023)."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from diagram_ray.search.ladder import Rung
from diagram_ray.search.space import Space

MIN_TRIALS = 10
"""The fewest trials compared: with fewer the best fifth is a single trial or two, and the answer is noise."""
MIN_PART = 0.5
"""The smallest part of all trials compared: fewer are survivors, and what the others died of no longer shows."""
TOP = 0.2


@dataclass(frozen=True)
class Importance:
    """Setting -> its part of the difference between the best fifth of the trials and all of them; the parts sum to 1.

    Empty where nothing can be said, and `note` says why; else `note` says what was compared.
    """

    parts: dict[str, float]
    note: str


def importances(trials: pd.DataFrame, curves: pd.DataFrame, space: Space, rungs: Sequence[Rung]) -> Importance:
    """The importance of each setting. The trials are compared at the highest rung that ten of them and half of them
    reached: AUC of different rungs cannot be compared, and the complete trials alone are few survivors."""
    usable = {name: values for name, values in space.items() if f"params.{name}" in trials and not values.when}
    partial = [name for name, values in space.items() if values.when]
    left_out = f"; not compared, because only some trials have them: {', '.join(partial)}" if partial else ""
    for rung in reversed(rungs):
        scores = _scores_at(curves, rung)
        rows = [_row(row, usable) for _, row in trials[trials["number"].isin(scores)].iterrows()]
        numbers = trials["number"][trials["number"].isin(scores)]
        if len(rows) >= max(MIN_TRIALS, MIN_PART * len(trials)):
            parts = _ped_anova(usable, rows, [scores[n] for n in numbers])
            note = f"{len(rows)} trials compared by their AUC at {rung}"
            return Importance(parts, (note if parts else f"{note} do not differ") + left_out)
    return Importance({}, f"too few trials: {MIN_TRIALS}, and half of all, must have reached the same rung")


def _scores_at(curves: pd.DataFrame, rung: Rung) -> dict[int, float]:
    """Trial -> mean over the rung's folds of AUC after its epochs, for the trials that have all of these folds."""
    at = curves[(curves["epoch"] == rung.epochs) & (curves["fold"] < rung.folds)]
    means = at.groupby("trial")["auc"].agg(["mean", "count"])
    whole = means[(means["count"] == rung.folds) & means["mean"].notna()]
    return dict(zip(whole.index.tolist(), whole["mean"].tolist(), strict=True))


def _row(row: "pd.Series[Any]", space: Space) -> dict[str, Any]:
    """A trial's parameters as Optuna wants them: a table gives 3.0 for 3 where a value is missing elsewhere."""
    values = {name: row[f"params.{name}"] for name in space}
    return {name: _plain(value, space[name]) for name, value in values.items() if pd.notna(value)}


def _plain(value: Any, values: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    if values.type == "categorical":
        # A column of several types was stored as text.
        return next((c for c in values.choices if c == value or str(c) == str(value)), value)
    return int(value) if values.type == "int" else float(value)


def _ped_anova(space: Space, rows: list[dict[str, Any]], scores: list[float]) -> dict[str, float]:
    import optuna

    distributions = {name: values.distribution() for name, values in space.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    for params, score in zip(rows, scores, strict=True):
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions={name: distributions[name] for name in params}, value=score
            )
        )
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=TOP)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        parts: Mapping[str, float] = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: float(part) for name, part in parts.items()} if sum(parts.values()) > 0 else {}
