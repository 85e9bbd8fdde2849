"""Which trial starts again after its worker was lost, and what that cost. No cluster is started."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.distributed.nodes import EVERY, DrainNotice
from diagram_ray.distributed.retries import RETRIES, RetryPolicy
from diagram_ray.search.messages import TrialReport


def told(fold_epochs: int, begun_at: int = 0, draining: bool = False) -> TrialReport:
    return TrialReport(0, 3, fold_epochs // 3, fold_epochs, begun_at=begun_at, draining=draining)


def started(gone: int = 0) -> RetryPolicy:
    losses = RetryPolicy(lambda: gone)
    losses.started(0)
    return losses


def test_three_deaths_at_the_same_place_are_too_many() -> None:
    losses = started()
    losses.advanced(told(6))
    assert [losses.died(0) for _ in range(RETRIES + 1)] == [True] * RETRIES + [False]
    assert losses.workers == RETRIES


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_a_trial_that_gets_farther_each_time_goes_on(steps: list[int]) -> None:
    losses, reached = started(), 0
    for step in steps:
        reached += 3 * step
        losses.advanced(told(reached))
        assert losses.died(0)


def test_training_the_same_again_is_not_getting_farther() -> None:
    losses = started()
    losses.advanced(told(9))
    lives = []
    for _ in range(RETRIES + 1):
        lives.append(losses.died(0))
        losses.advanced(told(6))
        losses.advanced(told(9))
    assert lives == [True] * RETRIES + [False]


@given(st.integers(0, 20))
def test_a_machine_that_went_excuses_a_death(machines: int) -> None:
    gone = 4
    losses = RetryPolicy(lambda: gone)
    losses.started(0)
    gone += machines
    lives = 0
    while losses.died(0):
        lives += 1
    assert lives == RETRIES + machines


def test_what_is_trained_again_is_counted() -> None:
    losses = started()
    losses.advanced(told(15))
    losses.died(0)
    losses.advanced(told(12, begun_at=9))
    losses.advanced(told(15, begun_at=9))
    assert (losses.workers, losses.fold_epochs) == (1, 6)
    losses.died(0)
    losses.advanced(told(15, begun_at=15))  # it was saved there
    assert (losses.workers, losses.fold_epochs) == (2, 6)


def test_a_worker_that_said_it_would_leave_has_not_died_of_the_trial() -> None:
    losses = started()
    for _ in range(10):
        losses.advanced(told(6, draining=True))
        assert losses.died(0)
    assert losses.fold_epochs == 0 + 9 * 6  # begun_at is 0 in what is told here


def test_a_notice_asks_now_and_then_and_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    now, draining, asked = 0.0, set(), []

    def answer() -> set[str]:
        asked.append(now)
        return draining

    monkeypatch.setattr("diagram_ray.distributed.nodes._draining", answer)
    notice = DrainNotice(["mine"], clock=lambda: now)
    assert not notice()
    assert not notice()
    draining.add("another")
    now += EVERY
    assert not notice()
    draining.add("mine")
    assert not notice()  # asked a moment ago
    now += EVERY
    assert notice()
    draining.clear()
    now += EVERY
    assert notice()
    assert len(asked) == 3
