"""The search space, in Optuna's vocabulary: what may stand in a study file, checked against the configuration.

Every bound and every choice is tried on the configuration before anything starts, so that trial 117 cannot be the
first to find out that `model.width` must be a multiple of 4. A range may have conditions (`when`, see
search/conditions.py).
"""

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from diagram_ray.config import ExperimentConfig, Frozen, build, dotted_keys, override
from diagram_ray.errors import ConfigError
from diagram_ray.setting_keys import unknown_key

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FIDELITY = "training.epochs"
FROM_DATA = ("model.num_classes", "model.patch_size")


Value = str | int | float | bool | None


class Conditional(Frozen):
    """A range that may exist in some configurations only."""

    when: dict[str, list[Value]] = Field(default={})
    """Searched key -> the values of it with which this one exists. Where it does not, the setting keeps the value of
    `base`."""


class FloatRange(Conditional):
    """A real number in [low, high]; `log`: uniform in its logarithm; `step`: only low, low + step, ..."""

    type: Literal["float"] = "float"
    """Written for a real number."""
    low: float = Field(allow_inf_nan=False)
    """The least value of the range."""
    high: float = Field(allow_inf_nan=False)
    """The greatest value; it may be reached."""
    log: bool = False
    """Uniform in the logarithm; `low` is above 0 then, and there is no `step`."""
    step: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    """Distance between neighbouring values. None: every value in between."""

    def distribution(self) -> "BaseDistribution":
        """The range as Optuna's distribution."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def at(self, u: float) -> float:
        """The value at the quantile `u` in [0, 1)."""
        if self.step is not None:
            return self.low + self.step * math.floor(u * (round((self.high - self.low) / self.step) + 1))
        if self.log:
            return min(self.high, self.low * math.exp(u * math.log(self.high / self.low)))
        return self.low + u * (self.high - self.low)

    def quantile(self, value: float) -> float:
        """The u in [0, 1] of a value, with `at` of it that value; of steps, the middle of the value's part."""
        if self.step is not None:
            return (round((value - self.low) / self.step) + 0.5) / (round((self.high - self.low) / self.step) + 1)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def probes(self) -> list[Any]:
        """The values that the configuration must accept."""
        return [self.low, self.high]

    def holds(self, value: Any) -> bool:
        """Whether `value` is in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step is not None else 0.0
        return abs(steps - round(steps)) < 1e-9

    def points(self) -> list[Any] | None:
        """All values of the range; None if there is no end of them."""
        if self.step is None:
            return [self.low] if self.low == self.high else None
        return [self.low + self.step * number for number in range(round((self.high - self.low) / self.step) + 1)]


class IntRange(Conditional):
    """A whole number in low, low + step, ..., high; `log`: uniform in its logarithm."""

    type: Literal["int"] = "int"
    """Written for a whole number."""
    low: int
    """The least value of the range."""
    high: int
    """The greatest value; it may be reached."""
    log: bool = False
    """Uniform in the logarithm; `low` is above 0 then, and `step` is 1."""
    step: int = Field(default=1, ge=1)
    """Distance between neighbouring values."""

    def distribution(self) -> "BaseDistribution":
        """The range as Optuna's distribution."""
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def at(self, u: float) -> int:
        """The value at the quantile `u` in [0, 1)."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return min(self.high, max(self.low, round(math.exp(low + u * (high - low)))))
        return self.low + self.step * math.floor(u * ((self.high - self.low) // self.step + 1))

    def quantile(self, value: float) -> float:
        """The u in [0, 1] of a value, with `at` of it that value."""
        if self.log:
            low, high = math.log(self.low - 0.5), math.log(self.high + 0.5)
            return (math.log(value) - low) / (high - low)
        return ((value - self.low) // self.step + 0.5) / ((self.high - self.low) // self.step + 1)

    def probes(self) -> list[Any]:
        """The bounds, and the values beside the lower one: they show a rule such as "multiple of 4"."""
        return sorted({self.low, *range(self.low, self.high + 1, self.step)[:4], self.high})

    def holds(self, value: Any) -> bool:
        """Whether `value` is in the range."""
        return type(value) is int and value in range(self.low, self.high + 1, self.step)

    def points(self) -> list[Any]:
        """All values of the range."""
        return list(range(self.low, self.high + 1, self.step))


class Choices(Conditional):
    """A list of values, one of which is taken."""

    type: Literal["categorical"] = "categorical"
    """Written for a list of values."""
    choices: list[Value] = Field(min_length=1)
    """The values to choose from, each once."""

    def distribution(self) -> "BaseDistribution":
        """The choices as Optuna's distribution."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.choices)

    def at(self, u: float) -> Any:
        """The value at the quantile `u` in [0, 1)."""
        return self.choices[math.floor(u * len(self.choices))]

    def probes(self) -> list[Any]:
        """All choices: the configuration must accept each."""
        return list(self.choices)

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of the choices. True is not 1."""
        return any(type(value) is type(choice) and value == choice for choice in self.choices)

    def points(self) -> list[Any]:
        """All choices, in the order of the study file."""
        return list(self.choices)


Range = FloatRange | IntRange | Choices
Space = dict[str, Range]

KINDS: dict[str, type[FloatRange] | type[IntRange] | type[Choices]] = {
    "float": FloatRange,
    "int": IntRange,
    "categorical": Choices,
}


def parse_space(raw: Any, where: str) -> Space:
    """The ranges of a study file's `space`, without looking at the configuration. Raises ConfigError."""
    if not isinstance(raw, Mapping) or not raw:
        raise ConfigError(f"{where}: space: expected dotted keys with a range each, found {raw!r}")
    return {str(key): _parse_range(value, f"{where}: space.{key}") for key, value in raw.items()}


def check_space(space: Space, base: ExperimentConfig, where: str) -> None:
    """Tries every key, bound and choice on `base`, where the key has conditions together with their values.

    Raises ConfigError naming the key and what is allowed.
    """
    for key, values in space.items():
        _check_key(key, where)
        for value in values.probes():
            for others in _companions(space, key):
                override(base, {**others, key: value}, f"{where}: space")


def _companions(space: Space, key: str) -> list[dict[str, Any]]:
    """The values of other keys with which `key` exists: all of its own conditions, the first of theirs."""
    conditions = space[key].when
    companions = []
    for values in itertools.product(*conditions.values()):
        others: dict[str, Any] = {}
        for parent in conditions:
            others = _companions(space, parent)[0] | others
        companions.append(others | dict(zip(conditions, values, strict=True)))
    return companions


def _parse_range(raw: Any, where: str) -> Range:
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if not isinstance(raw, Mapping) or not isinstance(kind, str) or kind not in KINDS:
        text = f"type {kind!r}" if kind is not None else repr(raw)
        raise ConfigError(f"{where}: expected {{type: {' | '.join(KINDS)}, ...}}, found {text}")
    values = build(KINDS[kind], raw, where)
    _check_range(values, where)
    return values


def _check_range(values: Range, where: str) -> None:
    if isinstance(values, Choices):
        # True == 1: compare with the type, or [1, true] would be taken for a repetition.
        if len({(type(choice), choice) for choice in values.choices}) < len(values.choices):
            raise ConfigError(f"{where}: choices: {values.choices} names a value twice")
        return
    if values.low > values.high:
        raise ConfigError(f"{where}: low {values.low} is greater than high {values.high}")
    if values.log and values.low <= 0:
        raise ConfigError(f"{where}: low {values.low}: with log: true it must be greater than 0")
    if values.log and values.step != type(values).model_fields["step"].default:
        raise ConfigError(f"{where}: step {values.step}: it cannot be given together with log: true")
    steps = (values.high - values.low) / (values.step or math.inf)
    if abs(steps - round(steps)) > 1e-9:
        raise ConfigError(f"{where}: high {values.high} is not low {values.low} plus a multiple of step {values.step}")


def _check_key(key: str, where: str) -> None:
    keys = dotted_keys(ExperimentConfig)
    if key == FIDELITY:
        raise ConfigError(
            f"{where}: space.{key}: epochs are the fidelity by which trials are compared, so they cannot be searched; "
            f"set base.{key} and ladder.rungs"
        )
    if key in FROM_DATA or key.startswith("data."):
        raise ConfigError(f"{where}: space.{key}: this is given by the data; all trials must answer the same question")
    if key not in keys:
        raise unknown_key(key, [name for name in keys if not name.startswith("data.")], f"{where}: space")
