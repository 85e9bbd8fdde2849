"""The fit of the best trial's networks to the images that they were trained on, beside the test images."""

import pandas as pd

from diagram_ray.evaluation.underfitting import underfits
from diagram_ray.evaluation.verdict import signed
from diagram_ray.reporting.study_data import StudyData

COLUMNS = ["fold", "epoch", "training_auc", "auc"]


def last_epochs(study_data: StudyData) -> pd.DataFrame:
    """The table `fold, epoch, training_auc, auc` after each fold's last epoch of training; empty if not recorded.

    After training has stopped early there are epochs in which nothing is trained.
    """
    curves = study_data.curves_of_best
    if "training_auc" not in curves:
        return pd.DataFrame(columns=COLUMNS)
    return curves.dropna(subset=COLUMNS).sort_values("epoch").groupby("fold").tail(1).sort_values("fold")[COLUMNS]


def training_auc(study_data: StudyData) -> float | None:
    """The mean training AUC over the folds; None if it is not recorded."""
    table = last_epochs(study_data)
    return None if table.empty else float(table["training_auc"].mean())


def underfitting(study_data: StudyData) -> str:
    """The warning that the networks underfit; empty if they fit, or if it is not known."""
    if study_data.best is None:
        return ""
    return underfits(training_auc(study_data), float(study_data.best["auc_mean"]), int(study_data.best["epochs"]))


def warnings(study_data: StudyData) -> list[str]:
    """Warnings for the first page, at most one."""
    warning = underfitting(study_data)
    return [f"The best trial {warning}."] if warning else []


def rows(study_data: StudyData) -> list[dict[str, str]]:
    """The page's table: each fold, and their mean."""
    table = last_epochs(study_data)
    if table.empty:
        return []
    folds = [
        _row(f"{fold:.0f}", f"{epoch:.0f}", *scores) for fold, epoch, *scores in table.to_numpy(dtype=float).tolist()
    ]
    return [*folds, _row("mean", "", *table[["training_auc", "auc"]].mean())]


def _row(fold: str, epoch: str, training: float, test: float) -> dict[str, str]:
    scores = {"training": f"{training:.3f}", "test": f"{test:.3f}", "difference": signed(training - test)}
    return {"fold": fold, "epoch": epoch, **scores}
