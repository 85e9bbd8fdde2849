"""Stages, one after the other, in one Ray session: each in its own folder, each gone on with where it was cut off."""

from pathlib import Path
from typing import Any

import typer

from diagram_ray import cli
from diagram_ray.config import ExperimentConfig
from diagram_ray.errors import ConfigError, UsageError
from diagram_ray.storage.paths import Place, place_at, remove
from diagram_ray.study.config import build_study
from diagram_ray.study.ledger import has_ledger
from diagram_ray.study.pipeline import (
    DOCUMENT,
    Stage,
    StagesConfig,
    is_finished,
    read_stages,
    write_stages,
)
from diagram_ray.study.study_folder import DOCUMENT as STUDY
from diagram_ray.study.study_folder import Plan, make_folder, read_plan
from diagram_ray.tune.study_plan import fine_tuning, new_place, show
from diagram_ray.tune.surroundings import run


def new_stages(path: Path, data: list[str], out: str | None, changes: list[str]) -> tuple[StagesConfig, Place | None]:
    """The stages in a file, and their folder. Every stage is checked before the first one starts."""
    config = read_stages(path, data, changes)
    for stage in config.stages:
        if stage.study is not None:
            _built(stage, config, Path())
        elif config.stage(stage.train or "").init_from is not None:
            what = f"{path}: stage {stage.name}: train: {stage.train}"
            raise ConfigError(f"{what} starts from the weights of another stage; train --init-from can do that")
    return config, new_place(out)


def resumed_stages(folder: Place) -> tuple[StagesConfig, Place]:
    """The stages that were begun in a folder, and the folder."""
    return read_stages(folder / DOCUMENT, [], []), folder


def show_stages(config: StagesConfig) -> dict[str, Any]:
    """Prints the plan of each stage's study, and returns the plans."""
    shown = {}
    for stage in config.stages:
        typer.echo(f"stage {stage.name}")
        if stage.study is not None:
            shown[stage.name] = show(_built(stage, config, Path()))
    return {"name": config.name, "stages": shown}


def run_stages(config: StagesConfig, folder: Place | None) -> dict[str, Any]:
    """Runs all stages, and writes a report of all studies on one page. Raises what a study raises; --resume goes on."""
    from diagram_ray.data.parquet.layout import read_info
    from diagram_ray.distributed.session import ray_session
    from diagram_ray.report import write_report

    for uri in config.data.values():
        read_info(uri)  # a wrong path is reported before anything starts
    if folder is None or not (folder / DOCUMENT).is_file():
        folder = make_folder(folder, config.name)
        write_stages(folder, config)
    results: dict[str, Any] = {}
    with ray_session():
        for number, stage in enumerate(config.stages, start=1):
            cli.log.info("stage %d of %d: %s", number, len(config.stages), stage.name)
            results[stage.name] = _one(stage, config, folder.absolute())
    studies = [folder / stage.name for stage in config.stages if stage.study is not None]
    report = write_report(studies, folder / "report.html")
    typer.echo(f"report of all stages: {report}")
    return {"folder": str(folder), "stages": results, "report": str(report)}


def _one(stage: Stage, config: StagesConfig, folder: Place) -> dict[str, Any]:
    place = folder / stage.name
    if stage.train is not None:
        from diagram_ray.distributed.session import run_remote
        from diagram_ray.train import train_best

        return run_remote(train_best, folder / stage.train, config.uri(stage), place)
    if is_finished(place):
        cli.log.info("%s: done already", place)
        return {"study": str(place)}
    if (place / STUDY).is_file():
        return run(read_plan(place), make_phantom=False)
    if isinstance(place, Path) or not has_ledger(place):  # cut off before it had a plan: nothing was trained
        remove(place)
    return run(_built(stage, config, folder), make_phantom=False)


def _built(stage: Stage, config: StagesConfig, folder: Place) -> Plan:
    """The plan of a stage's study."""
    if not isinstance(stage.study, dict):
        raise UsageError(f"stage {stage.name}: its study is not read")
    source = stage.init_from
    if source in [other.name for other in config.stages]:
        source = str(folder / source) if folder.is_absolute() else source
    raw = stage.study | ({"init_from": source} if source is not None else {})
    study, base = build_study(raw, f"stage {stage.name}", _start)
    return Plan(study, base, config.uri(stage), folder / stage.name)


def _start(source: str) -> ExperimentConfig:
    """The configuration that fine-tuning starts from, as far as it is known before the stage has run."""
    from diagram_ray.training.transfer import starting_config_to_come

    return fine_tuning(source) if (place_at(source) / STUDY).is_file() else starting_config_to_come()
