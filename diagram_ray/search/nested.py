"""Nested cross-validation: what the search as a whole finds, measured on patients that had no part in it.

Each of the K folds is held out once, as the outer fold. The search is made again on the K - 1 others, the inner folds:
the ladder, the race and the choice of the winner, by the classes that make them in a study. The winner, trained on all
inner folds, is measured on the outer one, which has chosen nothing. The mean of the K measurements is free of the luck
of having been selected.

Which configurations may enter: all that were proposed *without a look at any result* (`study.nested_plan.blind`). A
configuration that TPE proposed was proposed from scores of the very images that an outer fold holds out, and one that
the study's ladder let go on was let go on by them; so the guided proposals are left out, and the ladder is applied anew
in each outer fold. Where the study was guided, the estimate is therefore of a search over its unguided part.

A model that was trained without the folds i and j serves twice: as the outer fold i's model that is tested on j, and
the other way round. So a configuration needs K (K - 1) / 2 inner trainings, not K (K - 1); and a model without fold i
alone is a fold of the study's own cross-validation, which is there already for its complete trials. A model is trained
only when an inner search asks for it, and only as far as it asks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from diagram_ray.data.splits import Splits
from diagram_ray.evaluation.metrics import Floats, auc
from diagram_ray.results import Measurement, Trial, best_of
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.racing import Cases, FoldScore, Race
from diagram_ray.search.scheduler import StudyState


@dataclass(frozen=True, order=True)
class HeldOutModel:
    """A model of a trial's configuration, trained for some epochs without some of the folds."""

    trial: int
    without: tuple[int, ...]
    """The folds it has not seen: one or two, ascending."""
    epochs: int


@dataclass(frozen=True)
class Failed:
    """The result where there is no such model, because its training failed."""

    reason: str


class Scores(Protocol):
    """A source of the scores of held-out models."""

    def of(self, model: HeldOutModel, fold: int) -> "Floats | Failed | None":
        """The scores of the images of `fold`, unseen by the model, in the order of the data. None: not trained."""


def leave_out(splits: Splits, folds: Sequence[int]) -> tuple[Splits, int]:
    """Splits in which `folds` are a single one, and its number: a model of that fold is trained without them.

    A fold's number is part of the seed of its training. One fold keeps its own; two become (i + j) mod K, so that the
    inner folds of an outer fold have all different ones, as the folds of a study have.
    """
    number = sum(folds) % splits.n_folds
    moved = {number: min(folds)} | dict.fromkeys(folds, number)  # who had that number takes one that is free
    return replace(splits, patients={name: moved.get(fold, fold) for name, fold in splits.patients.items()}), number


@dataclass(frozen=True)
class Field:
    """The search space of all outer folds: the candidates, and the rules."""

    trials: Sequence[int]
    """The candidates, in the order in which they came."""
    ladder: Ladder
    """The ladder of the inner searches."""
    lookback: int
    race: Race | None
    cases: Cases
    """The cases of the study: all folds."""


@dataclass(frozen=True)
class Outer:
    """The result of an outer fold."""

    fold: int
    trial: int
    """Number of the inner winner."""
    inner_auc: float
    """The AUC by which it won: its mean over the inner folds."""
    scores: Floats
    """The winner's scores of the outer fold's images, in the order of the data."""


class InnerSearch:
    """The search of one outer fold. It goes as far as the scores that are known allow."""

    def __init__(self, outer: int, field: Field, scores: Scores) -> None:
        self.outer = outer
        self._field, self._scores = field, scores
        self._folds = [fold for fold in range(int(field.cases.folds.max()) + 1) if fold != outer]
        self._labels = {fold: field.cases.labels[field.cases.rows(fold)] for fold in self._folds}
        self._journal = Memory()
        rules = Rules(len(field.trials), field.lookback, field.lookback, field.ladder, field.race)
        self._state = StudyState(rules, self, self._journal, self)

    def advance(self) -> list[HeldOutModel]:
        """Goes on as far as possible; returns the models whose scores it needs next, none when it has ended."""
        moved = True
        while moved:
            while self._state.next_start() is not None:
                pass
            moved = max(map(self._step, sorted(self._state.running)), default=False)  # of each, not of the first
        waiting = [model for number in self._state.running for model, _ in self._next(number)]
        best = best_of(self._journal.trials)
        if self._state.finished and best is not None:
            waiting.append(self._whole(best))
        return [model for model in waiting if self._scores.of(model, self._other(model)) is None]

    def result(self) -> Outer | Failed:
        """The result of the outer fold, once no model is needed any more."""
        best = best_of(self._journal.trials)
        if best is None or best.last is None:
            reasons = [f"trial {self._field.trials[n]}: {trial.reason}" for n, trial in self._journal.trials.items()]
            return Failed(f"outer fold {self.outer}: no configuration is complete; {reasons[0]}")
        scores = self._scores.of(self._whole(best), self.outer)
        number = self._field.trials[best.number]
        if scores is None or isinstance(scores, Failed):
            return Failed(f"outer fold {self.outer}: trial {number}: {scores.reason if scores else 'not trained'}")
        return Outer(self.outer, number, best.last.auc_mean, scores)

    def wants(self, trial: int) -> bool:
        """Whether the search may still need a model of study trial `trial`."""
        number = self._field.trials.index(trial)
        return number not in self._journal.trials or number in self._state.running

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """Returns no parameters: configurations are known by their number alone here."""
        return {}

    def case_scores(self, number: int, rung: int) -> list[FoldScore]:
        """The case scores that a race compares (see `CaseScoreSource.case_scores`)."""
        models = self._models(number, rung)
        return [self._field.cases.measure(fold, self._known(model, fold)) for model, fold in models]

    def _next(self, number: int) -> list[tuple[HeldOutModel, int]]:
        return self._models(number, len(self._journal.trials[number].measurements))

    def _step(self, number: int) -> bool:
        """The next rung of a trial, if its scores are known: whether they are."""
        rung, models = len(self._journal.trials[number].measurements), self._next(number)
        scores = [self._scores.of(model, fold) for model, fold in models]
        if failed := [one for one in scores if isinstance(one, Failed)]:
            self._state.failed(number, failed[0].reason)
            return True
        measured = [one for one in scores if one is not None and not isinstance(one, Failed)]
        if len(measured) < len(scores):
            return False
        point = self._field.ladder.rungs[rung]
        values = tuple(auc(self._labels[fold], one) for (_, fold), one in zip(models, measured, strict=True))
        self._state.measured(number, rung, Measurement(point.folds, point.epochs, values, values, 0.0))
        return True

    def _models(self, number: int, rung: int) -> list[tuple[HeldOutModel, int]]:
        """The models of a rung, and the inner fold on which each is tested."""
        point, trial = self._field.ladder.rungs[rung], self._field.trials[number]
        folds = self._folds[: point.folds]
        return [
            (HeldOutModel(trial, (min(fold, self.outer), max(fold, self.outer)), point.epochs), fold) for fold in folds
        ]

    def _whole(self, best: Trial) -> HeldOutModel:
        return HeldOutModel(self._field.trials[best.number], (self.outer,), self._field.ladder.rungs[-1].epochs)

    def _other(self, model: HeldOutModel) -> int:
        """The fold that this search tests the model on."""
        return next((fold for fold in model.without if fold != self.outer), self.outer)

    def _known(self, model: HeldOutModel, fold: int) -> Floats:
        scores = self._scores.of(model, fold)
        if scores is None or isinstance(scores, Failed):
            raise LookupError(f"{model} has no scores")
        return scores


class NestedSearch:
    """The searches of all outer folds, side by side, because they share models."""

    def __init__(self, field: Field, scores: Scores) -> None:
        folds = range(int(field.cases.folds.max()) + 1)
        self._searches = [InnerSearch(outer, field, scores) for outer in folds]

    def advance(self) -> list[HeldOutModel]:
        """The models whose scores are needed next, each once; none when all has ended."""
        return sorted({model for search in self._searches for model in search.advance()})

    def wants(self, model: HeldOutModel) -> bool:
        """Whether another model may be needed that goes on from this one."""
        return any(self._searches[fold].wants(model.trial) for fold in model.without)

    def results(self) -> list[Outer] | Failed:
        """The result of each outer fold; or the failure of the first one that failed."""
        results = [search.result() for search in self._searches]
        failed = [result for result in results if isinstance(result, Failed)]
        return failed[0] if failed else [result for result in results if isinstance(result, Outer)]
