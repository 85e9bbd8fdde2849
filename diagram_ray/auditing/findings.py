"""What an audit says: findings, each with a severity, one sentence, and what it rests on."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much a finding matters for a number that is measured on the dataset."""

    INFO = "info"
    """Worth knowing; nothing need be done."""
    WARNING = "warning"
    """The number may be wrong: look at it."""
    SERIOUS = "serious"
    """The number cannot be trusted as it is."""


ORDER = tuple(reversed(Severity))
"""The severities, the worst first."""


@dataclass(frozen=True)
class Finding:
    """One thing that the audit has found."""

    severity: Severity
    code: str
    """A short name that stays the same: 'duplicates', 'shortcut', ..."""
    sentence: str
    """A sentence for people: what is so, how often, and what follows."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the finding rests on, as JSON has it: counts and examples."""


def worst_first(findings: list[Finding]) -> list[Finding]:
    """The findings by severity, otherwise in their order."""
    return sorted(findings, key=lambda finding: ORDER.index(finding.severity))


def some(names: list[str], shown: int = 3) -> str:
    """Some of the names, for example 'a, b, c and 4 more'."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, what: str, plural: str = "") -> str:
    """A count with its noun, for example '1 image' or '3 images'."""
    return f"{count} {what if count == 1 else plural or what + 's'}"
