"""A study file: what is searched, on which folds, for how long. One YAML file in `search_spaces/` is one study.

name: quickstart
base: {model.width: 8, training.epochs: 9}        # overrides of ExperimentConfig, dotted or nested
space:                                            # dotted key -> range, in Optuna's words
  training.k: {type: int, low: 1, high: 4}
folds: 5
trials: 16
ladder: {rungs: [[5, 1], [5, 3], [5, 9]], reduction: 3}      # (folds, epochs)
"""

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, ValidationInfo, field_validator

from diagram_ray.config import FROM_WEIGHTS, ExperimentConfig, Frozen, build, dotted_keys, override
from diagram_ray.errors import ConfigError
from diagram_ray.search.budget import BudgetConfig
from diagram_ray.search.conditions import check_conditions, check_points, settle
from diagram_ray.search.constraints import ConstraintsConfig, Goals, check_objectives, goals_of
from diagram_ray.search.ladder import Ladder, Rung, make_rungs, usual_lookback
from diagram_ray.search.racing import RaceConfig
from diagram_ray.search.sampler_config import SamplerConfig, check_sampler
from diagram_ray.search.space import Choices, FloatRange, IntRange, check_space, parse_space
from diagram_ray.setting_keys import unknown_key
from diagram_ray.study.integrations import MlflowConfig, check_tracking
from diagram_ray.yaml_text import parse_assignment, read_yaml

Start = Callable[[str], ExperimentConfig]
"""Function from what `init_from` names to the configuration that fine-tuning starts with, before `base` is applied."""
RungPair = Annotated[tuple[int, int], Strict(False)]


class LadderConfig(Frozen):
    """The rungs at which trials are compared, and how many of them go on."""

    rungs: Annotated[tuple[RungPair, ...], Strict(False)] | None = None
    """(folds, epochs) of each rung; the last must be (folds, training.epochs). None: one fold after a third of the
    epochs, two and more at half of them, and all folds at the end (search/ladder.py: make_rungs)."""
    reduction: int = Field(default=2, ge=2)
    """The best 1/`reduction` of the trials that have reached a rung go on."""

    def make(self, folds: int, epochs: int) -> Ladder:
        """The ladder of trials that are trained on `folds` folds for `epochs` epochs."""
        if self.rungs is None:
            return Ladder(make_rungs(folds, epochs), self.reduction)
        return Ladder(tuple(Rung(*pair) for pair in self.rungs), self.reduction)


class ParallelConfig(Frozen):
    """The number of trials that run at once, and their resources."""

    trials: int | None = Field(default=None, ge=1)
    """Number of trials that run at once. None: as many as the cluster has CPUs (GPUs, where it has any)."""
    lookback: int | None = Field(default=None, ge=1)
    """Trial i sees the results of the trials up to i - lookback, whatever the timing. None: twice the
    trials that run at once, and more where each worker gets more than 8 of them (search/ladder.py: usual_lookback)."""
    cpus_per_trial: float | None = Field(default=None, gt=0.0)
    """CPUs of a trial. None: an equal part of the cluster's, at most 1. For trials of one worker."""
    gpus_per_trial: float | None = Field(default=None, gt=0.0, le=1.0)
    """GPUs of a trial; below 1, trials share one. None: an equal part of the cluster's, at most 1. For trials of one
    worker."""
    elastic: bool = False
    """Whether the cluster grows and shrinks: `trials` say how many may run at once when it is large, and one that finds
    no room waits for it. A trial or worker then takes 1 CPU and no GPU where it is not said."""

    @field_validator("elastic")
    @classmethod
    def _of_how_many(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("trials", 1) is None:
            raise ValueError("needs parallel.trials: how many may run at once when the cluster is large")
        return value


class ScalingConfig(Frozen):
    """The processes that train one trial."""

    workers: int = Field(default=1, ge=1)
    """Number of processes that train a trial. 1: on one device. More: as a group, with a device each."""
    folds_at_once: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Folds of a trial that are trained side by side: each on an equal part of the workers, or, where they are more,
    several in each worker by threads. auto: as many as the workers, and in a worker with a GPU as many of its folds as
    the first ones show to fit and to be faster together (training/parallel/fold_packing.py has the rest); without a
    GPU, one."""
    min_workers: int | None = Field(default=None, ge=1)
    """Fewest workers that are enough where there is no room for all of them, or no longer. None: all are needed."""
    cpus_per_worker: float | None = Field(default=None, gt=0.0)
    """CPUs of each worker. None: an equal part of the cluster's, at most 1."""
    gpus_per_worker: int | None = Field(default=None, ge=0, le=1)
    """GPUs of each worker; workers of a group cannot share one. None: 1 where there are GPUs."""

    @field_validator("folds_at_once", mode="before")
    @classmethod
    def _auto_or_some(cls, value: object) -> object:
        if value != "auto" and (type(value) is not int or value < 1):
            raise ValueError("allowed are auto and whole numbers from 1")
        return value

    @field_validator("min_workers")
    @classmethod
    def _at_most_all(cls, value: int | None, info: ValidationInfo) -> int | None:
        if value is not None and value > info.data.get("workers", value):
            raise ValueError(f"must not be above scaling.workers, which is {info.data['workers']}")
        return value


class ControlConfig(Frozen):
    """Further trainings of the winner, which show what its score is worth."""

    shuffles: int = Field(default=1, ge=0)
    """Number of no-signal controls, each with the labels shuffled by patient. They must score 0.5."""
    leakage: bool = False
    """Whether the winner is trained on folds assigned by image, with patients on both sides: what that adds to the
    AUC."""
    nested: bool = False
    """Whether the search is made again without each fold, and measured on it: nested cross-validation,
    search/nested.py."""


class PageConfig(Frozen):
    """The page that shows the study while it runs."""

    on: bool = True
    """Whether the page is served."""
    host: str = "127.0.0.1"
    """The address it listens on: this machine only by default. It is not encrypted."""
    port: int = Field(default=0, ge=0, le=65535)
    """The port it listens on. 0: one that is free."""


class StudyConfig(Frozen):
    """The settings of one study, as its file gives them."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the study; the default folder is runs/NAME-N."""
    init_from: str | None = None
    """A study, a model folder or a .safetensors file whose F and E the trials start with (paper Sect. 2.4)."""
    base: dict[str, Any] = Field(default={})
    """Settings of the configuration that all trials share, by dotted key or nested."""
    space: dict[str, FloatRange | IntRange | Choices]
    """Ranges of the searched settings: dotted key of the configuration -> its range."""
    first: list[dict[str, str | int | float | bool | None]] = Field(default=[])
    """Configurations that the first trials shall have. What one leaves open is proposed by the sampler."""
    folds: int = Field(default=5, ge=2)
    """Parts of the patients for cross-validation; a patient is in one only."""
    trials: int = Field(default=16, ge=1)
    """Number of configurations that are tried."""
    repeats: int = Field(default=1, ge=1, le=100)
    """Number of cross-validations of the winner, each on folds assigned anew. The search knows the first."""
    seed: int = Field(default=0, ge=0)
    """Seed of the sampler and of the folds; a trial's own seed is `training.seed`."""
    sampler: SamplerConfig = SamplerConfig()
    constraints: ConstraintsConfig = ConstraintsConfig()
    objectives: list[Literal["auc", "parameters", "multiply_adds", "memory_mb"]] = Field(default=["auc"], min_length=1)
    """`auc` is maximised, the others, sizes of the model, are minimised. The ladder and the race compare by AUC alone,
    and the best trial is the one with the highest."""
    ladder: LadderConfig = LadderConfig()
    race: RaceConfig = RaceConfig()
    parallel: ParallelConfig = ParallelConfig()
    scaling: ScalingConfig = ScalingConfig()
    control: ControlConfig = ControlConfig()
    pixels: Literal["auto", "memory", "disk"] = "auto"
    """Place where each machine keeps the dataset's pixels for all its trials: in shared memory, or in a file that is
    mapped. auto: on the disk where they take more than a quarter of the memory."""
    page: PageConfig = PageConfig()
    mlflow: MlflowConfig = MlflowConfig()
    """Whether the trials become runs of an MLflow tracking server as well (monitoring/mlflow.py)."""
    time_budget: str | None = None
    """Time such as 2h, 90m or 1h30m after which no trial starts; those that run are put aside for --resume."""

    budget: BudgetConfig = BudgetConfig()
    warm_start: list[str] = Field(default=[])
    """Folders of earlier studies whose trials the sampler learns from (study/warm_start.py)."""

    def resolved(self, epochs: int, workers: int) -> "StudyConfig":
        """A copy with rungs and lookback filled in for `workers` trials at once.

        A study that is resumed on another machine must keep both; how many trials run at once may change.
        """
        lookback = self.lookback(self.parallel.trials or workers)
        rungs = self.ladder.rungs
        if rungs is None:
            rungs = tuple((r.folds, r.epochs) for r in make_rungs(self.folds, epochs))
        return self.model_copy(
            update={
                "ladder": LadderConfig(rungs=rungs, reduction=self.ladder.reduction),
                "parallel": self.parallel.model_copy(update={"lookback": lookback}),
            }
        )

    def lookback(self, at_once: int) -> int:
        """The lookback that the file names, or else the default for `at_once` trials at a time."""
        return self.parallel.lookback or usual_lookback(at_once, self.trials)

    @property
    def goals(self) -> Goals:
        """The objectives and bounds of the study."""
        return goals_of(self.objectives, self.constraints)

    def make_ladder(self, epochs: int) -> Ladder:
        """The ladder of a study whose trials train for `epochs` epochs."""
        return self.ladder.make(self.folds, epochs)


def read_study(
    path: Path, assignments: Sequence[str] = (), start: Start | None = None
) -> tuple[StudyConfig, ExperimentConfig]:
    """The study in a file, with `KEY=VALUE` texts of --set applied, and the configuration its trials start from.

    A KEY of ExperimentConfig goes to `base`; if the space searches it, it is fixed and leaves the space. `start` makes
    the configuration of a study with `init_from`. Raises ConfigError, and what `start` raises.
    """
    raw = read_yaml(path)
    for text in assignments:
        assign(raw, *parse_assignment(text))
    return build_study(raw, str(path), start)


def build_study(raw: Mapping[str, Any], where: str, start: Start | None = None) -> tuple[StudyConfig, ExperimentConfig]:
    """The study in a mapping (of a file, or of study.yaml), checked as by `read_study`."""
    if "space" in raw:
        raw = {**raw, "space": parse_space(raw["space"], where)}
    study = build(StudyConfig, raw, where)
    defaults = start(study.init_from) if start is not None and study.init_from is not None else ExperimentConfig()
    base = override(defaults, study.base, f"{where}: base")
    check_conditions(study.space, where)
    check_space(study.space, base, where)
    check_points(study.first, study.space, where)
    check_objectives(study.objectives, study.sampler.name, where)
    check_sampler(study.sampler, study.space, study.first, study.trials, where)
    check_tracking(study.mlflow, where)
    _check_initial(study, where)
    _check_ladder(study, base.training.epochs, where)
    if study.time_budget is not None:
        seconds(study.time_budget, f"{where}: time_budget")
    return study, base


def seconds(text: str, where: str) -> float:
    """The seconds in a duration such as 2h, 90m, 1h30m or 45s. Raises ConfigError."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?", text.strip())
    total = (
        sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    )
    if total <= 0:
        raise ConfigError(f"{where}: {text!r} is not a duration: write for example 2h, 90m, 1h30m or 45s")
    return total


def assign(raw: dict[str, Any], key: str, value: Any) -> None:
    """Sets one setting of --set where it belongs in the study's mapping. Raises ConfigError for an unknown key."""
    study_keys, config_keys = dotted_keys(StudyConfig), dotted_keys(ExperimentConfig)
    if key in study_keys:
        *sections, name = key.split(".")
        for section in sections:
            raw = _mapping(raw, section)
        raw[name] = value
    elif key in config_keys:
        settle(_mapping(raw, "space"), key, value)
        base = _mapping(raw, "base")
        base.pop(key, None)  # so that it stands last and wins over a nested section
        base[key] = value
    else:
        raise unknown_key(key, study_keys + config_keys, "--set")


def _mapping(raw: dict[str, Any], key: str) -> dict[str, Any]:
    section = raw.setdefault(key, {})
    if not isinstance(section, dict):
        raise ConfigError(f"--set: {key} is {section!r} in the study; a key below it cannot be set")
    return section


def _check_initial(study: StudyConfig, where: str) -> None:
    keys = [f"model.{key}" for key in FROM_WEIGHTS]
    if study.init_from is not None and (both := [key for key in keys if key in study.space]):
        raise ConfigError(
            f"{where}: space.{both[0]}: cannot be searched, because it is given by the weights of init_from "
            f"{study.init_from}"
        )


def _check_ladder(study: StudyConfig, epochs: int, where: str) -> None:
    rungs = study.make_ladder(epochs).rungs
    shown = [[rung.folds, rung.epochs] for rung in rungs]
    if not rungs or shown[-1] != [study.folds, epochs]:
        raise ConfigError(
            f"{where}: ladder.rungs: {shown} must end in [folds, training.epochs] = [{study.folds}, {epochs}]; "
            "ladder.rungs=null makes the rungs from them"
        )
    if any(rung.folds < 1 or rung.epochs < 1 for rung in rungs):
        raise ConfigError(f"{where}: ladder.rungs: {shown}: a rung has at least 1 fold and 1 epoch")
    for below, above in itertools.pairwise(rungs):
        if above.folds < below.folds or above.epochs < below.epochs or above == below:
            raise ConfigError(
                f"{where}: ladder.rungs: [{above.folds}, {above.epochs}] after [{below.folds}, {below.epochs}]: "
                "from rung to rung folds or epochs must grow and neither may shrink"
            )
