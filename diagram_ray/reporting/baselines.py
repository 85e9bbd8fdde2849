"""The winner beside trivial baselines: the figures for --json, and the page's chart and table."""

import dataclasses
from typing import Any

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates import Estimates
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.verdict import signed
from diagram_ray.reporting.facts import Facts
from diagram_ray.reporting.scale import Line, chance, draw


def figures(facts: Facts) -> dict[str, Any]:
    """`best`, its `auc`, the winner's `difference` from it and all `baselines`; or `unmeasured`, why there are none."""
    found = facts.estimates.margin if facts.estimates else None
    return {"unmeasured": facts.unmeasured} if found is None else dataclasses.asdict(found)


def beside_baselines(facts: Facts, estimates: Estimates) -> dict[str, Any]:
    """What the template wants to know."""
    found = estimates.margin
    if found is None:
        return {"unmeasured": facts.unmeasured}
    notes, absent = _told(facts)
    groups = [Line(_capital(each.name), each.auc) for each in found.baselines]
    winner = Line("The winner, corrected for selection", estimates.corrected.auc, "main")
    return {
        "unmeasured": "",
        "scale": draw([winner, *groups, *chance(facts.control)]),
        "rows": [(_capital(each.name), notes.get(each.name, ""), *_gap(each.difference)) for each in found.baselines],
        "best": _gap(found.difference),
        "corrected": f"{found.auc:.3f}",
        "absent": ", ".join(absent),
    }


def _told(facts: Facts) -> tuple[dict[str, str], list[str]]:
    """What each group looks at, and the groups of which nothing is known."""
    try:
        found = facts.study.baselines or {}
        return {str(each["name"]): str(each["note"]) for each in found["groups"]}, [
            str(name) for name in found["absent"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{facts.study.path / 'baselines.json'}: cannot be read: {error!r}") from None


def _gap(difference: Interval) -> tuple[str, str]:
    return signed(difference.value), f"{signed(difference.low)} to {signed(difference.high)}"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
