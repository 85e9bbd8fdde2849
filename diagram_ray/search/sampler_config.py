"""The sampler that proposes the configurations, as a study's file names it, and what it needs of the space."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from diagram_ray.config import Frozen
from diagram_ray.errors import ConfigError
from diagram_ray.search.conditions import grid_size
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space

LEAST_NUMBERS = 2
"""Fewest numbers that CMA-ES searches: with fewer there is no covariance to adapt."""


class SamplerConfig(Frozen):
    """The sampler, which proposes the configurations."""

    name: Literal["tpe", "cmaes", "random", "qmc", "grid"] = "tpe"
    """`tpe`: multivariate tree-structured Parzen estimator. `cmaes`: CMA-ES for the numbers that every configuration
    has, tpe for the rest. `qmc`: a scrambled Sobol sequence. `grid`: every configuration there is, in random order."""
    startup_trials: int = Field(default=5, ge=1)
    """Number of trials drawn at random before tpe's model proposes. cmaes: the same, for what is left to tpe."""


def numbers_of(space: Space) -> dict[str, FloatRange | IntRange]:
    """The parameters that CMA-ES can search: numbers with more than one value that exist in every configuration."""
    return {
        key: values
        for key, values in sorted(space.items())
        if not isinstance(values, Choices) and values.low < values.high and not values.when
    }


def check_sampler(config: SamplerConfig, space: Space, first: Sequence[Any], trials: int, where: str) -> None:
    """Raises ConfigError if the sampler cannot search the space, or not for so many trials."""
    if config.name == "cmaes" and len(numbers := numbers_of(space)) < LEAST_NUMBERS:
        raise ConfigError(
            f"{where}: sampler.name: cmaes needs {LEAST_NUMBERS} numbers that exist in every configuration; the space "
            f"has {', '.join(numbers) or 'none'}"
        )
    if config.name != "grid":
        return
    if first:
        raise ConfigError(f"{where}: first: with sampler.name grid every configuration is tried anyway")
    if (size := grid_size(space, where)) < trials:
        raise ConfigError(f"{where}: trials {trials}: the grid has {size} configurations")
