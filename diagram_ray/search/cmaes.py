"""CMA-ES (Hansen and Ostermeier, Evolutionary Computation 2001) as a function of the trials that have ended.

The package `cmaes` does the evolution. Optuna's own sampler around it keeps the state of the optimizer in the trials
that it has proposed, so a study that is resumed would go on differently. Here a generation is any `population` trials
in the order of their numbers, so the state follows from them alone, whoever proposed them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.sampler_config import numbers_of
from diagram_ray.search.space import Space

SPREAD = 0.3
"""Initial standard deviation, where every parameter's range is [0, 1]."""
Merit = tuple[float, ...]


def merit(trial: Trial, excess: float = 0.0) -> Merit | None:
    """The value by which trials are ordered, the better the greater; None for one that says nothing.

    CMA-ES needs the order of the trials only. One that reached a higher rung is better, of equals the one with the
    greater AUC; all that break the study's constraints come behind, by how far (`excess`).
    """
    if trial.state is TrialState.FAIL:
        return None
    if trial.last is None:
        return (-excess, 0.0, 0.0) if excess > 0.0 else None
    return 0.0, float(len(trial.measurements)), trial.last.auc_mean


class Evolution:
    """Proposes the numbers of a configuration."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = numbers_of(space)
        self._seed = seed
        self._restarts = 0
        self._optimizer = self._begin()
        self._waiting: list[tuple[NDArray[np.float64], Merit]] = []

    def tell(self, params: Mapping[str, Any], value: Merit) -> None:
        """Learns from a trial that has ended; trials come in the order of their numbers."""
        point = [values.quantile(params[key]) for key, values in self._space.items()]
        self._waiting.append((np.array(point), value))
        if len(self._waiting) == self._optimizer.population_size:
            ordered = sorted(self._waiting, key=lambda pair: pair[1], reverse=True)
            places = {value: float(place) for place, (_, value) in reversed(list(enumerate(ordered)))}
            self._optimizer.tell([(point, places[value]) for point, value in ordered])
            self._waiting = []
            if self._optimizer.should_stop():
                self._restarts += 1
                self._optimizer = self._begin()

    def ask(self, seed: int) -> dict[str, Any]:
        """Returns a proposal that depends on the trials so far and on `seed`."""
        self._optimizer.reseed_rng(seed)
        point = np.minimum(self._optimizer.ask(), math.nextafter(1.0, 0.0))
        return {key: values.at(float(u)) for (key, values), u in zip(self._space.items(), point, strict=True)}

    def _begin(self) -> CMA:
        """A new optimizer: it starts in the middle of the space; after it has converged, anywhere."""
        count = len(self._space)
        random = np.random.default_rng([self._seed, self._restarts])
        mean = random.random(count) if self._restarts else np.full(count, 0.5)
        return CMA(mean, SPREAD, bounds=np.array([[0.0, 1.0]] * count), seed=0)
