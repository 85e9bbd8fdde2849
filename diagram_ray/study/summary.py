"""The result of a study, as its command prints it."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from diagram_ray.errors import DiagramError
from diagram_ray.evaluation.underfitting import underfits
from diagram_ray.results import Trial, TrialState, best_of
from diagram_ray.storage.paths import Place
from diagram_ray.study.holdout_files import CONTROL, LEAKAGE, NESTED_RESULT, REPEATS_RESULT


def outcome(folder: Place, trials: Mapping[int, Trial], document: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the study, whose study.yaml is `document`. Raises DiagramError if no trial is complete."""
    best = best_of(trials)
    if best is None and not document["interrupted"]:
        ended = [trial for trial in trials.values() if trial.state is TrialState.FAIL or not trial.measurements]
        first = f"; trial {ended[0].number}: {ended[0].reason}" if ended else ""
        raise DiagramError(f"{folder}: none of {len(trials)} trials is complete{first}")
    return {
        "study": str(folder),
        "trials": dict(Counter(trial.state.value.lower() for trial in trials.values())),
        "best": _best(best),
        "control_auc": _auc_in(folder / CONTROL),
        "leaky_auc": _auc_in(folder / LEAKAGE),
        "repeated_auc": _auc_in(folder / REPEATS_RESULT),
        "nested_auc": _auc_in(folder / NESTED_RESULT),
        "seconds": round(document["seconds"], 1),
        "interrupted": document["interrupted"],
        "lost": document["lost"],
        "failed_steps": document.get("failed_steps") or {},
    }


def _auc_in(path: Place) -> float | None:
    auc = json.loads(path.read_text(encoding="utf-8")).get("auc_mean") if path.is_file() else None
    return None if auc is None else float(auc)


def _best(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None or trial.last is None:
        return None
    last = trial.last
    scores = {"auc_mean": last.auc_mean, "auc_sd": last.auc_sd, "accuracy_mean": last.accuracy_mean}
    fit = {
        "training_auc": last.training_auc,
        "underfits": underfits(last.training_auc, last.auc_mean, last.epochs) or None,
    }
    return {"number": trial.number, "params": trial.params, **scores, **fit}
