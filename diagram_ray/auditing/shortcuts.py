"""The shortcut check: how well trivial features alone tell the classes apart, by a study's own cross-validation.

A model that can be right without looking at the breast will be, and its number says nothing about the disease. For each
group of features the small learner of `auditing/learner.py` is trained on the patients of four folds and scored on the
fifth; the mean over folds of AUC gets an interval by resampling patients. The interval's lower bound decides: chance
rarely takes it beyond 0.5, and hardly ever beyond 0.6.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diagram_ray.auditing.feature_groups import ALL_FILE, GROUPS, Floats, Group, Kind, with_derived
from diagram_ray.auditing.findings import Finding, Severity
from diagram_ray.auditing.labels import FEWEST
from diagram_ray.auditing.learner import SEED, Question, scores_of
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Interval, draw_patients, mean_over_folds, percentile_interval

FOLDS = 5
RESAMPLES = 1000
WARN, SERIOUS = 0.6, 0.75
"""Lower bounds of AUC from which a finding is a warning, and serious."""
UNCLEAR = 0.5
"""Width of an interval that says nothing."""


@dataclass(frozen=True)
class Score:
    """How well one group of features tells the classes apart."""

    group: Group
    auc: Interval | None
    """The group's AUC, mean over folds; None where the group is the same for all images, or not in the manifest."""

    @property
    def severity(self) -> Severity:
        """INFO where it is no matter for concern."""
        low = self.auc.low if self.auc else 0.0
        return Severity.SERIOUS if low > SERIOUS else Severity.WARNING if low > WARN else Severity.INFO


def ask(images: pd.DataFrame, classes: tuple[str, ...], fingerprint: str) -> Question | str:
    """The question of the shortcut check, or why it cannot be asked. `images` has the manifest's columns and the
    description's."""
    chosen = images[images["label"].isin(classes)].sort_values("image_id").reset_index(drop=True)
    labels = (chosen["label"] == classes[-1]).to_numpy().astype(np.int64)
    for name, label in ((classes[-1], 1), ("the other class", 0)):
        patients = chosen["patient_id"][labels == label].nunique()
        if patients < FEWEST:
            return f"too few patients to tell: {name} has {patients}, and {FEWEST} of each class are needed"
    try:
        splits = make_splits(_without_pixels(chosen, labels, fingerprint), FOLDS, SEED)
    except DataError as error:
        return str(error)
    folds = chosen["patient_id"].map(splits.patients).to_numpy().astype(np.int64)
    return Question(with_derived(chosen), labels, folds, pd.factorize(chosen["patient_id"])[0], classes)


def _without_pixels(images: pd.DataFrame, labels: NDArray[np.int64], fingerprint: str) -> TrainingData:
    empty = np.zeros((0, 0, 0), dtype=np.uint16)
    return TrainingData(
        images=np.zeros((len(images), 0, 0), dtype=np.uint16),
        labels=labels,
        image_ids=images["image_id"].to_numpy(dtype=np.str_),
        patient_ids=images["patient_id"].to_numpy(dtype=np.str_),
        patches=empty,
        patch_labels=np.zeros(0, dtype=np.int64),
        patch_patient_ids=np.zeros(0, dtype=np.str_),
        classes=("other", "positive"),
        fingerprint=fingerprint,
    )


def score(question: Question, group: Group) -> Score:
    """The group's AUC, out of fold, with its interval."""
    scores = scores_of(question, group)
    return Score(group, None if scores is None else _interval(question, scores))


def _interval(question: Question, scores: Floats) -> Interval:
    """Mean over folds of AUC; patients are drawn within folds, a few hundred times at once."""
    data = OutOfFold((0,), scores[None], question.labels, question.folds, question.patients)
    once = np.ones((len(scores), 1), dtype=np.float32)
    counts = draw_patients(data, RESAMPLES, SEED)
    draws = [mean_over_folds(data, 0, counts[:, at : at + 250][question.patients]) for at in range(0, RESAMPLES, 250)]
    return percentile_interval(float(mean_over_folds(data, 0, once)[0]), np.concatenate(draws))


def groups() -> tuple[Group, ...]:
    """All groups of features that the check measures."""
    return (ALL_FILE, *GROUPS)


def shortcut_findings(scores: list[Score], unasked: str) -> list[Finding]:
    """What the scores mean; `unasked` says why there are none."""
    if unasked:
        sentence = f"Whether the label can be told without looking at the breast could not be judged: {unasked}."
        return [Finding(Severity.INFO, "shortcut-unknown", sentence)]
    measured = [score for score in scores if score.auc is not None]
    of_file = [score for score in measured if score.group.kind is Kind.FILE]
    if not of_file:
        sentence = "Nothing is known of the files but the breast: the shortcut check had nothing to look at."
        return [Finding(Severity.INFO, "shortcut-unknown", sentence)]
    return [*_of_file(of_file), *_of_breast([score for score in measured if score.group.kind is Kind.BREAST])]


def _of_file(scores: list[Score]) -> list[Finding]:
    loud = [score for score in scores if score.severity is not Severity.INFO]
    if not loud:
        whole = scores[0].auc
        if whole is not None and whole.high - whole.low > UNCLEAR:
            sentence = (
                f"Too few patients to rule a shortcut out: without looking at the breast, AUC {_shown(scores[0])}."
            )
            return [Finding(Severity.INFO, "shortcut-unknown", sentence, _details(scores))]
        return []
    severity = max((score.severity for score in loud), key=list(Severity).index)
    single = sorted((score for score in loud if score.group != ALL_FILE), key=_low, reverse=True)
    best = max(loud, key=_low)
    sentence = (
        f"The label can be told without looking at the breast (AUC {_shown(best)}): a model may learn that instead of "
        f"the disease. By: {_named(single) or 'no single group of features, but several together'}."
    )
    return [Finding(severity, "shortcut", sentence, _details(loud))]


def _of_breast(scores: list[Score]) -> list[Finding]:
    """No shortcut by itself, as disease is bright; but a figure that a network has to beat."""
    loud = sorted((score for score in scores if score.severity is not Severity.INFO), key=_low, reverse=True)
    if not loud:
        return []
    sentence = (
        f"The size of the breast and its grey levels alone, without any shape, tell the label (AUC: {_named(loud)}). "
        "Disease may be the reason, or a difference of scanners; a network that scores no higher need have found no "
        "lesion."
    )
    return [Finding(Severity.INFO, "brightness", sentence, _details(loud))]


def _low(score: Score) -> float:
    return score.auc.low if score.auc else 0.0


def _shown(score: Score) -> str:
    auc = score.auc
    return f"{auc.value:.2f}, 95% interval {auc.low:.2f} to {auc.high:.2f}" if auc else "unknown"


def _named(scores: list[Score]) -> str:
    return ", ".join(
        f"{score.group.name} {score.auc.value:.2f} ({score.auc.low:.2f} to {score.auc.high:.2f})"
        for score in scores
        if score.auc
    )


def _details(scores: list[Score]) -> dict[str, object]:
    return {score.group.name: rounded(score.auc) for score in scores if score.auc}


def rounded(auc: Interval) -> list[float]:
    """An interval as JSON has it: [value, low, high]."""
    return [round(auc.value, 4), round(auc.low, 4), round(auc.high, 4)]


def as_groups(scores: list[Score]) -> list[dict[str, Any]]:
    """The scores as JSON has them."""
    return [
        {
            "name": score.group.name,
            "kind": score.group.kind.value,
            "note": score.group.note,
            "severity": score.severity.value if score.group.kind is Kind.FILE else Severity.INFO.value,
            "auc": rounded(score.auc) if score.auc else None,
        }
        for score in scores
    ]
