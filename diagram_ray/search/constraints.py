"""What a configuration costs whatever it scores: bounds on it, and objectives beside the AUC.

The sizes of a model are a function of its configuration, counted before anything is trained
(training/model_size.py). They are recorded with the trial. A measured time is none of them: it is another one in every
run, and a study whose decisions rest on it would not be a function of its seed; bound `multiply_adds` instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from diagram_ray.config import Frozen
from diagram_ray.errors import ConfigError
from diagram_ray.results import AUC, Trial

SizeEstimator = Callable[[Mapping[str, Any]], dict[str, float]]
"""Parameters of a trial -> its sizes. Raises ConfigError."""

SIZES = {
    "parameters": "parameters",
    "multiply_adds": "multiply-adds per image",
    "memory_mb": "MB of memory in training, estimated",
}
OBJECTIVES = (AUC, *SIZES)


class ConstraintsConfig(Frozen):
    """Upper bounds. A trial that is above one of them ends before anything is trained."""

    parameters: float | None = Field(default=None, gt=0.0)
    """Most weights of all networks together."""
    multiply_adds: float | None = Field(default=None, gt=0.0)
    """Most multiply-adds to classify one image, by F and E."""
    memory_mb: float | None = Field(default=None, gt=0.0)
    """Most MB to train all folds of a trial in one process: weights, gradients, the optimizers' state, and the
    activations of the largest step. An estimate."""

    @model_validator(mode="before")
    @classmethod
    def _no_time(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and "predict_ms" in values:
            raise ValueError(
                "predict_ms: a measured time is another one in every run, and the study would depend on it; "
                "bound multiply_adds"
            )
        return values


@dataclass(frozen=True)
class Goals:
    """The objectives and bounds of a study."""

    objectives: tuple[str, ...] = (AUC,)
    bounds: Mapping[str, float] = field(default_factory=dict)

    @property
    def need_sizes(self) -> bool:
        """Whether anything depends on the sizes of the models."""
        return bool(self.bounds) or len(self.objectives) > 1

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """The direction of each objective, in Optuna's words."""
        return ["maximize" if name == AUC else "minimize" for name in self.objectives]

    def values(self, trial: Trial) -> list[float]:
        """The objectives of a complete trial."""
        auc = trial.last.auc_mean if trial.last else float("nan")
        return [auc if name == AUC else trial.sizes[name] for name in self.objectives]

    def excess(self, sizes: Mapping[str, float]) -> dict[str, float]:
        """The relative excess of each size over its bound: 0.1 is a tenth too much; 0 or less where the bound holds."""
        return {name: sizes[name] / bound - 1.0 for name, bound in self.bounds.items() if name in sizes}

    def over(self, sizes: Mapping[str, float]) -> float:
        """The sum of the relative excesses over all bounds; 0 if none is broken."""
        return sum(part for part in self.excess(sizes).values() if part > 0.0)

    def broken(self, sizes: Mapping[str, float]) -> str:
        """The bounds that are broken, in words; empty if none is."""
        above = [name for name, part in self.excess(sizes).items() if part > 0.0]
        excesses = [f"{shown(sizes[name])} {SIZES[name]} > {shown(self.bounds[name])}" for name in above]
        return f"constraint: {', '.join(excesses)}" if excesses else ""


def goals_of(objectives: Sequence[str], constraints: ConstraintsConfig) -> Goals:
    """The goals of a study, from its objectives and constraints."""
    return Goals(tuple(objectives), constraints.model_dump(exclude_none=True))


def check_objectives(objectives: Sequence[str], sampler: str, where: str) -> None:
    """Raises ConfigError if AUC is not among the objectives, one comes twice, or the sampler can follow one only."""
    if AUC not in objectives or len(set(objectives)) < len(objectives):
        raise ConfigError(f"{where}: objectives: {list(objectives)}: each once, and {AUC} must be one of them")
    if len(objectives) > 1 and sampler == "cmaes":
        raise ConfigError(f"{where}: objectives: {list(objectives)}: sampler.name cmaes follows one only; choose tpe")


def shown(value: float) -> str:
    """The text of a size for people.

    >>> shown(2_500_000.0)
    '2,500,000'
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
