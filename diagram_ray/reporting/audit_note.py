"""What a study's report says of the audit of its dataset."""

from pathlib import Path
from typing import Any

from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.record import read_summary
from diagram_ray.errors import DataError
from diagram_ray.reporting.study_data import Facts, mapping

AUDIT = "python -m diagram_ray.audit"


def audit_note(facts: Facts) -> dict[str, Any]:
    """`state`: missing, stale, clean, warning or serious; `sentence`; findings that are `loud`, and `quiet` ones.

    A study that recorded no audit of its dataset is given the one that lies beside the dataset, if it fits.
    """
    recorded = mapping(facts.dataset.get("audit")) or _beside(facts)
    uri, fingerprint = facts.dataset.get("uri", "DATASET"), facts.dataset.get("fingerprint")
    findings = [mapping(finding) for finding in recorded.get("findings") or []]
    told = [{"severity": str(each.get("severity")), "sentence": str(each.get("sentence"))} for each in findings]
    loud = [each for each in told if each["severity"] != Severity.INFO]
    note = {"loud": loud, "quiet": [each for each in told if each["severity"] == Severity.INFO]}
    if not recorded:
        sentence = (
            "Nobody has audited this data set: it may hold pictures of one patient under two names, or give the label "
            f"away by something else than the breast. {AUDIT} {uri} looks for that; then write this report again."
        )
        return {"state": "missing", "sentence": sentence, **note}
    if recorded.get("fingerprint") != fingerprint:
        sentence = f"The data set has changed since it was audited; {AUDIT} {uri} looks again."
        return {"state": "stale", "sentence": sentence, **note}
    state = next((kind for kind in ("serious", "warning") if kind in {each["severity"] for each in loud}), "clean")
    return {"state": state, "sentence": _sentence(state, facts), **note}


def _sentence(state: str, facts: Facts) -> str:
    words = "The data set was audited before the study: "
    if state == "clean":
        words += "no picture under two patients, no contradiction and no shortcut was found."
    else:
        words += "what is said above was found, and a model's score may rest on it."
    target = mapping(facts.document["experiment"].get("data")).get("target", "label")
    if target != "label":
        words += f" It asked whether the “label” can be told without looking at the breast, not “{target}”."
    return words


def _beside(facts: Facts) -> dict[Any, Any]:
    """The audit in the dataset's folder, if that is on this machine and the audit is of the dataset as it was used."""
    uri = str(facts.dataset.get("uri", ""))
    if "://" in uri or not Path(uri).is_dir():
        return {}
    try:
        found = read_summary(uri)
    except DataError:
        return {}
    return found if found and found["fingerprint"] == facts.dataset.get("fingerprint") else {}
