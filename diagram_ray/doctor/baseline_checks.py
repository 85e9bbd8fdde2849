"""Checks of the scores of trivial baselines and of a reference network in a study's folder.

All of it can be measured anew, without training.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pandas as pd

from diagram_ray.doctor.differences import Finding, check_auc
from diagram_ray.errors import StoreError, one_line
from diagram_ray.results import BASELINE_SCORES, BASELINES, REFERENCE, REFERENCE_SCORES
from diagram_ray.storage.parquet_files import read_table
from diagram_ray.storage.paths import Place, discard

SPLITS = "splits.json"
WHAT = {"the baselines": (BASELINES, BASELINE_SCORES), "the reference network": (REFERENCE, REFERENCE_SCORES)}
"""The files of figures and of scores of each."""


def examine_baselines(folder: Place) -> Iterator[Finding]:
    """Compares the scores with the recorded figures and with the study's folds. Studies without either are sound."""
    for what, files in WHAT.items():
        repair = partial(_forget, folder, files)
        for finding in _examine(folder, *files):
            yield replace(finding, what=f"{finding.what}; tune --resume measures {what} anew", repair=repair)


def _examine(folder: Place, figures: str, scores: str) -> Iterator[Finding]:
    present = [name for name in (figures, scores) if (folder / name).is_file()]
    if present == [scores]:
        yield Finding(figures, f"missing, but {scores} is there")
    if figures not in present:
        return
    try:
        document = json.loads((folder / figures).read_text(encoding="utf-8"))
        if document["unmeasured"]:
            return
        if scores not in present:
            yield Finding(scores, f"missing, but {figures} is there")
            return
        assigned = json.loads((folder / SPLITS).read_text(encoding="utf-8"))["patients"]
        table = read_table(folder / scores).to_pandas()
        yield from _on_folds(scores, table, assigned)
        for group in document["groups"]:
            yield from _agree(scores, table[table["group"] == group["name"]], group["fold_auc"], figures)
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        yield Finding(figures, f"it or {scores} cannot be read: {one_line(error)}")


def _on_folds(scores: str, table: pd.DataFrame, assigned: dict[str, int]) -> Iterator[Finding]:
    """Each patient is in the fold that the study has the patient in."""
    wrong = table["patient_id"].map(assigned) != table["fold"]
    if wrong.any():
        row = table[wrong].iloc[0]
        yield Finding(scores, f"has patient {row['patient_id']} in fold {row['fold']}, unlike {SPLITS}")


def _agree(scores: str, rows: pd.DataFrame, fold_auc: list[float], figures: str) -> Iterator[Finding]:
    """Whether a group's scores have the AUC that is recorded."""
    for fold, recorded in enumerate(fold_auc):
        yield from check_auc(scores, fold, rows[rows["fold"] == fold], recorded, figures)


def _forget(folder: Place, files: tuple[str, ...]) -> None:
    for name in files:
        discard(folder / name)
