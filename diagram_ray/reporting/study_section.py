"""One study as the template wants it: plain values and finished text, section by section."""

import dataclasses
from typing import Any

import pandas as pd

from diagram_ray.reporting import captions, charts, training_fit, uncertainty
from diagram_ray.reporting.audit_note import audit_note
from diagram_ray.reporting.baseline_comparison import figures, reference_figures
from diagram_ray.reporting.best_trial import winner
from diagram_ray.reporting.objectives import aims
from diagram_ray.reporting.study_data import Facts, mapping, plain
from diagram_ray.reporting.verdict import verdict_of
from diagram_ray.results import TrialState
from diagram_ray.search.ladder import Rung

PAPER = (
    ("DiaGRAM (Shams et al. 2018, Table 1)", "DDSM", "89 ± 3.4%", "88.4 ± 2.9%"),
    ("DiaGRAM (Shams et al. 2018, Table 1)", "INbreast, transfer from DDSM", "93.5 ± 2.9%", "92.5 ± 2.4%"),
    ("the same without GAN (Fig. 3)", "DDSM", "not reported", "85.5%"),
)
SHOWN_FAILURES = 20


def study_page(facts: Facts) -> dict[str, Any]:
    """Everything the page says about one study."""
    complete = winner(facts, facts.estimates) if facts.estimates is not None else None
    return {
        "name": facts.name,
        "subtitle": f"{_measured_on(facts)}. Trials: {facts.states}.",
        "measured_on": _measured_on(facts),
        "grade": facts.grade.value,
        "verdict": verdict_of(facts),
        "warnings": training_fit.warnings(facts) + facts.warnings(),
        "audit": audit_note(facts),
        "complete": complete,
        "paper": PAPER,
        "history": charts.of_history(facts),
        "parameters": charts.of_parameters(facts),
        "importance": _importance(facts),
        "aims": aims(facts),
        "ladder": _ladder(facts),
        "data": _data(facts),
        "failed": _failed(facts),
        "trials": _trials(facts),
        "origin": _origin(facts),
        "folds": len(facts.fold_counts) - 1,
    }


def summary(facts: Facts) -> dict[str, Any]:
    """The figures of one study, for --json and the comparison of several."""
    best, estimates, control = facts.best, facts.estimates, facts.control
    found: dict[str, Any] = {
        "name": facts.name,
        "study": str(facts.study.path),
        "dataset": str(facts.dataset.get("name", "")),
        "trials": facts.states,
        "verdict": verdict_of(facts),
        "grade": facts.grade.value,
        "best": facts.number,
        "control_auc": control.value if control else None,
        "audit": audit_note(facts)["state"],
        "baselines": figures(facts),
        "reference": reference_figures(facts),
    }
    if best is None or estimates is None:
        return found
    return found | {
        "auc_mean": float(best["auc_mean"]),
        "auc_sd": float(best["auc_sd"]),
        "accuracy_mean": float(best["accuracy_mean"]),
        "training_auc": training_fit.training_auc(facts),
        "underfits": training_fit.underfitting(facts) or None,
        "corrected_auc": estimates.corrected.auc.value,
        "corrected_low": estimates.corrected.auc.low,
        "corrected_high": estimates.corrected.auc.high,
        "units": [dataclasses.asdict(unit) for unit in facts.units],
        "decisions": uncertainty.decisions(facts),
        "power": uncertainty.power_words(facts),
        "repeated": facts.repeated and dataclasses.asdict(facts.repeated),
        "nested": facts.nested and dataclasses.asdict(facts.nested),
    }


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
        "title": captions.of_importance(facts),
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
        "title": captions.of_ladder(facts),
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
    rejects = mapping(facts.dataset.get("rejects"))
    return {
        "rows": facts.fold_counts,
        "classes": facts.classes,
        "counts": mapping(facts.dataset.get("counts")),
        "rejects": sorted(rejects.items(), key=lambda pair: str(pair[1]).rjust(12), reverse=True),
        "size": " × ".join(str(side) for side in list(facts.dataset.get("image_size") or [])),
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
    versions = mapping(facts.document.get("versions"))
    commit = next((versions[key] for key in ("git", "commit", "git_commit") if key in versions), "not recorded")
    shown = ", ".join(
        f"{name} {value}" for name, value in versions.items() if name not in ("git", "commit", "git_commit")
    )
    sampler = mapping(facts.config.get("sampler"))
    initial = mapping(facts.document.get("init_from"))
    begun = [
        ("trials started with F and E of", str(initial.get("source", "not recorded"))),
        ("SHA-256 of these weights", str(initial.get("weights", "not recorded"))),
    ]
    return [
        ("started", str(facts.document.get("started", "not recorded"))),
        ("seed of sampler and folds", str(facts.config.get("seed", "not recorded"))),
        ("sampler", str(sampler.get("name", "not recorded"))),
        ("dataset", str(facts.dataset.get("uri", "not recorded"))),
        ("its fingerprint", str(facts.dataset.get("fingerprint", "not recorded"))),
        *(begun if initial else []),
        *_learnt_from(facts),
        ("versions", shown),
        ("git commit", str(commit)),
    ]


def _learnt_from(facts: Facts) -> list[tuple[str, str]]:
    """The earlier studies that the sampler was told of."""
    sources = facts.document.get("warm_start")
    return [
        ("sampler warmed by", f"{source.get('told')} trials of {source.get('study')}")
        for source in map(mapping, sources if isinstance(sources, list) else [])
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
