"""One study as the template wants it: plain values and finished text, section by section."""

import copy
import re
import shlex
from typing import Any

import pandas as pd
import yaml

from diagram_ray.evaluation.estimates import Estimates
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.reporting import findings, pictures
from diagram_ray.reporting.facts import Facts, plain
from diagram_ray.reporting.scale import Line, draw
from diagram_ray.results import TrialState
from diagram_ray.search.fidelity import Rung

PAPER = (
    ("DiaGRAM (Shams et al. 2018, Table 1)", "DDSM", "89 ± 3.4%", "88.4 ± 2.9%"),
    ("DiaGRAM (Shams et al. 2018, Table 1)", "INbreast, transfer from DDSM", "93.5 ± 2.9%", "92.5 ± 2.4%"),
    ("the same without GAN (Fig. 3)", "DDSM", "not reported", "85.5%"),
)
SHOWN_FAILURES = 20


def study_page(facts: Facts) -> dict[str, Any]:
    """Everything the page says about one study."""
    complete = _complete(facts, facts.estimates) if facts.estimates is not None else None
    return {
        "name": facts.name,
        "folder": str(facts.study.path),
        "subtitle": f"{_measured_on(facts)}. Trials: {facts.states}.",
        "measured_on": _measured_on(facts),
        "grade": facts.grade.value,
        "verdict": facts.verdict,
        "warnings": facts.warnings(),
        "states": facts.states,
        "complete": complete,
        "paper": PAPER,
        "history": pictures.of_history(facts),
        "parameters": pictures.of_parameters(facts),
        "importance": _importance(facts),
        "ladder": _ladder(facts),
        "data": _data(facts),
        "failed": _failed(facts),
        "trials": _trials(facts),
        "origin": _origin(facts),
        "folds": int(facts.config.get("folds", 0)),
    }


def summary(facts: Facts) -> dict[str, Any]:
    """The figures of one study, for --json and the comparison of several."""
    best, estimates, control = facts.best, facts.estimates, facts.control
    found: dict[str, Any] = {
        "name": facts.name,
        "study": str(facts.study.path),
        "dataset": str(facts.dataset.get("name", "")),
        "trials": facts.states,
        "verdict": facts.verdict,
        "grade": facts.grade.value,
        "best": facts.number,
        "control_auc": control.value if control else None,
    }
    if best is None or estimates is None:
        return found
    return found | {
        "auc_mean": float(best["auc_mean"]),
        "auc_sd": float(best["auc_sd"]),
        "accuracy_mean": float(best["accuracy_mean"]),
        "corrected_auc": estimates.corrected.auc.value,
        "corrected_low": estimates.corrected.auc.low,
        "corrected_high": estimates.corrected.auc.high,
    }


def _complete(facts: Facts, estimates: Estimates) -> dict[str, Any]:
    """What can be said only if a trial is complete."""
    best, auc = facts.study.best, estimates.corrected.auc
    accuracy = pd.Series(list(best["fold_accuracy"]), dtype=float)
    sd = float(accuracy.std()) if len(accuracy) > 1 else 0.0
    return {
        "number": facts.number,
        "auc": f"{best['auc_mean']:.3f} ± {best['auc_sd']:.3f}",
        "auc_percent": f"{best['auc_mean']:.1%} ± {best['auc_sd']:.1%}".replace("% ±", " ±"),
        "accuracy": f"{best['accuracy_mean']:.1%}",
        "accuracy_percent": f"{best['accuracy_mean']:.1%} ± {sd:.1%}".replace("% ±", " ±"),
        "accuracy_sd": f"{sd:.1%}",
        "majority": f"{facts.of_best['label'].value_counts(normalize=True).max():.1%}",
        "corrected": f"{auc.value:.3f}",
        "corrected_interval": _interval(auc),
        "selection": _selection(estimates),
        "pooled": f"{estimates.pooled.value:.3f}",
        "control": _control(facts),
        "scale": draw(_lines(facts, estimates)),
        "roc": pictures.of_roc(facts),
        "curves": pictures.of_curves(facts),
        "curves_finding": findings.of_curves(facts.curves[facts.curves["trial"] == facts.number]),
        "config": _config(facts),
        "commands": _commands(facts),
    }


def _control(facts: Facts) -> dict[str, Any] | None:
    check = facts.control
    if check is None:
        return None
    return {
        "value": f"{check.value:.3f}",
        "range": f"{check.low:.2f} to {check.high:.2f}",
        "passed": check.passed,
        "shuffles": check.shuffles,
    }


def _lines(facts: Facts, estimates: Estimates) -> list[Line]:
    """All estimates of the best trial's AUC beside each other."""
    mean, sd = estimates.fold_mean.value, float(facts.study.best["auc_sd"])
    lines = [
        Line("Corrected for selection (BBC-CV)", estimates.corrected.auc, "main"),
        Line("Mean over folds ± sd, as in the paper", Interval(mean, max(0.0, mean - sd), min(1.0, mean + sd))),
        Line("Mean over folds, bootstrap by patient", estimates.fold_mean),
        Line("Pooled, bootstrap by patient", estimates.pooled),
        Line("Pooled, DeLong (images independent)", estimates.pooled_delong),
    ]
    if facts.control is not None:
        chance = Interval(facts.control.value, facts.control.low, facts.control.high)
        lines.append(Line("No-signal control, and what chance allows", chance, "chance"))
    return lines


def _selection(estimates: Estimates) -> str:
    """What the choice of the winner did to its figure."""
    count, optimism = estimates.corrected.trials, estimates.corrected.optimism
    if count == 1:
        return "There is one complete trial, so there was no choice to correct for."
    begun = f"It is the best of {count} complete trials, so it flatters"
    if optimism < 0.0005:
        return f"{begun}; here BBC-CV finds no flattery to take out, because the winner wins in nearly every resample."
    return f"{begun}: by {optimism:.3f}, as BBC-CV estimates it."


def _interval(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def _measured_on(facts: Facts) -> str:
    whole = facts.fold_counts[-1]
    images = f", {whole['images']} images" if "images" in whole else ""
    target = facts.document["experiment"].get("data", {}).get("target", "label")
    negative, positive = facts.classes
    data = f"{facts.dataset.get('name', 'dataset')}: {whole['patients']} patients{images}"
    return f"{data}; target “{target}”, {positive} against {negative}"


def _importance(facts: Facts) -> dict[str, Any]:
    parts = facts.importance.parts
    largest = max(parts.values(), default=1.0) or 1.0
    return {
        "title": findings.of_importance(facts),
        "note": facts.importance.note,
        "bars": [
            {"name": name, "text": f"{part:.0%}", "width": round(100 * part / largest, 1)}
            for name, part in sorted(parts.items(), key=lambda pair: -pair[1])
        ],
    }


def _ladder(facts: Facts) -> dict[str, Any]:
    trials, ladder = facts.trials, facts.ladder
    reached = [int(((trials["folds"] >= r.folds) & (trials["epochs"] >= r.epochs)).sum()) for r in ladder.rungs]
    spent, whole = int(trials["fold_epochs"].sum()), ladder.exhaustive(len(trials))
    return {
        "title": findings.of_ladder(facts),
        "bars": [
            {"name": "began", "text": str(len(trials)), "width": 100.0 if len(trials) else 0.0},
            *(
                {"name": _rung(rung), "text": str(count), "width": round(100 * count / max(len(trials), 1), 1)}
                for rung, count in zip(ladder.rungs, reached, strict=True)
            ),
        ],
        "cost": [
            {
                "name": "spent",
                "text": f"{spent} fold-epochs",
                "width": round(min(100.0, 100 * spent / max(whole, 1)), 1),
            },
            {"name": "exhaustive search", "text": f"{whole} fold-epochs", "width": 100.0},
        ],
        "reduction": ladder.reduction,
        "seconds": _duration(facts.document.get("seconds")),
        "worker_seconds": _duration(trials["worker_seconds"].sum()),
    }


def _data(facts: Facts) -> dict[str, Any]:
    counts, rejects = facts.dataset.get("counts") or {}, facts.dataset.get("rejects") or {}
    return {
        "rows": facts.fold_counts,
        "classes": facts.classes,
        "counts": counts if isinstance(counts, dict) else {},
        "rejects": sorted(rejects.items(), key=lambda pair: -pair[1]) if isinstance(rejects, dict) else [],
        "size": " × ".join(str(side) for side in facts.dataset.get("image_size", [])),
        "fingerprint": str(facts.dataset.get("fingerprint", "unknown")),
        "uri": str(facts.dataset.get("uri", "")),
    }


def _failed(facts: Facts) -> dict[str, Any]:
    failed = facts.trials[facts.trials["state"] == TrialState.FAIL]
    rows = [(int(row["number"]), str(row["reason"])) for _, row in failed.head(SHOWN_FAILURES).iterrows()]
    return {"rows": rows, "count": len(failed), "hidden": len(failed) - len(rows)}


def _trials(facts: Facts) -> dict[str, Any]:
    """The table of all trials, the best first; those without a score last."""
    ordered = facts.trials.sort_values(["epochs", "folds", "auc_mean"], ascending=False, na_position="last")
    rows = [
        {
            "number": int(row["number"]),
            "state": str(row["state"]).lower(),
            "auc": "" if pd.isna(row["auc_mean"]) else f"{row['auc_mean']:.3f} ± {row['auc_sd']:.3f}",
            "trained": f"{row['folds']} × {row['epochs']}" if row["epochs"] else "",
            "params": [_short(row[f"params.{name}"]) for name in facts.parameters],
            "best": row["number"] == facts.number,
        }
        for _, row in ordered.iterrows()
    ]
    return {"names": facts.parameters, "rows": rows}


def _origin(facts: Facts) -> list[tuple[str, str]]:
    """Where the figures come from: what is needed to get them again."""
    versions = facts.document.get("versions") or {}
    commit = next((versions[key] for key in ("git", "commit", "git_commit") if key in versions), "not recorded")
    shown = ", ".join(
        f"{name} {value}" for name, value in versions.items() if name not in ("git", "commit", "git_commit")
    )
    sampler = facts.config.get("sampler") or {}
    return [
        ("started", str(facts.document.get("started", "not recorded"))),
        ("seed of sampler and folds", str(facts.config.get("seed", "not recorded"))),
        ("sampler", str(sampler.get("name", "not recorded") if isinstance(sampler, dict) else sampler)),
        ("dataset", str(facts.dataset.get("uri", "not recorded"))),
        ("its fingerprint", str(facts.dataset.get("fingerprint", "not recorded"))),
        ("versions", shown),
        ("git commit", str(commit)),
    ]


def _config(facts: Facts) -> str:
    """The best configuration as YAML, nested as in a study file."""
    config = copy.deepcopy(facts.document["experiment"])
    for name in facts.parameters:
        value = plain(facts.study.best[f"params.{name}"])
        if value is None:
            continue
        *path, leaf = name.split(".")
        section = config
        for key in path:
            section = section.setdefault(key, {})
        whole = isinstance(section.get(leaf), int) and not isinstance(section.get(leaf), bool)
        section[leaf] = int(value) if whole and isinstance(value, float) and value.is_integer() else value
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100)


def _commands(facts: Facts) -> list[tuple[str, str]]:
    """What to type next."""
    study, data = shlex.quote(str(facts.study.path)), shlex.quote(str(facts.dataset.get("uri", "DATASET")))
    ran = re.sub(r"^(?:\S*/)?(\w+)\.py(?=\s|$)", r"python -m diagram_ray.\1", str(facts.document.get("command", "")))
    return [
        ("Run this search again", ran or "not recorded"),
        (
            "Train this configuration on all the data",
            f"python -m diagram_ray.train --data {data} --from {study} --out MODEL",
        ),
        ("Read new mammograms with it", "python -m diagram_ray.predict MODEL MAMMOGRAMS --out PREDICTIONS"),
    ]


def _short(value: Any) -> str:
    value = plain(value)
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rung(rung: Rung) -> str:
    return f"{rung.folds} fold{'s' * (rung.folds != 1)} × {rung.epochs} epoch{'s' * (rung.epochs != 1)}"


def _duration(seconds: Any) -> str:
    """Hours, minutes and seconds, in the two largest that are not zero."""
    if seconds is None or pd.isna(seconds) or seconds <= 0:
        return "not recorded"
    hours, rest = divmod(round(float(seconds)), 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
