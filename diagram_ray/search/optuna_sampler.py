"""Optuna through ask and tell, so that trial i's parameters depend on (seed, i, trials 0..i - lookback) alone.

The stock integrations tell Optuna what arrives when it arrives. Here it is told trial j just before trial j + lookback
is asked, in number order, and the sampler starts from a seed of its own for each trial. It is told the
truth: COMPLETE with its values, PRUNED with what it scored at each rung, FAIL, and by how much bounds were broken.
"""

import heapq
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState as OptunaState
from scipy.stats import qmc

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.cmaes import Evolution, merit
from diagram_ray.search.conditions import configurations, existing, exists, grid_size, ordered
from diagram_ray.search.constraints import Goals
from diagram_ray.search.sampler_config import SamplerConfig, numbers_of
from diagram_ray.search.space import FloatRange, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampler:
    """Proposes the parameters of trial after trial. A new one, given the same trials, goes on where another stopped.

    Parameters that do not exist with the others' values (conditions.py) are not in what it proposes: `tpe` models those
    with the same conditions together, `qmc` draws all and drops some, `grid` counts what differs. `cmaes` searches the
    numbers that exist in every configuration; what it cannot search is left to `tpe`.
    """

    def __init__(
        self,
        space: Space,
        config: SamplerConfig,
        seed: int,
        lookback: int,
        first: Sequence[Mapping[str, Any]] = (),
        goals: Goals | None = None,
        earlier: Sequence[Trial] = (),
    ) -> None:
        """`earlier`: trials of other studies that have ended, to learn from; they are none of this one's."""
        self._first = first
        self._space = ordered(space)
        self._distributions = {key: values.distribution() for key, values in self._space.items()}
        self._config = config
        self._seed = seed
        self._lookback = lookback
        self._goals = goals or Goals()
        self._earlier = earlier
        self._evolution = Evolution(space, seed) if config.name == "cmaes" else None
        self._evolved = 0
        for trial in earlier:
            self._evolve(trial)
        self._since = 0
        self._remember([])

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """Parameters of trial `number`; `trials` holds those before it, and 0..number - lookback have ended."""
        self._forget(number, trials)
        while self._asked < number:
            self._add(trials[self._asked].params)
        while self._told <= number - self._lookback:
            self._end(self._running.pop(self._told), trials[self._told])
            self._told += 1
        while self._evolved <= number - self._lookback:
            self._evolve(trials[self._evolved])
            self._evolved += 1
        return self._add(self._known(number))

    def _forget(self, number: int, trials: Mapping[int, Trial]) -> None:
        """Forgets the trials that the proposal for trial `number` does not depend on (`LATEST`, `BEST`).

        With several objectives nothing: what is best is a front then, of any size.
        """
        since = first_remembered(number, self._lookback) if len(self._goals.objectives) == 1 else 0
        if since > self._since:
            self._since = since
            self._remember(best_before(since, trials))

    def _known(self, number: int) -> dict[str, Any]:
        """The parameters that are decided before Optuna proposes the rest."""
        if self._config.name == "grid":
            return self._grid(number)
        point = self._prescribed(number)
        if self._config.name == "qmc":
            return existing(self._space, self._sobol(number) | point)
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = self._optuna_sampler(seed)
        return self._evolution.ask(seed) | point if self._evolution is not None else point

    def _remember(self, best: Sequence[Trial]) -> None:
        """Makes a new Optuna study, which knows the earlier studies' trials, these, and no others before `since`."""
        self._study = optuna.create_study(directions=self._goals.directions, sampler=RandomSampler(seed=0))
        self._running: dict[int, optuna.Trial] = {}
        for trial in [*self._earlier, *best]:
            self._end(self._begin(trial.params), trial)
        self._asked = self._told = self._since

    def _prescribed(self, number: int) -> dict[str, Any]:
        """The parameters that the study's file sets for this trial. A whole number may stand for a real one there."""
        point = self._first[number] if number < len(self._first) else {}
        return {
            key: float(value) if isinstance(self._space[key], FloatRange) else value for key, value in point.items()
        }

    def _add(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Adds a running trial: with these parameters, and with what the sampler proposes for the others."""
        trial = self._running[self._asked] = self._begin(params)
        self._asked += 1
        proposed = trial.params
        return {key: proposed[key] for key in self._space if key in proposed}

    def _begin(self, params: Mapping[str, Any]) -> optuna.Trial:
        if params:
            self._study.enqueue_trial(dict(params))
        trial = self._study.ask()
        suggested: dict[str, Any] = {}
        for key, values in self._space.items():
            if exists(values, suggested):
                suggested[key] = _suggest(trial, key, self._distributions[key])
        return trial

    def _end(self, running: optuna.Trial, trial: Trial) -> None:
        """Optuna learns how a trial ended."""
        if len(self._goals.objectives) == 1:  # Optuna has no intermediate values of several
            for rung, measurement in enumerate(trial.measurements):
                running.report(measurement.auc_mean, step=rung)
        for name, part in self._goals.excess(trial.sizes).items():
            running.set_constraint(name, part)
        if trial.state is TrialState.COMPLETE and trial.last is not None:
            self._study.tell(running, self._goals.values(trial))
        else:
            pruned = trial.state is TrialState.PRUNED
            self._study.tell(running, state=OptunaState.PRUNED if pruned else OptunaState.FAIL)

    def _evolve(self, trial: Trial) -> None:
        value = merit(trial, self._goals.over(trial.sizes))
        if self._evolution is not None and value is not None:
            self._evolution.tell(trial.params, value)

    def _optuna_sampler(self, seed: int) -> BaseSampler:
        if self._config.name == "random":
            return RandomSampler(seed=seed)
        remaining = {key: values for key, values in self._space.items() if not self._evolves(key)}
        return _Tpe(remaining, self._config.startup_trials, seed)

    def _evolves(self, key: str) -> bool:
        return self._evolution is not None and key in numbers_of(self._space)

    def _sobol(self, number: int) -> dict[str, Any]:
        engine = qmc.Sobol(len(self._space), scramble=True, rng=np.random.default_rng(self._seed))
        if number:
            engine.fast_forward(number)
        (point,) = engine.random(1)
        return {key: values.at(float(u)) for (key, values), u in zip(self._space.items(), point, strict=True)}

    def _grid(self, number: int) -> dict[str, Any]:
        drawn = np.random.default_rng(self._seed).permutation(grid_size(self._space, "the study"))[number]
        return next(islice(configurations(self._space), int(drawn), None))


def _suggest(trial: optuna.Trial, key: str, values: BaseDistribution) -> Any:
    if isinstance(values, FloatDistribution):
        return trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)
    if isinstance(values, IntDistribution):
        return trial.suggest_int(key, values.low, values.high, step=values.step, log=values.log)
    if isinstance(values, CategoricalDistribution):
        return trial.suggest_categorical(key, values.choices)
    raise TypeError(f"{key}: {values}")


class _Tpe(TPESampler):
    """TPE that knows the space, and need not gather it from all earlier trials for each proposal.

    Parameters with the same conditions exist together, and are modelled together from the trials that have them.
    """

    def __init__(self, space: Space, startup_trials: int, seed: int) -> None:
        super().__init__(n_startup_trials=startup_trials, multivariate=True, constant_liar=True, seed=seed)
        self._known = {key: own for key, values in space.items() if not (own := values.distribution()).single()}
        self._groups: dict[str, dict[str, BaseDistribution]] = {}
        for key, distribution in self._known.items():
            self._groups.setdefault(repr(sorted(space[key].when.items())), {})[key] = distribution

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All parameters that are not constant."""
        return self._known

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A value for each parameter, except for those that do not exist with the others' values."""
        sampled: dict[str, Any] = {}
        for group in self._groups.values():
            # Not super().sample_relative: it would record what is not asked for as the trial's, for the constant liar.
            sampled |= self._sample_relative(study, trial, group)
        return sampled


LATEST = 500
"""TPE's time grows with the number of trials, so it looks at the latest ones, and of those before them at the best."""
STEP = 100
"""Trials after which older ones are forgotten, all at once."""
BEST = 25
"""TPE takes at most so many trials for good ones, so its idea of the good stays that of the whole study."""


def first_remembered(number: int, lookback: int) -> int:
    """The first trial that the sampler of trial `number` looks at; all before it have ended."""
    return max(0, number - max(LATEST, lookback)) // STEP * STEP


def best_before(since: int, trials: Mapping[int, Trial]) -> list[Trial]:
    """The best complete trials before trial `since`, in the order of their numbers; the earlier one of equals."""
    scored = [
        (trial.last.auc_mean, -number)
        for number in range(since)
        if (trial := trials[number]).state is TrialState.COMPLETE and trial.last
    ]
    return [trials[number] for number in sorted(-place for _, place in heapq.nlargest(BEST, scored))]
