"""Searches replayed on a recording: what another ladder or race would have cost, and what it would have found.

Nothing is trained. The configurations of a recording come in random orders; `StudyState`, which decides in a study,
decides here as well, so what is replayed is what would be run.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diagram_ray.errors import UsageError
from diagram_ray.replay.recording import Recording
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.ladder import Ladder
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.racing import CaseScores, Race
from diagram_ray.search.scheduler import StudyState


@dataclass(frozen=True)
class Outcome:
    """The result of one replay."""

    fold_epochs: int
    """Fold-epochs that the replay cost."""
    reached: float
    """Fold-epochs until a complete configuration was within `within` of the best there is; infinite if none was."""
    regret: float
    """AUC by which the winner falls short of the best there is."""
    dropped: bool
    """Whether the best configuration there is was not among the complete ones."""


def replay(
    recording: Recording, ladder: Ladder, race: Race | None, order: Iterable[int], within: float, lookback: int = 1
) -> Outcome:
    """Replays a study over the configurations of `recording` in this order, one at a time.

    Trial i is compared with those up to i - lookback: 1 for a study of one worker. The ladder must end at the
    recording's top. Raises UsageError if it does not, or needs what was not recorded.
    """
    numbers = list(order)
    journal, figures = Memory(), recorded_figures(recording, ladder, numbers)
    rules = Rules(len(numbers), 1, lookback, ladder, race)
    state = StudyState(rules, RecordedOrder(recording, numbers), journal, figures)
    cost, complete = 0, dict[int, int]()  # configuration -> cost when it was complete
    while (trial := state.next_start()) is not None:
        cost += _run_trial(state, trial.number, figures)
        if journal.trials[trial.number].state is TrialState.COMPLETE:
            complete[numbers[trial.number]] = cost
    final = recording.final
    best_auc, winner_auc = float(max(final[numbers])), float(max(final[number] for number in complete))
    good = [when for number, when in complete.items() if final[number] >= best_auc - within]
    return Outcome(cost, min(good, default=math.inf), best_auc - winner_auc, winner_auc < best_auc)


def recorded_figures(recording: Recording, ladder: Ladder, order: Iterable[int]) -> "RecordedFigures":
    """The scores at the rungs of the configurations in this order. Raises UsageError as `replay`."""
    if ladder.rungs[-1] != recording.top:
        raise UsageError(f"{ladder.rungs[-1]}: a replay must end where the recording does, at {recording.top}")
    for rung in ladder.rungs:
        recording.case_scores(0, rung)
    return RecordedFigures(recording, ladder, list(order))


@dataclass(frozen=True)
class Summary:
    """The mean results of replays in many random orders."""

    cost: float
    """Mean fold-epochs, as a part of what all configurations would cost in full."""
    reached: float
    """Median fold-epochs until a complete configuration was within `within` of the best; infinite if that was rare."""
    regret: float
    """Mean AUC by which the winner fell short."""
    dropped: float
    """Part of the replays in which the best was dropped."""


def summarise(
    recording: Recording,
    ladder: Ladder,
    race: Race | None,
    orders: Sequence[Sequence[int]],
    within: float,
    lookback: int = 1,
) -> Summary:
    """The summary of `replay` in each of `orders`. Raises UsageError as it does."""
    outcomes = [replay(recording, ladder, race, order, within, lookback) for order in orders]
    return sum_up(outcomes, [len(order) * recording.top.fold_epochs for order in orders])


def sum_up(outcomes: Sequence[Outcome], whole: Sequence[int]) -> Summary:
    """The summary of replays whose configurations would have cost `whole` fold-epochs in full."""
    return Summary(
        float(np.mean([outcome.fold_epochs / most for outcome, most in zip(outcomes, whole, strict=True)])),
        float(np.median([outcome.reached for outcome in outcomes])),
        float(np.mean([outcome.regret for outcome in outcomes])),
        float(np.mean([outcome.dropped for outcome in outcomes])),
    )


def random_orders(count: int, replays: int) -> list[list[int]]:
    """Random orders of `count` configurations: the same for the same arguments."""
    return [np.random.default_rng(seed).permutation(count).tolist() for seed in range(replays)]


def _run_trial(state: StudyState, number: int, figures: "RecordedFigures") -> int:
    """Runs a trial from rung to rung until it ends; returns the fold-epochs that it cost."""
    for rung, _ in enumerate(figures.ladder.rungs):
        if not state.measured(number, rung, figures.measurement(number, rung)):
            break
    return figures.ladder.rungs[rung].fold_epochs


@dataclass(frozen=True)
class RecordedOrder:
    """A proposer of the recorded configurations in an order: `numbers` of them."""

    recording: Recording
    numbers: list[int]

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        """Returns the parameters of trial `number` (see `Proposer.ask`)."""
        return self.recording.params[self.numbers[number]]


@dataclass(frozen=True)
class RecordedFigures:
    """The scores of the recorded configurations, in that order."""

    recording: Recording
    ladder: Ladder
    numbers: list[int]

    def case_scores(self, number: int, rung: int) -> CaseScores:
        """The scores of trial `number` case by case (see `CaseScoreSource.case_scores`)."""
        return self.recording.case_scores(self.numbers[number], self.ladder.rungs[rung])

    def measurement(self, number: int, rung: int) -> Measurement:
        """The measurement of trial `number` at a rung."""
        scores, point = tuple(fold.auc for fold in self.case_scores(number, rung)), self.ladder.rungs[rung]
        return Measurement(point.folds, point.epochs, scores, scores, 0.0)
