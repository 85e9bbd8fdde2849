"""Plans of studies: from a file or a folder, with what the command line changes."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import typer

from diagram_ray.config import ExperimentConfig, build
from diagram_ray.errors import UsageError
from diagram_ray.search.budget import BudgetConfig
from diagram_ray.storage.paths import Place, absolute, reached
from diagram_ray.study.config import read_study, seconds
from diagram_ray.study.nested_plan import check_nested, price
from diagram_ray.study.study_folder import Plan, check_free, read_plan
from diagram_ray.study.warm_start import check_studies
from diagram_ray.tune.cost import forecast
from diagram_ray.yaml_text import parse_assignment

QUICKSTART = Path("search_spaces") / "quickstart.yaml"
PHANTOM = Path("runs") / "phantom"
BUDGET = "budget."
PARTS_OF_A_JOB = {"runtime_resources", "working_dir_files"}
"""Folders above the one in which Ray runs a job that was submitted with a working folder."""


def new_plan(study: Path | None, data: str | None, out: str | None, assignments: list[str]) -> Plan:
    """The plan of a study file, or of the quickstart. Raises UsageError and ConfigError; nothing is written."""
    config, base = read_study(study or _quickstart(), assignments, fine_tuning)
    if config.init_from is not None:
        config = config.model_copy(update={"init_from": absolute(config.init_from)})
    check_studies(config.warm_start, str(study or QUICKSTART))
    config = config.model_copy(update={"warm_start": [absolute(name) for name in config.warm_start]})
    if study is not None and data is None:
        raise UsageError(f"{study}: which dataset? give --data DATASET, as python -m diagram_ray.prepare has made it")
    return Plan(config, base, absolute(data or str(PHANTOM)), new_place(out))


def new_place(out: str | None) -> Place | None:
    """The place that --out names. Raises UsageError if it cannot hold something new."""
    place = reached(out) if out is not None else None
    if set(Path.cwd().parts) >= PARTS_OF_A_JOB and not (place or Path()).is_absolute():
        raise UsageError(
            f"--out {out or '(not given)'}: in a Ray job the study's folder must be an absolute path that all nodes "
            "share, or a URI, for example /studies/name or s3://bucket/name: the job's own folder is removed with it"
        )
    if place is not None:
        check_free(place)
    return place


def resumed_plan(
    folder: Place,
    data: str | None,
    trials: int | None,
    time_budget: str | None,
    repeats: int | None = None,
    assignments: Sequence[str] = (),
) -> Plan:
    """The plan of the study in a folder, with another budget, more repeats, or another place of the data.

    `assignments`: of its `budget` only.
    """
    plan = read_plan(folder)
    changes: dict[str, Any] = {}
    if repeats is not None:
        if repeats < plan.study.repeats:
            raise UsageError(f"--repeats {repeats}: the study has {plan.study.repeats} already; more can be added")
        changes["repeats"] = repeats
    if trials is not None:
        changes["trials"] = trials
    if time_budget is not None:
        seconds(time_budget, "--time-budget")
        changes["time_budget"] = time_budget
    if assignments:
        budget = plan.study.budget.model_dump()
        budget |= {key.removeprefix(BUDGET): value for key, value in map(parse_assignment, assignments)}
        changes["budget"] = build(BudgetConfig, budget, "--set budget")
    study = plan.study.model_copy(update=changes)
    return replace(plan, study=study, data=absolute(data) if data else plan.data)


def with_controls(plan: Plan, **controls: bool) -> Plan:
    """Adds controls of ControlConfig to a plan. Raises ConfigError where they cannot be had."""
    control = plan.study.control.model_copy(update={name: True for name, value in controls.items() if value})
    study = plan.study.model_copy(update={"control": control})
    check_nested(study)
    return replace(plan, study=study)


def fine_tuning(source: str) -> ExperimentConfig:
    """The configuration that a study starts from which has the weights of `source`."""
    from diagram_ray.training.transfer import starting_config

    return starting_config(source)


def assignments_of(options: Mapping[str, Any]) -> list[str]:
    """Options as texts of --set, without those that are not given."""
    return [f"{key}={json.dumps(value)}" for key, value in options.items() if value]


def _quickstart() -> Path:
    for place in (Path(), Path(__file__).resolve().parents[2]):
        if (place / QUICKSTART).is_file():
            return place / QUICKSTART
    raise UsageError(f"{QUICKSTART}: not found here or beside the package; name a study file")


def show(plan: Plan) -> dict[str, Any]:
    """Prints the plan and what it can cost; returns the same as plain values."""
    study = plan.study
    ladder = study.make_ladder(plan.base.training.epochs)
    at_once = study.parallel.trials or max(1, (os.cpu_count() or 1) // study.scaling.workers)
    lookback = study.lookback(at_once)
    largest, expected = ladder.exhaustive(study.trials), ladder.expected(study.trials, unpruned=lookback)
    if study.budget.fold_epochs is not None:  # the last trial that starts within it may go on to the end
        largest = min(largest, study.budget.fold_epochs - 1 + ladder.rungs[-1].fold_epochs)
        expected = min(expected, study.budget.fold_epochs)
    result = {
        "name": study.name,
        "data": plan.data,
        "trials": study.trials,
        "folds": study.folds,
        "rungs": [[rung.folds, rung.epochs] for rung in ladder.rungs],
        "race": study.race.rule,
        "largest_fold_epochs": largest,
        "expected_fold_epochs": expected,
        "trials_at_once": at_once,
        "workers_per_trial": study.scaling.workers,
        "lookback": lookback,
        "searched": list(study.space),
        **forecast(plan, expected, at_once),
    }
    if study.repeats > 1:
        result["repeats_fold_epochs"] = (study.repeats - 1) * ladder.rungs[-1].fold_epochs
    if study.control.nested:
        cost = price(study, ladder, lookback)
        result |= {f"nested_{name}": value for name, value in asdict(cost).items()}
    for key, value in result.items():
        typer.echo(f"{key.replace('_', ' '):22} {value}")
    return result
