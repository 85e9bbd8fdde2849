"""The report as HTML, made from the template and written to its place."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diagram_ray.errors import UsageError
from diagram_ray.reporting.interval_chart import Line, draw
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.reporting.study_section import study_page, summary
from diagram_ray.reporting.templates_env import environment
from diagram_ray.reporting.uncertainty import between_studies
from diagram_ray.results import Study
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, reached

FILE = "report.html"


def write_report(study_paths: Sequence[str | Place], out: str | Place | None = None) -> Place:
    """Writes the report of one or several studies; returns where. Raises DataError, or UsageError for `out`.

    `out` defaults to report.html in the study's folder; of several studies, in the folder that holds them all.
    """
    return make_report(study_paths, out)[0]


def make_report(
    study_paths: Sequence[str | Place], out: str | Place | None = None
) -> tuple[Place, list[dict[str, Any]]]:
    """Writes the report as `write_report` does; also returns the figures of each study."""
    paths = list(dict.fromkeys(map(reached, study_paths)))
    study_data = [StudyData(Study.load(path)) for path in paths]
    target = reached(out) if out is not None else _default(paths)
    if target.is_dir():
        raise UsageError(f"--out {target}: is a folder; name the file, for example {target / FILE}")
    try:
        write_atomic(target, render(study_data))
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error}") from None
    return target, [summary(study) for study in study_data]


def render(studies: Sequence[StudyData]) -> str:
    """The page as HTML."""
    several = studies if len(studies) > 1 else []
    lines = [Line(study.name, study.estimates.corrected.auc, "main") for study in several if study.estimates]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            studies=[study_page(study) for study in studies],
            summaries=[summary(study) for study in several],
            scale=draw(lines),
            between=between_studies(several),
        )
    )


def _default(paths: list[Place]) -> Place:
    if len(paths) == 1:
        return paths[0] / FILE
    parents = {path.absolute().parent for path in paths}
    if len(parents) == 1:
        return parents.pop() / FILE
    if any(isinstance(path, StorePath) for path in paths):
        raise UsageError("--out is needed: the studies are in different folders, not all of them on this machine")
    return Path(os.path.commonpath([str(parent) for parent in parents])) / FILE
