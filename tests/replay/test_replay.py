"""Replays cost and find what a search by hand over the recorded figures costs and finds."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from diagram_ray.errors import DataError, UsageError
from diagram_ray.replay.recording import Recording, read_recording
from diagram_ray.replay.replay import replay
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.racing import Cases, Race, mean_auc

EPOCHS, FOLDS, N = 4, 3, 90
NOBODY = 10**6
WHOLE = Rung(FOLDS, EPOCHS)


@pytest.fixture(scope="module")
def recording() -> Recording:
    """30 configurations that learn at a pace, and up to a height, of their own."""
    random = np.random.default_rng(3)
    labels, folds = np.arange(N) % 2, np.arange(N) // 2 % FOLDS
    height, pace = random.uniform(0, 2, 30), random.uniform(0.3, 1, 30)
    gain = height[:, None] * (1 - np.exp(-pace[:, None] * np.arange(1, EPOCHS + 1)))
    scores = random.standard_normal((30, EPOCHS, N)) + gain[:, :, None] * labels
    cases = Cases(labels, folds, np.arange(N) // 2, resamples=100)
    return Recording(scores, tuple(range(1, EPOCHS + 1)), cases, tuple({"height": h} for h in height))


def by_hand(
    recording: Recording, ladder: Ladder, race: Race | None, order: list[int], lookback: int
) -> tuple[int, list[int]]:
    """Fold-epochs, and the configurations that are complete, in plain loops."""
    cost, complete, seen = 0, [], [[] for _ in ladder.rungs]  # seen: (position, value) at each rung
    for position, number in enumerate(order):
        before = 0
        for rung, point in enumerate(ladder.rungs):
            cost, before = cost + point.fold_epochs - before, point.fold_epochs
            case_scores = recording.case_scores(number, point)
            value = float(np.mean([fold.auc for fold in case_scores]))
            seen[rung].append((position, value))
            if point == WHOLE:
                complete.append((position, number))
                break
            others = [other for where, other in seen[rung][:-1] if where <= position - lookback]
            count = len(others) + 1
            if count >= ladder.reduction and sum(other > value for other in others) >= count // ladder.reduction:
                break
            earlier = [other for where, other in complete if where <= position - lookback]
            if race and earlier:
                best = max(earlier, key=lambda other: mean_auc(recording.case_scores(other, WHOLE)))
                if not race.judge(point, case_scores, recording.case_scores(best, point), 0).go_on:
                    break
    return cost, [number for _, number in complete]


@pytest.mark.parametrize("lookback", [1, 4])
@pytest.mark.parametrize("race", [None, Race("bbcd", 0.1), Race("aggressive", 0.0)])
@pytest.mark.parametrize("reduction", [2, 3, NOBODY])
def test_it_is_the_search_by_hand(recording: Recording, reduction: int, race: Race | None, lookback: int) -> None:
    ladder = Ladder((Rung(1, 1), Rung(FOLDS, 2), WHOLE), reduction)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(30).tolist()
        cost, complete = by_hand(recording, ladder, race, order, lookback)
        found = replay(recording, ladder, race, order, within=0.01, lookback=lookback)
        final = recording.final
        assert found.fold_epochs == cost
        assert found.regret == pytest.approx(final.max() - max(final[complete]))
        assert found.dropped == (int(final.argmax()) not in complete)
        assert math.isinf(found.reached) == (max(final[complete]) < final.max() - 0.01)


def test_exhaustive_search_costs_all_and_finds_the_best(recording: Recording) -> None:
    order = np.random.default_rng(0).permutation(30).tolist()
    found = replay(recording, Ladder((WHOLE,), NOBODY), None, order, within=0.0)
    assert found.fold_epochs == 30 * FOLDS * EPOCHS
    assert found.reached == (order.index(int(recording.final.argmax())) + 1) * FOLDS * EPOCHS
    assert (found.regret, found.dropped) == (0.0, False)


def test_ladders_that_were_not_recorded_are_refused(recording: Recording) -> None:
    with pytest.raises(UsageError, match="must end where the recording does, at 3 folds x 4 epochs"):
        replay(recording, Ladder((Rung(3, 3),), 2), None, [0], 0.0)
    with pytest.raises(
        UsageError, match="4 folds x 1 epochs: not recorded; recorded are 3 folds x 1 epochs, 3 folds x 2 epochs"
    ):
        replay(recording, Ladder((Rung(4, 1), WHOLE), 2), None, [0], 0.0)


def test_a_recording_is_read_back(recording: Recording, tmp_path: Path) -> None:
    path, cases = tmp_path / "x.npz", recording.cases
    ranks = np.zeros(recording.scores.shape, np.uint8)
    for fold in range(FOLDS):
        rows = cases.rows(fold)
        ranks[..., rows] = recording.scores[..., rows].argsort(-1).argsort(-1)
    params = np.array([json.dumps(each) for each in recording.params])
    whose = {"folds": cases.folds, "labels": cases.labels, "patients": cases.patients}
    np.savez(path, ranks=ranks, epochs=np.array(recording.epochs), params=params, **whose)
    again = read_recording(path)
    np.testing.assert_allclose(again.final, recording.final)
    assert (again.params, again.epochs) == (recording.params, recording.epochs)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a recording"):
        read_recording(path)
