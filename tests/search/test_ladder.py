"""Successive halving as arithmetic, against the slow and obvious way."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.search.ladder import Ladder, Rung, decide, make_rungs

RUNG = Rung(5, 3)
scores = st.floats(0, 1)


@given(scores, st.lists(scores, max_size=30), st.integers(2, 5))
def test_the_best_part_goes_on(value: float, earlier: list[float], reduction: int) -> None:
    everyone = sorted([*earlier, value], reverse=True)
    best = everyone[: len(everyone) // reduction]
    expected = len(everyone) < reduction or value >= best[-1]
    assert decide(RUNG, value, earlier, reduction).go_on == expected


@given(scores, st.lists(scores, max_size=30), st.randoms())
def test_the_order_of_the_others_does_not_matter(value: float, earlier: list[float], random) -> None:
    shuffled = earlier.copy()
    random.shuffle(shuffled)
    assert decide(RUNG, value, earlier, 3) == decide(RUNG, value, shuffled, 3)


def test_the_decision_explains_itself() -> None:
    assert decide(RUNG, 0.6, [0.7, 0.8, 0.5, 0.9, 0.4], 3).why == (
        "pruned: 0.6000 at 5 folds x 3 epochs is number 4 of 6, best 2 go on"
    )
    assert decide(RUNG, 0.8, [0.7], 3).why.endswith("1 earlier trials are too few to compare with")


def test_costs() -> None:
    ladder = Ladder((Rung(2, 3), Rung(5, 3), Rung(5, 9)), 3)
    assert [rung.fold_epochs for rung in ladder.rungs] == [6, 15, 45]
    assert ladder.exhaustive(16) == 720
    assert ladder.expected(9) == 9 * 6 + 3 * 9 + 1 * 30
    assert ladder.expected(9, unpruned=9) == ladder.exhaustive(9)


@pytest.mark.parametrize(
    ("folds", "epochs", "expected"),
    [
        (5, 1, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]),
        (5, 2, [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (5, 2)]),
        (5, 30, [(1, 10), (2, 15), (3, 15), (4, 15), (5, 15), (5, 30)]),
        (2, 9, [(1, 3), (2, 4), (2, 9)]),
        (3, 9, [(1, 3), (2, 4), (3, 4), (3, 9)]),
        (10, 9, [(1, 3), (4, 4), (6, 4), (8, 4), (10, 4), (10, 9)]),
    ],
)
def test_rungs_are_made_from_folds_and_epochs(folds: int, epochs: int, expected: list[tuple[int, int]]) -> None:
    assert make_rungs(folds, epochs) == tuple(Rung(*each) for each in expected)


@given(st.integers(2, 30), st.integers(1, 100))
def test_from_rung_to_rung_there_is_more(folds: int, epochs: int) -> None:
    rungs = make_rungs(folds, epochs)
    assert rungs[-1] == Rung(folds, epochs)
    for below, above in itertools.pairwise(rungs):
        assert below.folds <= above.folds
        assert below.epochs <= above.epochs
        assert below != above
