"""The cost of a study, as far as it is known before it starts: memory by counting, time by what was measured."""

import math
from typing import Any

from diagram_ray.config import override
from diagram_ray.data.parquet.layout import read_info
from diagram_ray.errors import DiagramError
from diagram_ray.results import Study
from diagram_ray.search.conditions import existing, ordered
from diagram_ray.storage.paths import place_at
from diagram_ray.study.study_folder import Plan

ENDS = (0.0, 0.5, math.nextafter(1.0, 0.0))
NO_TIME = "not known before a fold-epoch has been measured"
NO_DATA = "not known without the dataset"


def forecast(plan: Plan, expected: int, at_once: int) -> dict[str, Any]:
    """Memory of a trial, hours and cost of `expected` fold-epochs; a text where one is not known."""
    rate, measured = plan.study.budget.cost_per_worker_hour, _worker_seconds(plan)
    figures: dict[str, Any] = {"memory_mb_of_a_trial": _memory(plan)}
    if measured is None:
        return figures | {"hours": NO_TIME} | ({"cost": NO_TIME} if rate is not None else {})
    hours = expected * measured / 3600.0
    figures |= {"hours": round(hours / (at_once * plan.study.scaling.workers), 2)}
    return figures | ({"cost": round(hours * rate, 2)} if rate is not None else {})


def _memory(plan: Plan) -> str:
    """Memory of a trial at the low end, in the middle and at the high end of the space."""
    try:
        info = read_info(plan.data)
        height, width = map(int, info["image_size"])
        data = {"model.patch_size": int(info["patch_size"])}
    except (DiagramError, KeyError, TypeError, ValueError):
        return NO_DATA
    from diagram_ray.training.model_size import size_estimator

    measure = size_estimator(override(plan.base, data, "dataset"), (height, width), plan.study.folds)
    space = ordered(plan.study.space)
    megabytes = []
    for end in ENDS:
        params = existing(space, {key: values.at(end) for key, values in space.items()})
        megabytes.append(measure(params)["memory_mb"])
    return f"about {min(megabytes):,.0f} to {max(megabytes):,.0f}"


def _worker_seconds(plan: Plan) -> float | None:
    """Worker-seconds of a fold-epoch, in this study so far or in those that warm it; None if there is none."""
    folders = [plan.out] if plan.resume and plan.out is not None else [place_at(name) for name in plan.study.warm_start]
    spent = done = 0.0
    for folder in folders:
        try:
            table = Study.load(folder).trials
            spent, done = spent + table["worker_seconds"].sum(), done + (table["folds"] * table["epochs"]).sum()
        except (DiagramError, KeyError):  # cut off before it wrote its tables, or not a study any more
            continue
    return float(spent / done) if done else None
