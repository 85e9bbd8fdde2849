"""The verdict promises no more than the interval's lower bound, and calls a leak a leak."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.evaluation.estimates.winner import ControlCheck
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.evaluation.verdict import BOUNDS, Grade, grade, verdict

FINE = ControlCheck(0.52, 0.42, 0.58, 1)


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (Interval(0.55, 0.46, 0.64), "next to nothing: there is no evidence that they teach it anything"),
        (Interval(0.60, 0.52, 0.68), "next to nothing about the target: it does better than guessing, but barely"),
        (Interval(0.75, 0.45, 0.95), "no evidence.*the data is too small to tell"),
        (Interval(0.50, 0.00, 1.00), "the data is too small to tell"),
        (Interval(0.80, 0.55, 0.95), "better than guessing, but the data is too small to say by how much"),
        (Interval(0.68, 0.63, 0.73), "weakly"),
        (Interval(0.78, 0.72, 0.84), "moderately well"),
        (Interval(0.88, 0.83, 0.92), "separates the classes well"),
        (Interval(0.96, 0.93, 0.98), "very well"),
        (Interval(0.30, 0.20, 0.41), "worse than guessing"),
        (Interval(1.0, 1.0, 1.0), "no error from which an interval could be made"),
    ],
)
def test_the_words_follow_the_interval(interval, words):
    sentence = verdict(interval, FINE)
    assert re.search(words, sentence)
    assert f"AUC {interval.value:.2f}, 95% interval {interval.low:.2f} to {interval.high:.2f}" in sentence


def test_a_control_off_chance_is_a_leak_whatever_the_figure():
    leaking = ControlCheck(0.71, 0.42, 0.58, 1)
    sentence = verdict(Interval(0.96, 0.93, 0.98), leaking)
    assert sentence.startswith("Something leaks")
    assert "0.71" in sentence
    assert "0.42 to 0.58" in sentence
    assert grade(Interval(0.96, 0.93, 0.98), leaking) is Grade.LEAK
    assert verdict(Interval(0.96, 0.93, 0.98), ControlCheck(0.3, 0.42, 0.58, 1)).startswith("Something leaks")


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_higher_bound_never_gives_a_lower_grade(one, two):
    order = [Grade.NONE, Grade.NEXT_TO_NOTHING, Grade.WEAK, Grade.MODERATE, Grade.GOOD, Grade.STRONG]
    low, high = sorted((one, two))
    assert order.index(grade(Interval(1, low, 1))) <= order.index(grade(Interval(1, high, 1)))
    assert [bound for bound, _ in BOUNDS] == sorted(bound for bound, _ in BOUNDS)
