"""A file of stages: studies and trainings that build on each other, as one job.

    name: paper
    stages:
      - {name: ddsm, study: ddsm_k_lr.yaml, data: ddsm}
      - {name: model, train: ddsm}
      - {name: inbreast, study: inbreast_transfer.yaml, data: inbreast, init_from: ddsm}

`data` are names; the command line says where they are. A stage may start from, or train the winner of, a study that
stands before it. `stages.yaml` in the folder of all stages holds them as they are run, for --resume.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import yaml
from pydantic import Field, Strict

from diagram_ray.config import Frozen, build
from diagram_ray.errors import ConfigError, UsageError
from diagram_ray.results import TrialState
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place, absolute
from diagram_ray.study.config import assign
from diagram_ray.study.ledger import has_ledger, read_ledger
from diagram_ray.study.study_folder import read_plan
from diagram_ray.yaml_text import parse_assignment, read_yaml

DOCUMENT = "stages.yaml"


class Stage(Frozen):
    """One step of the job: `study` or `train`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    """Name of the stage, and of its folder."""
    study: str | dict[str, Any] | None = None
    """A study file, relative to the file of stages; or what stands in one."""
    train: str | None = None
    """The stage whose best configuration is trained on all its data."""
    data: str | None = None
    """Name of a dataset; of a training, that of its study."""
    init_from: str | None = None
    """The stage whose F and E the trials start with, fold by fold; or a folder, as in a study file."""
    set: dict[str, Any] = Field(default={})
    """Keys of the study or of the configuration that are other than in its file."""


class StagesConfig(Frozen):
    """The content of a file of stages."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the whole; the default folder is runs/NAME-N."""
    data: dict[str, str] = Field(default={})
    """Name -> path or URI of the prepared dataset."""
    stages: Annotated[tuple[Stage, ...], Strict(False)] = Field(min_length=1)
    """The stages, in the order in which they are run."""

    def stage(self, name: str) -> Stage:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.name == name)

    def uri(self, stage: Stage) -> str:
        """The path or URI of a stage's dataset."""
        return self.data[self.stage(stage.train).data or "" if stage.train else stage.data or ""]


def is_staged(path: Place | None) -> bool:
    """Whether a file is one of stages, or a folder one that they were run in."""
    if path is None:
        return False
    return (path / DOCUMENT).is_file() if path.is_dir() else path.is_file() and "stages" in read_yaml(path)


def read_stages(path: Place, data: Iterable[str], assignments: Sequence[str]) -> StagesConfig:
    """The stages in a file, with the places of --data NAME=URI and the changes of --set [STAGE.]KEY=VALUE.

    Raises ConfigError for what contradicts itself, UsageError for a dataset whose place is not given.
    """
    raw = dict(read_yaml(path))
    raw["data"] = dict(raw.get("data") or {}) | dict(map(_place, data))
    config = build(StagesConfig, raw, str(path))
    _check(config, str(path))
    changed = [_with(stage, config, assignments) for stage in config.stages]
    return config.model_copy(update={"stages": tuple(_whole(stage, path.parent) for stage in changed)})


def write_stages(folder: Place, config: StagesConfig) -> None:
    """Writes the stages as they are run, into `folder`."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    write_atomic(folder / DOCUMENT, text)


def is_finished(folder: Place) -> bool:
    """Whether the study in `folder` has nothing left to do. Raises DataError for a damaged one."""
    if not has_ledger(folder) or not (folder / "report.html").is_file():
        return False
    trials = read_ledger(folder).values()
    ended = [trial for trial in trials if trial.state is not TrialState.RUNNING]
    return len(ended) >= read_plan(folder).study.trials


def _place(text: str) -> tuple[str, str]:
    name, separator, uri = text.partition("=")
    if not separator or not name or not uri:
        raise UsageError(f"--data {text}: of stages it is NAME=DATASET, for example ddsm=runs/ddsm")
    return name, absolute(uri)


@dataclass(frozen=True)
class _Earlier:
    """The names of the stages before one."""

    all: list[str]
    studies: list[str]


def _check(config: StagesConfig, where: str) -> None:
    earlier = _Earlier([], [])
    for stage in config.stages:
        here = f"{where}: stage {stage.name}"
        if stage.name in earlier.all:
            raise ConfigError(f"{here}: there are two of this name")
        if (stage.study is None) == (stage.train is None):
            raise ConfigError(f"{here}: expected either study or train")
        if stage.train is not None and stage.train not in earlier.studies:
            raise ConfigError(f"{here}: train: {stage.train!r} is no study before it; there are {earlier.studies}")
        if stage.train is not None and (stage.data or stage.init_from or stage.set):
            raise ConfigError(f"{here}: a training takes data and settings from its study: give neither")
        if stage.study is not None and stage.data is None:
            raise ConfigError(f"{here}: data: which dataset? give it a name")
        if stage.data is not None and stage.data not in config.data:
            raise UsageError(f"{here}: where is its dataset? give --data {stage.data}=DATASET")
        earlier.all.append(stage.name)
        if stage.study is not None:
            earlier.studies.append(stage.name)
    if unknown := config.data.keys() - {stage.data for stage in config.stages}:
        raise UsageError(f"{where}: --data {min(unknown)}: no stage has a dataset of this name")


def _with(stage: Stage, config: StagesConfig, assignments: Sequence[str]) -> Stage:
    """A stage with those of --set that are for it, or for all."""
    if stage.study is None:
        return stage
    names, changes = [other.name for other in config.stages], dict(stage.set)
    for text in assignments:
        key, value = parse_assignment(text)
        first, _, rest = key.partition(".")
        if first in names and rest:
            changes |= {rest: value} if first == stage.name else {}
        else:
            changes[key] = value
    return stage.model_copy(update={"set": changes})


def _whole(stage: Stage, folder: Place) -> Stage:
    """A stage whose study file and settings have become what stands in it: it depends on no other file."""
    if stage.study is None:
        return stage
    raw = dict(read_yaml(folder / stage.study)) if isinstance(stage.study, str) else dict(stage.study)
    for key, value in stage.set.items():
        assign(raw, key, value)
    return stage.model_copy(update={"study": raw | {"name": stage.name}, "set": {}})
