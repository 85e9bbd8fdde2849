"""Decisions, comparisons and power: what the winner's figure is worth beside others, ready for the page."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.errors import DataError
from diagram_ray.evaluation.comparison import Comparison, Tested, compare, holm
from diagram_ray.evaluation.operating_points import Operating
from diagram_ray.evaluation.power import MOST, POWER, Power, power_line
from diagram_ray.evaluation.verdict import signed
from diagram_ray.reporting.formatting import signed_interval_text
from diagram_ray.reporting.recorded_values import mapping, plain
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import TrialState

TESTS = ("corrected", "patients", "delong")


def decisions(study_data: StudyData) -> list[tuple[str, str, str]]:
    """Figures of decisions by the winner's scores: name, value, 95 % interval."""
    operating = study_data.operating
    if operating is None:
        return []
    half, youden = (
        "Accuracy at the threshold 0.5",
        f"Accuracy at the Youden point of the other folds ({_span(operating)})",
    )
    rows = [(half, operating.at_half), (youden, operating.at_youden)]
    rows += [(f"Sensitivity at {level:.0%} specificity", value) for level, value in operating.sensitivity.items()]
    return [(name, f"{it.value:.1%}", f"{it.low:.1%} to {it.high:.1%}") for name, it in rows if not np.isnan(it.value)]


def settings(study_data: StudyData) -> list[dict[str, Any]]:
    """Comparisons of the winner with the best complete trial of each other choice of a categorical setting."""
    pairs = [
        (f"{label} (trial {number})", _try_compare(study_data, number)) for number, label in rivals(study_data).items()
    ]
    return _rows([(label, comparison) for label, comparison in pairs if comparison is not None])


def rivals(study_data: StudyData) -> dict[int, str]:
    """The best complete trial of each choice that is not the winner's, and those choices."""
    if study_data.best is None:
        return {}
    complete = study_data.trials[study_data.trials["state"] == TrialState.COMPLETE]
    ordered = complete.sort_values(["auc_mean", "number"], ascending=[False, True])
    space = mapping(study_data.config.get("space"))
    choices: dict[int, list[str]] = {}
    for name in study_data.parameters:
        column = f"params.{name}"
        if mapping(space.get(name)).get("type") != "categorical":
            continue
        others = ordered[ordered[column].notna() & (ordered[column] != study_data.best[column])]
        for _, row in others.drop_duplicates(column).iterrows():
            choices.setdefault(int(row["number"]), []).append(f"{name} = {plain(row[column])}")
    return {number: ", ".join(labels) for number, labels in choices.items()}


def power_words(study_data: StudyData) -> str:
    """A text on what it would take to see a small difference, with its assumptions."""
    power = _power(study_data)
    if power is None:
        return "How many repeats a small difference needs cannot be said: it takes two complete trials that differ."
    folds = int(study_data.config["folds"])
    aim = f"To see a difference of {power.difference:.2f} between two configurations"
    if power.repeats is not None:
        plural = "repeats" if power.repeats > 1 else "repeat"
        need = f"{aim} you need {power.repeats} {plural} of {folds}-fold cross-validation."
    else:
        times = (power.smallest / power.difference) ** 2
        need = (
            f"{aim} no number of repeats of {folds}-fold cross-validation is enough: all of them train on the "
            f"same patients, and even {MOST} show differences from {power.limit:.3f} only. About {times:.0f} times as "
            "many patients would show it in one run."
        )
    return f"{need} One run such as this shows differences from {power.smallest:.3f}. {_assumed(power)}"


def between_studies(studies: Sequence[StudyData]) -> list[dict[str, Any]]:
    """Comparisons of the studies' winners, where they were measured on the same images, labels and folds."""
    comparisons = []
    for first, second in itertools.combinations([study for study in studies if study.best is not None], 2):
        if _place(first) == _place(second):
            repeats, compared = _compare_repeats(first.repeats_of_best, second.repeats_of_best)
            label = f"{second.name} less {first.name}"
            comparisons.append((label if repeats == 1 else f"{label}, {repeats} repeats", compared))
    return _rows(comparisons)


def _compare_repeats(first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, Comparison]:
    """The number of assignments of folds that both have, at least the study's own, and the comparison on these."""
    shared = [0]
    for repeat in sorted((set(first["repeat"]) & set(second["repeat"])) - {0}):
        folds = [
            table[table["repeat"] == repeat].set_index("image_id")["fold"].sort_index() for table in (first, second)
        ]
        if folds[0].equals(folds[1]):
            shared.append(repeat)
    one, other = (table[table["repeat"].isin(shared)] for table in (first, second))
    return len(shared), compare(one, other)


def _place(study_data: StudyData) -> tuple[Any, ...]:
    """The facts that two studies must share for their predictions to be paired."""
    return (
        study_data.dataset.get("fingerprint"),
        mapping(study_data.document["experiment"].get("data")).get("target"),
        study_data.classes,
        study_data.study.splits.get("patients"),
    )


def _try_compare(study_data: StudyData, rival: int) -> Comparison | None:
    """The comparison of the winner with a rival; None where a fold has images of one class only."""
    table = study_data.predictions
    try:
        return compare(table[table["trial"] == rival], study_data.of_best)
    except DataError:
        return None


def _rows(comparisons: Sequence[tuple[str, Comparison]]) -> list[dict[str, Any]]:
    """The rows of the table, one a comparison; p values corrected by Holm over all rows, for each test by itself."""
    adjusted = {test: holm([getattr(it, test).p for _, it in comparisons]) for test in TESTS}
    return [
        {
            "name": name,
            "difference": signed(it.corrected.difference.value),
            "auc": f"{it.auc[0]:.3f}, {it.auc[1]:.3f}",
            **{test: _words(getattr(it, test), adjusted[test][at]) for test in TESTS},
        }
        for at, (name, it) in enumerate(comparisons)
    ]


def _words(tested: Tested, p: float) -> dict[str, str]:
    return {
        "interval": signed_interval_text(tested.difference),
        "p": f"p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}",
    }


def _span(operating: Operating) -> str:
    low, high = min(operating.thresholds), max(operating.thresholds)
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def _assumed(power: Power) -> str:
    pairs = "one pair" if power.pairs == 1 else f"{power.pairs} pairs"
    return (
        f"(Corrected resampled t test, 5% level, {POWER:.0%} power; a difference varies by {power.fold_sd:.3f} between "
        f"folds, seen in {pairs} of complete trials; two configurations named beforehand.)"
    )


def _power(study_data: StudyData) -> Power | None:
    """The power, from the winner's and the other complete trials' AUC in each fold."""
    if study_data.best is None:
        return None
    complete = study_data.trials[
        (study_data.trials["state"] == TrialState.COMPLETE) & (study_data.trials["number"] != study_data.number)
    ]
    return power_line([study_data.best["fold_auc"], *complete["fold_auc"]], int(study_data.config["folds"]))
