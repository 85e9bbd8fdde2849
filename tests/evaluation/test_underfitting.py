"""A warning where a network does not fit its own training images, and none where it does or where that is not known."""

import pytest

from diagram_ray.evaluation.underfitting import reason, underfits


@pytest.mark.parametrize(
    ("training", "test", "expected"),
    [
        (0.62, 0.58, True),
        (0.62, None, True),
        (0.62, 0.45, True),  # far apart only because the test images came out below guessing
        (0.75, 0.70, True),  # near to each other: nothing has been held back yet
        (0.75, 0.55, False),  # learnt by heart as far as augmentation lets it
        (0.75, None, False),
        (0.85, 0.84, False),
        (1.00, 0.55, False),
        (None, 0.58, False),
        (None, None, False),
    ],
)
def test_who_is_warned(training: float | None, test: float | None, expected: bool) -> None:
    assert bool(underfits(training, test, 20)) == expected


def test_the_sentence_says_what_was_seen_and_what_to_do() -> None:
    told = underfits(0.6171, 0.5812, 20)
    assert told.startswith("underfits: training AUC 0.62 after 20 epochs, test AUC 0.58; try more epochs")
    assert underfits(0.6, None, 1).startswith("underfits: training AUC 0.60 after 1 epoch; try")


@pytest.mark.parametrize(
    ("training", "test", "shown", "expected"),
    [
        (0.62, 0.58, False, "But the networks do not fit even their own training images (AUC 0.62 there)"),
        (0.72, 0.68, True, "But the networks do not fit even their own training images (AUC 0.72 there)"),
        (0.98, 0.55, False, "The networks do fit their own training images (AUC 0.98 there), but"),
        (0.98, 0.75, True, ""),
        (0.98, 0.93, False, ""),  # far above guessing, as are the trivial features
        (0.75, 0.55, False, ""),  # neither can be said
        (None, 0.55, False, ""),
    ],
)
def test_what_is_added_to_a_verdict(training: float | None, test: float, shown: bool, expected: str) -> None:
    told = reason(training, test, shown)
    assert told.startswith(expected) if expected else told == ""
