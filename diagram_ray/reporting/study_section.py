"""The values that the template needs to show one study: plain values and finished text, section by section."""

import dataclasses
from typing import Any

import pandas as pd

from diagram_ray.reporting import captions, charts, training_fit, uncertainty
from diagram_ray.reporting.audit_note import audit_note
from diagram_ray.reporting.baseline_comparison import figures, reference_figures
from diagram_ray.reporting.best_trial import winner
from diagram_ray.reporting.first_line import verdict_of
from diagram_ray.reporting.formatting import duration, short
from diagram_ray.reporting.objectives_section import goals
from diagram_ray.reporting.recorded_values import mapping, plain
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import TrialState
from diagram_ray.search.ladder import Rung

PAPER = (
    ("DiaGRAM (Shams et al. 2018, Table 1)", "DDSM", "89 ± 3.4%", "88.4 ± 2.9%"),
    ("DiaGRAM (Shams et al. 2018, Table 1)", "INbreast, transfer from DDSM", "93.5 ± 2.9%", "92.5 ± 2.4%"),
    ("the same without GAN (Fig. 3)", "DDSM", "not reported", "85.5%"),
)
SHOWN_FAILURES = 20


def study_page(study_data: StudyData) -> dict[str, Any]:
    """The values that the page shows of one study."""
    complete = winner(study_data, study_data.estimates) if study_data.estimates is not None else None
    return {
        "name": study_data.name,
        "subtitle": f"{_measured_on(study_data)}. Trials: {study_data.states}.",
        "measured_on": _measured_on(study_data),
        "grade": study_data.grade.value,
        "verdict": verdict_of(study_data),
        "warnings": training_fit.warnings(study_data) + study_data.warnings(),
        "audit": audit_note(study_data),
        "complete": complete,
        "paper": PAPER,
        "history": charts.of_history(study_data),
        "parameters": charts.of_parameters(study_data),
        "importance": _importance(study_data),
        "aims": goals(study_data),
        "ladder": _ladder(study_data),
        "data": _data(study_data),
        "failed": _failed(study_data),
        "trials": _trials(study_data),
        "origin": _origin(study_data),
        "folds": len(study_data.fold_counts) - 1,
    }


def summary(study_data: StudyData) -> dict[str, Any]:
    """The figures of one study, for --json and the comparison of several."""
    best, estimates, control = study_data.best, study_data.estimates, study_data.control
    result: dict[str, Any] = {
        "name": study_data.name,
        "study": str(study_data.study.path),
        "dataset": str(study_data.dataset.get("name", "")),
        "trials": study_data.states,
        "verdict": verdict_of(study_data),
        "grade": study_data.grade.value,
        "best": study_data.number,
        "control_auc": control.value if control else None,
        "audit": audit_note(study_data)["state"],
        "baselines": figures(study_data),
        "reference": reference_figures(study_data),
    }
    if best is None or estimates is None:
        return result
    return result | {
        "auc_mean": float(best["auc_mean"]),
        "auc_sd": float(best["auc_sd"]),
        "accuracy_mean": float(best["accuracy_mean"]),
        "training_auc": training_fit.training_auc(study_data),
        "underfits": training_fit.underfitting(study_data) or None,
        "corrected_auc": estimates.corrected.auc.value,
        "corrected_low": estimates.corrected.auc.low,
        "corrected_high": estimates.corrected.auc.high,
        "units": [dataclasses.asdict(unit) for unit in study_data.units],
        "decisions": uncertainty.decisions(study_data),
        "power": uncertainty.power_words(study_data),
        "repeated": study_data.repeated and dataclasses.asdict(study_data.repeated),
        "nested": study_data.nested and dataclasses.asdict(study_data.nested),
    }


def _measured_on(study_data: StudyData) -> str:
    whole = study_data.fold_counts[-1]
    images = f", {whole['images']} images" if "images" in whole else ""
    target = study_data.document["experiment"].get("data", {}).get("target", "label")
    negative, positive = study_data.classes
    data = f"{study_data.dataset.get('name', 'dataset')}: {whole['patients']} patients{images}"
    return f"{data}; target “{target}”, {positive} against {negative}"


def _importance(study_data: StudyData) -> dict[str, Any]:
    parts = study_data.importance.parts
    largest = max(parts.values(), default=1.0) or 1.0
    return {
        "title": captions.of_importance(study_data),
        "note": study_data.importance.note,
        "bars": [
            {"name": name, "text": f"{part:.0%}", "width": round(100 * part / largest, 1)}
            for name, part in sorted(parts.items(), key=lambda pair: -pair[1])
        ],
    }


def _ladder(study_data: StudyData) -> dict[str, Any]:
    trials, ladder = study_data.trials, study_data.ladder
    reached = [int(((trials["folds"] >= r.folds) & (trials["epochs"] >= r.epochs)).sum()) for r in ladder.rungs]
    spent, whole = int(trials["fold_epochs"].sum()), ladder.exhaustive(len(trials))
    return {
        "title": captions.of_ladder(study_data),
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
        "seconds": _duration(study_data.document.get("seconds")),
        "worker_seconds": _duration(trials["worker_seconds"].sum()),
    }


def _data(study_data: StudyData) -> dict[str, Any]:
    rejects = mapping(study_data.dataset.get("rejects"))
    return {
        "rows": study_data.fold_counts,
        "classes": study_data.classes,
        "counts": mapping(study_data.dataset.get("counts")),
        "rejects": sorted(rejects.items(), key=lambda pair: str(pair[1]).rjust(12), reverse=True),
        "size": " × ".join(str(side) for side in list(study_data.dataset.get("image_size") or [])),
    }


def _failed(study_data: StudyData) -> dict[str, Any]:
    failed = study_data.trials[study_data.trials["state"] == TrialState.FAIL]
    rows = [(int(row["number"]), str(row["reason"])) for _, row in failed.head(SHOWN_FAILURES).iterrows()]
    return {"rows": rows, "count": len(failed), "hidden": len(failed) - len(rows)}


def _trials(study_data: StudyData) -> dict[str, Any]:
    """The table of all trials, the best first; those without a score last."""
    ordered = study_data.trials.sort_values(["epochs", "folds", "auc_mean"], ascending=False, na_position="last")
    rows = [
        {
            "number": int(row["number"]),
            "state": str(row["state"]).lower(),
            "auc": "" if pd.isna(row["auc_mean"]) else f"{row['auc_mean']:.3f} ± {row['auc_sd']:.3f}",
            "trained": f"{row['folds']} × {row['epochs']}" if row["epochs"] else "",
            "params": [_param(row[f"params.{name}"]) for name in study_data.parameters],
            "best": row["number"] == study_data.number,
        }
        for _, row in ordered.iterrows()
    ]
    return {"names": study_data.parameters, "rows": rows}


def _origin(study_data: StudyData) -> list[tuple[str, str]]:
    """The origin of the figures: what is needed to get them again."""
    versions = mapping(study_data.document.get("versions"))
    commit = next((versions[key] for key in ("git", "commit", "git_commit") if key in versions), "not recorded")
    shown = ", ".join(
        f"{name} {value}" for name, value in versions.items() if name not in ("git", "commit", "git_commit")
    )
    sampler = mapping(study_data.config.get("sampler"))
    initial = mapping(study_data.document.get("init_from"))
    begun = [
        ("trials started with F and E of", str(initial.get("source", "not recorded"))),
        ("SHA-256 of these weights", str(initial.get("weights", "not recorded"))),
    ]
    return [
        ("started", str(study_data.document.get("started", "not recorded"))),
        ("seed of sampler and folds", str(study_data.config.get("seed", "not recorded"))),
        ("sampler", str(sampler.get("name", "not recorded"))),
        ("dataset", str(study_data.dataset.get("uri", "not recorded"))),
        ("its fingerprint", str(study_data.dataset.get("fingerprint", "not recorded"))),
        *(begun if initial else []),
        *_learnt_from(study_data),
        ("versions", shown),
        ("git commit", str(commit)),
    ]


def _learnt_from(study_data: StudyData) -> list[tuple[str, str]]:
    """The earlier studies that the sampler learnt from."""
    sources = study_data.document.get("warm_start")
    return [
        ("sampler warmed by", f"{source.get('told')} trials of {source.get('study')}")
        for source in map(mapping, sources if isinstance(sources, list) else [])
    ]


def _param(value: Any) -> str:
    value = plain(value)
    return "" if value is None else short(value)


def _rung(rung: Rung) -> str:
    return f"{rung.folds} fold{'s' * (rung.folds != 1)} × {rung.epochs} epoch{'s' * (rung.epochs != 1)}"


def _duration(seconds: Any) -> str:
    return "not recorded" if seconds is None or pd.isna(seconds) or seconds <= 0 else duration(float(seconds))
