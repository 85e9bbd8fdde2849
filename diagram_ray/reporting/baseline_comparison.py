"""The winner beside trivial baselines and a reference network: figures for --json, and the page's chart and table."""

import dataclasses
from typing import Any

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.winner import Estimates
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.verdict import against_reference, signed
from diagram_ray.reporting.formatting import signed_interval_text
from diagram_ray.reporting.interval_chart import Line, chance, draw
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import BASELINES, REFERENCE


def figures(study_data: StudyData) -> dict[str, Any]:
    """`best`, its `auc`, the winner's `difference` from it and all `baselines`; or `unmeasured`, why there are none."""
    margin = study_data.estimates.margin if study_data.estimates else None
    return {"unmeasured": study_data.unmeasured} if margin is None else dataclasses.asdict(margin)


def reference_figures(study_data: StudyData) -> dict[str, Any]:
    """`name`, `auc`, the winner's `difference` from it and a `sentence`; or `unmeasured`, why there is none."""
    estimates = study_data.estimates
    if estimates is None or estimates.reference is None:
        return {"unmeasured": study_data.unreferenced}
    sentence = against_reference(estimates.corrected.auc, estimates.reference)
    return dataclasses.asdict(estimates.reference) | {"sentence": sentence}


def beside_baselines(study_data: StudyData, estimates: Estimates) -> dict[str, Any]:
    """The values that the template needs to show the winner beside baselines."""
    margin, reference = estimates.margin, reference_figures(study_data)
    if margin is None:
        return {"unmeasured": study_data.unmeasured, "reference": reference}
    notes, absent = _notes(study_data, study_data.study.baselines, BASELINES)
    shown = [(_capital(group.name), notes.get(group.name, ""), group) for group in margin.baselines]
    if (other := estimates.reference) is not None:
        note = _notes(study_data, study_data.study.reference, REFERENCE)[0].get(other.name, "")
        shown.append((f"{_capital(other.name)} (reference network)", note, other))
    groups = [Line(name, group.auc) for name, _, group in shown]
    winner = Line("The winner, corrected for selection", estimates.corrected.auc, "main")
    return {
        "unmeasured": "",
        "scale": draw([winner, *groups, *chance(study_data.control)]),
        "rows": [(name, note, *_gap(group.difference)) for name, note, group in shown],
        "reference": reference,
        "best": _gap(margin.difference),
        "corrected": f"{margin.auc:.3f}",
        "absent": ", ".join(absent),
    }


def _notes(study_data: StudyData, recorded: dict[str, Any] | None, file: str) -> tuple[dict[str, str], list[str]]:
    """What each group looks at, and the groups of which nothing is known."""
    try:
        document = recorded or {}
        return {str(group["name"]): str(group["note"]) for group in document["groups"]}, [
            str(name) for name in document["absent"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{study_data.study.path / file}: cannot be read: {error!r}") from None


def _gap(difference: Interval) -> tuple[str, str]:
    return signed(difference.value), signed_interval_text(difference)


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
