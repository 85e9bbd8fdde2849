"""The goals of a study besides AUC: bounds, objectives and conditions in sentences, and its Pareto front."""

from typing import Any

import pandas as pd

from diagram_ray.errors import DataError
from diagram_ray.evaluation.plots import curves
from diagram_ray.reporting.charts import Picture
from diagram_ray.reporting.recorded_values import mapping
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.search.conditions import worded
from diagram_ray.search.constraints import SIZES, shown

SHOWN_ROWS = 30


def goals(study_data: StudyData) -> dict[str, Any] | None:
    """Sentences on the goals, and of several objectives the front as pictures and rows; None if there is nothing of
    these."""
    words = [*_bounds(study_data), *_conditions(study_data)]
    minimised = [name for name in study_data.study.objectives if name in SIZES and name in study_data.trials]
    if not minimised:
        return {"words": words, "pictures": [], "rows": [], "names": []} if words else None
    nouns = " and ".join(_noun(name) for name in minimised)
    words.insert(
        0,
        f"Searched for a high AUC and few {nouns}. Trials were compared on the way by their AUC alone, so a small "
        "model with a lower AUC may have been pruned. The best trial is the one with the highest AUC.",
    )
    try:
        front = study_data.study.pareto
    except DataError:
        front = study_data.trials.iloc[:0]
    rows = [
        {
            "number": int(row["number"]),
            "auc": f"{row['auc_mean']:.3f} ± {row['auc_sd']:.3f}",
            "sizes": [shown(float(row[name])) for name in minimised],
            "best": row["number"] == study_data.number,
        }
        for _, row in front.head(SHOWN_ROWS).iterrows()
    ]
    pictures = [_picture(study_data, name, front) for name in minimised] if len(front) else []
    return {"words": words, "pictures": pictures, "rows": rows, "names": [SIZES[name] for name in minimised]}


def _picture(study_data: StudyData, name: str, front: pd.DataFrame) -> Picture:
    limits = curves.auc_limits(study_data.trials)
    image = curves.pareto(study_data.trials, name, front, study_data.number, limits)
    title = f"{len(front)} trials are on the front" if len(front) > 1 else "One trial is the best in every respect"
    return Picture(title, image, f"AUC of each trial against {SIZES[name]}. {title}.")


def _bounds(study_data: StudyData) -> list[str]:
    sentences = []
    for name, bound in mapping(study_data.config.get("constraints")).items():
        if name not in SIZES or not isinstance(bound, int | float):
            continue
        sizes = study_data.trials[name] if name in study_data.trials else pd.Series(dtype=float)
        above = int((sizes > bound).sum())
        count = f"{above} of {len(study_data.trials)} trials had more and {'was' if above == 1 else 'were'} not trained"
        sentences.append(f"At most {shown(float(bound))} {SIZES[name]}: {count if above else 'no trial had more'}.")
    return sentences


def _conditions(study_data: StudyData) -> list[str]:
    space = mapping(study_data.config.get("space"))
    conditions = {key: worded(mapping(mapping(values).get("when"))) for key, values in space.items()}
    return [f"{key} exists only where {words}." for key, words in conditions.items() if words]


def _noun(name: str) -> str:
    return SIZES[name].split(",")[0]
