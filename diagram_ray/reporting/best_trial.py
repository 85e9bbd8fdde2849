"""The part of the report that needs a complete trial: the winner's figures, configuration and use."""

import copy
import re
import shlex
from typing import Any

import pandas as pd
import yaml

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.winner import Estimates
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.reporting import captions, charts, cv_notes, training_fit, uncertainty
from diagram_ray.reporting.baseline_comparison import beside_baselines
from diagram_ray.reporting.formatting import interval_text
from diagram_ray.reporting.interval_chart import Line, chance, draw
from diagram_ray.reporting.recorded_values import plain
from diagram_ray.reporting.study_data import StudyData

PLURAL = {"image": "images", "breast": "breasts", "patient": "patients"}
UNITS = {
    "image": "By image ({}), mean over folds",
    "breast": "By breast ({}), mean of its views",
    "patient": "By patient ({}), the highest score",
}


def winner(study_data: StudyData, estimates: Estimates) -> dict[str, Any]:
    """The values that the template needs to show the best trial."""
    best, auc = study_data.study.best, estimates.corrected.auc
    accuracy = pd.Series(list(best["fold_accuracy"]), dtype=float)
    sd = float(accuracy.std()) if len(accuracy) > 1 else 0.0
    return {
        "number": study_data.number,
        "auc": f"{best['auc_mean']:.3f} ± {best['auc_sd']:.3f}",
        "auc_percent": f"{best['auc_mean']:.1%} ± {best['auc_sd']:.1%}".replace("% ±", " ±"),
        "accuracy": f"{best['accuracy_mean']:.1%}",
        "accuracy_percent": f"{best['accuracy_mean']:.1%} ± {sd:.1%}".replace("% ±", " ±"),
        "accuracy_sd": f"{sd:.1%}",
        "majority": f"{study_data.of_best['label'].value_counts(normalize=True).max():.1%}",
        "corrected": f"{auc.value:.3f}",
        "corrected_interval": interval_text(auc),
        "selection": _selection(estimates),
        "control": _control(study_data),
        "leakage": _leakage(study_data),
        "baselines": beside_baselines(study_data, estimates),
        "units": _units(study_data),
        "decisions": uncertainty.decisions(study_data),
        "settings": uncertainty.settings(study_data),
        "power": uncertainty.power_words(study_data),
        "repeated": cv_notes.repeated(study_data),
        "nested": cv_notes.nested(study_data),
        "scale": draw(_lines(study_data, estimates)),
        "roc": charts.of_roc(study_data),
        "curves": charts.of_curves(study_data),
        "curves_finding": captions.of_curves(study_data),
        "fit": training_fit.rows(study_data),
        "config": _config(study_data),
        "commands": _commands(study_data),
    }


def _control(study_data: StudyData) -> dict[str, Any] | None:
    check = study_data.control
    if check is None:
        return None
    return {
        "value": f"{check.value:.3f}",
        "range": f"{check.low:.2f} to {check.high:.2f}",
        "passed": check.passed,
    }


def _leakage(study_data: StudyData) -> dict[str, str] | None:
    """What the same configuration scores where patients stand on both sides; None if that is not known."""
    leakage = study_data.study.leakage
    if leakage is None or leakage.get("trial") != study_data.number or "failed" in leakage:
        return None
    try:
        scores = pd.Series([float(value) for value in leakage["fold_auc"]])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{study_data.study.path / 'leakage.json'}: cannot be read: {error!r}") from None
    return {
        "price": f"{scores.mean() - study_data.study.best['auc_mean']:+.3f}",
        "auc": f"{scores.mean():.3f} ± {scores.std():.3f}",
    }


def _lines(study_data: StudyData, estimates: Estimates) -> list[Line]:
    """All estimates of the best trial's AUC beside each other."""
    mean, sd = estimates.fold_mean.value, float(study_data.study.best["auc_sd"])
    lines = [
        Line("Corrected for selection (BBC-CV)", estimates.corrected.auc, "main"),
        Line("Mean over folds ± sd, as in the paper", Interval(mean, max(0.0, mean - sd), min(1.0, mean + sd))),
        *(Line(UNITS[unit.unit].format(unit.count), unit.auc) for unit in study_data.units if unit.auc is not None),
        Line("Pooled, bootstrap by patient", estimates.pooled),
        Line("Pooled, DeLong (images independent)", estimates.pooled_delong),
    ]
    if study_data.repeated is not None:
        lines.append(Line(f"Mean over folds of {len(study_data.repeated.means)} repeats", study_data.repeated.auc))
    if study_data.nested is not None:
        lines.append(Line("Nested CV: what the search finds", study_data.nested.auc))
    return [*lines, *chance(study_data.control)]


def _units(study_data: StudyData) -> str:
    """A sentence on the images, breasts and patients counted, and on those that could not be."""
    units = {unit.unit: unit for unit in study_data.units}
    missing = [name for name, unit in units.items() if unit.auc is None]
    counts = ", ".join(f"{unit.positive} of {unit.count} {PLURAL[name]}" for name, unit in units.items())
    words = [f"Positive are {counts}."]
    if "breast" not in units:
        words.append("Breasts cannot be counted: this study's folder does not say of every image which side it shows.")
    if missing:
        words.append(f"No fold has both classes by {' or '.join(missing)}.")
    return " ".join(words)


def _selection(estimates: Estimates) -> str:
    """What the choice of the winner did to its figure."""
    count, optimism = estimates.corrected.trials, estimates.corrected.optimism
    if not estimates.corrected.resamples:
        return "There are too few patients in a fold to correct for the choice of the winner."
    if count == 1:
        return "There is one complete trial, so there was no choice to correct for."
    begun = f"The winner's is the highest of {count}, so it flatters"
    if optimism < 0.0005:
        return f"{begun}; BBC-CV finds hardly anything to take out here: the winner wins nearly every resample."
    return f"{begun}: by {optimism:.3f}, as BBC-CV estimates it."


def _config(study_data: StudyData) -> str:
    """The best configuration as YAML, nested as in a study file."""
    config = copy.deepcopy(study_data.document["experiment"])
    for name in study_data.parameters:
        value = plain(study_data.study.best[f"params.{name}"])
        if value is None:
            continue
        *path, leaf = name.split(".")
        section = config
        for key in path:
            section = section.setdefault(key, {})
        whole = isinstance(section.get(leaf), int) and not isinstance(section.get(leaf), bool)
        section[leaf] = int(value) if whole and isinstance(value, float) and value.is_integer() else value
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


def _commands(study_data: StudyData) -> list[tuple[str, str]]:
    """Commands that a reader may type next."""
    study, data = shlex.quote(str(study_data.study.path)), shlex.quote(str(study_data.dataset.get("uri", "DATASET")))
    ran = re.sub(
        r"^(?:\S*/)?(\w+)\.py(?=\s|$)", r"python -m diagram_ray.\1", str(study_data.document.get("command", ""))
    )
    return [
        ("Run this search again", ran or "not recorded"),
        (
            "Train this configuration on all the data",
            f"python -m diagram_ray.train --data {data} --from {study} --out MODEL",
        ),
        ("Read new mammograms with it", "python -m diagram_ray.predict MODEL MAMMOGRAMS --out PREDICTIONS"),
    ]
