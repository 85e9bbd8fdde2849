"""What is wrong with the trivial baselines in a study's folder. All of it can be measured anew, without training."""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd

from diagram_ray.errors import StoreError, told
from diagram_ray.places import Place, discard
from diagram_ray.results import BASELINE_SCORES, BASELINES
from diagram_ray.search.findings import Finding, check_auc
from diagram_ray.search.tables import read_table

SPLITS = "splits.json"
ANEW = "; tune --resume measures the baselines anew"


def examine_baselines(folder: Place) -> Iterator[Finding]:
    """The scores against the figures in baselines.json and the study's folds. Studies without baselines are sound."""
    mend = partial(_forget, folder)
    for finding in _examine(folder):
        yield replace(finding, what=finding.what + ANEW, mend=mend)


def _examine(folder: Place) -> Iterator[Finding]:
    there = [name for name in (BASELINES, BASELINE_SCORES) if (folder / name).is_file()]
    if there == [BASELINE_SCORES]:
        yield Finding(BASELINES, f"missing, but {BASELINE_SCORES} is there")
    if BASELINES not in there:
        return
    try:
        found = json.loads((folder / BASELINES).read_text(encoding="utf-8"))
        if found["unmeasured"]:
            return
        if BASELINE_SCORES not in there:
            yield Finding(BASELINE_SCORES, f"missing, but {BASELINES} is there")
            return
        assigned = json.loads((folder / SPLITS).read_text(encoding="utf-8"))["patients"]
        yield from _agree(found["groups"], read_table(folder / BASELINE_SCORES).to_pandas(), assigned)
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        yield Finding(BASELINES, f"it or {BASELINE_SCORES} cannot be read: {told(error)}")


def _agree(groups: list[dict[str, Any]], scores: pd.DataFrame, assigned: dict[str, int]) -> Iterator[Finding]:
    """Each group's scores have the AUC that is told, on the study's folds."""
    wrong = scores["patient_id"].map(assigned) != scores["fold"]
    if wrong.any():
        row = scores[wrong].iloc[0]
        yield Finding(BASELINE_SCORES, f"has patient {row['patient_id']} in fold {row['fold']}, unlike {SPLITS}")
    for group in groups:
        mine = scores[scores["group"] == group["name"]]
        for fold, recorded in enumerate(group["fold_auc"]):
            yield from check_auc(BASELINE_SCORES, fold, mine[mine["fold"] == fold], recorded, BASELINES)


def _forget(folder: Place) -> None:
    for name in (BASELINES, BASELINE_SCORES):
        discard(folder / name)
