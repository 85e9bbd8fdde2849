"""An audit's result, and audit.json: beside the dataset's own files, with the fingerprint of what was audited.

A dataset that has changed since has another fingerprint, and its audit is stale. The same dataset gives the same file.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diagram_ray import __version__
from diagram_ray.auditing.findings import Finding, Severity, worst_first
from diagram_ray.errors import DataError
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.opening import open_place

FILE, PAGE = "audit.json", "audit.html"
VERSION = 1
LISTED = 200
"""Pairs that audit.json lists."""


@dataclass(frozen=True)
class Audit:
    """What an audit has found; all of it as JSON has it, but for the findings."""

    fingerprint: str
    """The fingerprint of the dataset that was audited."""
    dataset: dict[str, Any]
    """The dataset's name, source_format, classes and counts."""
    findings: tuple[Finding, ...]
    """The findings, the worst first."""
    counts: dict[str, list[dict[str, Any]]]
    """Column -> its values, with the images of each class."""
    statistics: list[dict[str, Any]]
    histograms: dict[str, list[float]]
    shortcuts: dict[str, Any]
    """The shortcut check: `groups` of features, with [value, low, high] of AUC or null; `unasked`: why there are
    none."""
    pairs: list[dict[str, Any]]
    """Pictures under two patients."""

    @property
    def serious(self) -> list[Finding]:
        """Findings for which the dataset should not be trusted as it is."""
        return [finding for finding in self.findings if finding.severity is Severity.SERIOUS]


def new_audit(
    info: Mapping[str, Any],
    findings: Sequence[Finding],
    pairs: Sequence[dict[str, Any]],
    **measured: Any,
) -> Audit:
    """The audit of the dataset that `info`, its dataset.json, describes."""
    dataset = {name: info.get(name) for name in ("name", "source_format", "classes", "counts")}
    ordered = tuple(worst_first(list(findings)))
    return Audit(str(info["fingerprint"]), dataset, ordered, pairs=list(pairs)[:LISTED], **measured)


def as_dict(audit: Audit) -> dict[str, Any]:
    """The audit as audit.json has it."""
    return {"format_version": VERSION, "created_by": __version__, **asdict(audit)}


def to_json(audit: Audit) -> str:
    """The content of audit.json."""
    return json.dumps(as_dict(audit), indent=1) + "\n"


def write_beside(uri: str, name: str, text: str) -> str:
    """Writes a file beside dataset.json, whole or not at all; returns where. Raises DataError if it cannot."""
    place = open_place(uri)
    try:
        write_atomic(place / name, text)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{name}: cannot be written: {' '.join(str(error).split())}") from None
    return f"{uri.rstrip('/')}/{name}"


def read_summary(uri: str) -> dict[str, Any] | None:
    """What audit.json says in short: `summary` of it. None if there is none. Raises DataError if it cannot be read."""
    place = open_place(uri)
    try:
        document = json.loads((place / FILE).read_bytes())
        findings = [{name: str(finding[name]) for name in FINDING_FIELDS} for finding in document["findings"]]
        return {"fingerprint": str(document["fingerprint"]), "findings": findings}
    except FileNotFoundError:
        return None
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{FILE}: cannot be read: {type(error).__name__}: {error}") from None


def summary(audit: Audit) -> dict[str, Any]:
    """What a study keeps of an audit: the fingerprint, and the findings without their details."""
    findings = [{name: str(getattr(finding, name)) for name in FINDING_FIELDS} for finding in audit.findings]
    return {"fingerprint": audit.fingerprint, "findings": findings}


FINDING_FIELDS = ("severity", "code", "sentence")
