"""Trivial baselines of a study: what grey levels, breast size and the files' facts tell, on the study's own folds.

The same features and the same small learner as the audit's shortcut check, but with the study's target, classes and
folds, so that each image is scored by a model that has not seen its patient and the scores can be paired with those of
the trials. What the pixels tell is computed from the pictures that the networks get; what the files tell comes from the
dataset's manifest.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.auditing.description import PICTURE, picture_numbers
from diagram_ray.auditing.feature_groups import ALL_BREAST, ALL_FILE, EVERYTHING, GROUPS, Floats, Group, with_derived
from diagram_ray.auditing.learner import Question, scores_of
from diagram_ray.config import DataConfig
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import auc

BASELINES = (*GROUPS, ALL_FILE, ALL_BREAST, EVERYTHING)
VERSION = 1
"""The version of the features and the learner: baselines of another version are measured anew."""


@dataclass(frozen=True)
class Baselines:
    """Scores that stand beside those of a study's trials, on the same folds, and what they reach."""

    scores: pd.DataFrame
    """The out-of-fold scores: `group, fold, image_id, patient_id, label, score`."""
    groups: list[dict[str, Any]]
    """The groups of features, each with `name`, `kind`, `note`, `auc_mean` and `fold_auc`."""
    absent: list[str]
    """Groups that nothing is known of, or that are the same for all images."""


def identity(data: TrainingData, splits: Splits) -> str:
    """A hash of all that baselines depend on: where it is the same, so are they."""
    content = f"{VERSION} {data.fingerprint} {data.classes} {splits.to_json()} {data.labels.tolist()}"
    return hashlib.sha256(content.encode()).hexdigest()


def question(data: TrainingData, splits: Splits, manifest: pd.DataFrame | None, config: DataConfig) -> Question:
    """The study's question to trivial features. `config` says what its target and classes are made of.

    Raises DataError if the training part of a fold has images of one class only.
    """
    frame = pd.DataFrame({"image_id": data.image_ids, "patient_id": data.patient_ids})
    frame = pd.concat([frame, picture_numbers(data.images)], axis=1)
    if manifest is not None:
        facts = manifest.drop(columns=["patient_id", *PICTURE, config.target], errors="ignore")  # the target is no hint
        frame = frame.merge(facts, on="image_id", how="left", validate="one_to_one")
    folds = frame["patient_id"].map(splits.patients).to_numpy().astype(np.int64)
    for fold in range(splits.n_folds):
        if len(set(data.labels[folds != fold].tolist())) < 2:
            raise DataError(f"fold {fold}: the images of the other folds are all of one class")
    words = {*data.classes, *(value for values in (config.classes or {}).values() for value in values)}
    patients = pd.factorize(frame["patient_id"])[0]
    return Question(with_derived(frame), data.labels, folds, patients, tuple(sorted(words)))


def measure(question: Question, stopping: Callable[[], bool]) -> Baselines | None:
    """Measures one group of features after the other; None if it was stopped.

    Raises DataError if nothing is known of the images, or a fold has images of one class only.
    """
    tables: list[pd.DataFrame] = []
    groups: list[dict[str, Any]] = []
    for group in BASELINES:
        if stopping():
            return None
        if (scores := scores_of(question, group)) is not None:
            tables.append(_table(question, group, scores))
            groups.append(summary(group.name, group.kind.value, group.note, tables[-1]))
    if not tables:
        raise DataError("what is known of the images is the same for all of them, so nothing can be told by it")
    names = {group["name"] for group in groups}
    absent = [group.name for group in BASELINES if group.name not in names]
    return Baselines(pd.concat(tables, ignore_index=True), groups, absent)


def _table(question: Question, group: Group, scores: Floats) -> pd.DataFrame:
    ids = question.images[["image_id", "patient_id"]]
    table = ids.assign(group=group.name, fold=question.folds.astype(np.int32), label=question.labels, score=scores)
    return table[["group", "fold", "image_id", "patient_id", "label", "score"]]


def summary(name: str, kind: str, note: str, table: pd.DataFrame) -> dict[str, Any]:
    """The entry of one group in `Baselines.groups`; `table` has its scores."""
    folds = [auc(part["label"].to_numpy(), part["score"].to_numpy()) for _, part in table.groupby("fold")]
    return {"name": name, "kind": kind, "note": note, "auc_mean": float(np.mean(folds)), "fold_auc": folds}
