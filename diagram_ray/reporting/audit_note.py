"""The audit of a study's dataset, as the study's report shows it."""

from pathlib import Path
from typing import Any

from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.record import read_summary
from diagram_ray.errors import DataError
from diagram_ray.reporting.recorded_values import mapping
from diagram_ray.reporting.study_data import StudyData

AUDIT = "python -m diagram_ray.audit"


def audit_note(study_data: StudyData) -> dict[str, Any]:
    """The audit as `state` (missing, stale, clean, warning, serious), `sentence`, and `loud` and `quiet` findings.

    A study that recorded no audit of its dataset gets the one that lies beside the dataset, if it fits.
    """
    recorded = mapping(study_data.dataset.get("audit")) or _beside(study_data)
    uri, fingerprint = study_data.dataset.get("uri", "DATASET"), study_data.dataset.get("fingerprint")
    findings = [mapping(finding) for finding in recorded.get("findings") or []]
    rows = [
        {"severity": str(finding.get("severity")), "sentence": str(finding.get("sentence"))} for finding in findings
    ]
    loud = [row for row in rows if row["severity"] != Severity.INFO]
    note = {"loud": loud, "quiet": [row for row in rows if row["severity"] == Severity.INFO]}
    if not recorded:
        sentence = (
            "Nobody has audited this data set: it may hold pictures of one patient under two names, or give the label "
            f"away by something else than the breast. {AUDIT} {uri} looks for that; then write this report again."
        )
        return {"state": "missing", "sentence": sentence, **note}
    if recorded.get("fingerprint") != fingerprint:
        sentence = f"The data set has changed since it was audited; {AUDIT} {uri} looks again."
        return {"state": "stale", "sentence": sentence, **note}
    state = next((kind for kind in ("serious", "warning") if kind in {row["severity"] for row in loud}), "clean")
    return {"state": state, "sentence": _sentence(state, study_data), **note}


def _sentence(state: str, study_data: StudyData) -> str:
    words = "The data set was audited before the study: "
    if state == "clean":
        words += "no picture under two patients, no contradiction and no shortcut was found."
    else:
        words += "what is said above was found, and a model's score may rest on it."
    target = mapping(study_data.document["experiment"].get("data")).get("target", "label")
    if target != "label":
        words += f" It asked whether the “label” can be told without looking at the breast, not “{target}”."
    return words


def _beside(study_data: StudyData) -> dict[Any, Any]:
    """The audit in the dataset's folder, if that is on this machine and the audit is of the dataset as it was used."""
    uri = str(study_data.dataset.get("uri", ""))
    if "://" in uri or not Path(uri).is_dir():
        return {}
    try:
        summary = read_summary(uri)
    except DataError:
        return {}
    return summary if summary and summary["fingerprint"] == study_data.dataset.get("fingerprint") else {}
