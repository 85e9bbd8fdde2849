"""Optuna through ask and tell, so that trial i's parameters depend on (seed, i, trials 0..i - lookback) alone.

The stock integrations tell Optuna what arrives when it arrives. Here it is told trial j just before trial j + lookback
is asked, in number order, and the sampler starts from a seed of its own for each trial. What it is told is the truth:
COMPLETE with its value, PRUNED with what it scored at each rung, FAIL.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState as OptunaState
from scipy.stats import qmc

from diagram_ray.results import Trial, TrialState
from diagram_ray.search.remembering import best_before, first_remembered
from diagram_ray.search.space import FloatRange, Space
from diagram_ray.search.study import SamplerConfig

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Sampler:
    """Proposes the parameters of trial after trial. A new one, given the same trials, goes on where another stopped."""

    def __init__(
        self, space: Space, config: SamplerConfig, seed: int, lookback: int, first: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._first = first
        self._space = dict(sorted(space.items()))  # the order in the file must not matter
        self._distributions = {key: values.distribution() for key, values in self._space.items()}
        self._config = config
        self._seed = seed
        self._lookback = lookback
        self._since = 0
        self._remember([])

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """Parameters of trial `number`; `trials` holds those before it, and 0..number - lookback have ended."""
        if (since := first_remembered(number, self._lookback)) > self._since:
            self._since = since
            self._remember(best_before(since, trials))
        while self._asked < number:
            self._add(trials[self._asked].params)
        while self._told <= number - self._lookback:
            self._tell(trials[self._told])
        given = self._given(number)
        if self._config.name == "qmc":
            return self._add(self._sobol(number) | given)
        if self._config.name == "grid":
            return self._add(self._grid(number))
        self._study.sampler = self._optuna_sampler(number)
        return self._add(given or None)

    def _remember(self, best: Sequence[Trial]) -> None:
        """A study of Optuna's anew, which knows these trials, and no others before number `since`."""
        self._study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
        self._running: dict[int, optuna.Trial] = {}
        for trial in best:
            self._asked = self._told = trial.number
            self._add(trial.params)
            self._tell(trial)
        self._asked = self._told = self._since

    def _given(self, number: int) -> dict[str, Any]:
        """What the study's file says of this trial. A whole number may stand for a real one there."""
        point = self._first[number] if number < len(self._first) else {}
        return {
            key: float(value) if isinstance(self._space[key], FloatRange) else value for key, value in point.items()
        }

    def _add(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """One more running trial in Optuna's study: with these parameters, or with what its sampler proposes."""
        if params is not None:
            self._study.enqueue_trial(dict(params))
        trial = self._study.ask(self._distributions)
        self._running[self._asked] = trial
        self._asked += 1
        return {key: trial.params[key] for key in self._space}

    def _tell(self, trial: Trial) -> None:
        running = self._running.pop(self._told)
        self._told += 1
        for rung, measurement in enumerate(trial.measurements):
            running.report(measurement.auc_mean, step=rung)
        if trial.state is TrialState.COMPLETE and trial.last is not None:
            self._study.tell(running, trial.last.auc_mean)
        else:
            pruned = trial.state is TrialState.PRUNED
            self._study.tell(running, state=OptunaState.PRUNED if pruned else OptunaState.FAIL)

    def _optuna_sampler(self, number: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._config.name == "random":
            return RandomSampler(seed=seed)
        return _Tpe(self._distributions, self._config.startup_trials, seed)

    def _sobol(self, number: int) -> dict[str, Any]:
        engine = qmc.Sobol(len(self._space), scramble=True, rng=np.random.default_rng(self._seed))
        if number:
            engine.fast_forward(number)
        (point,) = engine.random(1)
        return {key: values.at(float(u)) for (key, values), u in zip(self._space.items(), point, strict=True)}

    def _grid(self, number: int) -> dict[str, Any]:
        points = [values.points() or [] for values in self._space.values()]
        sizes = [len(each) for each in points]
        drawn = np.random.default_rng(self._seed).permutation(math.prod(sizes))[number]
        places = np.unravel_index(drawn, sizes)
        return {key: each[place] for key, each, place in zip(self._space, points, places, strict=True)}


class _Tpe(TPESampler):
    """TPE that knows the space, and need not gather it from all earlier trials for each proposal."""

    def __init__(self, distributions: dict[str, BaseDistribution], startup_trials: int, seed: int) -> None:
        super().__init__(n_startup_trials=startup_trials, multivariate=True, constant_liar=True, seed=seed)
        self._known = {key: values for key, values in distributions.items() if not values.single()}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All that is not a constant."""
        return self._known
