"""What the figures mean, in words that do not promise more than the interval's lower bound."""

from enum import StrEnum

from diagram_ray.evaluation.estimates.margin import Baseline, Margin
from diagram_ray.evaluation.estimates.winner import ControlCheck
from diagram_ray.evaluation.resampling import Interval


class Grade(StrEnum):
    """How much the images are shown to teach the model, from the lower bound of the interval."""

    LEAK = "leak"
    NONE = "none"
    TRIVIAL = "trivial"
    """Better than guessing, but not shown to be better than the best trivial baseline."""
    NEXT_TO_NOTHING = "next-to-nothing"
    WEAK = "weak"
    MODERATE = "moderate"
    GOOD = "good"
    STRONG = "strong"


BOUNDS = (
    (0.5, Grade.NONE),
    (0.6, Grade.NEXT_TO_NOTHING),
    (0.7, Grade.WEAK),
    (0.8, Grade.MODERATE),
    (0.9, Grade.GOOD),
)

UNCLEAR = 0.6
"""Width of an interval that says nothing."""

SHOWN = {
    Grade.NONE: "The images teach the model next to nothing: there is no evidence that they teach it anything about "
    "the target.",
    Grade.TRIVIAL: "Whatever the images teach the model about the target, it is not shown to go beyond that.",
    Grade.NEXT_TO_NOTHING: "The images teach the model next to nothing about the target: it does better than guessing, "
    "but barely.",
    Grade.WEAK: "The images teach the model a little about the target: it separates the classes weakly.",
    Grade.MODERATE: "The images teach the model something about the target: it separates the classes moderately well.",
    Grade.GOOD: "The images teach the model much about the target: it separates the classes well.",
    Grade.STRONG: "The images teach the model the target: it separates the classes very well.",
}

WIDE = {
    Grade.NONE: "There is no evidence that the images teach the model anything about the target: the data is too small "
    "to tell.",
    Grade.NEXT_TO_NOTHING: "The model does better than guessing, but the data is too small to say by how much.",
}


def grade(auc: Interval, control: ControlCheck | None = None, margin: Margin | None = None) -> Grade:
    """The grade of an interval of AUC; LEAK where the no-signal control failed, TRIVIAL where `margin` is not above."""
    if control is not None and not control.passed:
        return Grade.LEAK
    level = next((grade for bound, grade in BOUNDS if auc.low <= bound), Grade.STRONG)
    return level if level is Grade.NONE or margin is None or margin.above else Grade.TRIVIAL


def verdict(auc: Interval, control: ControlCheck | None = None, margin: Margin | None = None) -> str:
    """What may be said in good conscience of a model whose AUC, corrected for selection, has this interval.

    With `margin`, first how far it is above the best trivial baseline.
    """
    level = grade(auc, control, margin)
    if level is Grade.LEAK and control is not None:
        return _leak(control)
    return _by_itself(auc, level) if margin is None else f"{against(auc, margin)} {_by_itself(auc, level)}"


def against(auc: Interval, margin: Margin) -> str:
    """How far a winner with this corrected AUC is above the best trivial baseline, or that it is not shown to be."""
    reached = f"the {margin.auc:.2f} that “{margin.best}” reaches without any network"
    return _compared(auc, margin.difference, "the best trivial baseline", reached)


def against_reference(auc: Interval, reference: Baseline) -> str:
    """How far the winner is above the reference network, which verdict and grade do not depend on."""
    reached = f"the {reference.auc.value:.2f} that a logistic regression reaches on them"
    return _compared(auc, reference.difference, reference.name, reached)


def _compared(auc: Interval, gap: Interval, other: str, reached: str) -> str:
    """`gap`: the winner's corrected AUC less that of `other`; `reached` says how much that is."""
    winner = f"{auc.value:.2f}"
    if gap.low > 0:
        return (
            f"The winner's AUC of {winner} is {gap.value:.2f} (95% interval {gap.low:.2f} to {gap.high:.2f}) above "
            f"{other}, {reached}."
        )
    if gap.high < 0:
        return (
            f"The winner is below {other}: its AUC of {winner} is {-gap.value:.2f} (95% interval {-gap.high:.2f} to "
            f"{-gap.low:.2f}) less than {reached}."
        )
    return (
        f"The winner is not shown to be above {other}: its AUC of {winner} against {reached} is a difference of "
        f"{signed(gap.value, 2)} (95% interval {signed(gap.low, 2)} to {signed(gap.high, 2)})."
    )


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a real minus; 0 is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _by_itself(auc: Interval, level: Grade) -> str:
    """What the interval and its grade say."""
    figures = f"AUC {auc.value:.2f}, 95% interval {auc.low:.2f} to {auc.high:.2f}; 0.5 is guessing."
    if auc.high < 0.5:
        return f"The model is worse than guessing: look for exchanged classes or a faulty split. {figures}"
    if auc.degenerate:
        return f"{SHOWN[level]} There was no error from which an interval could be made, so it may be luck. {figures}"
    # A low bound under a high estimate means few patients, not a model that has learned nothing.
    unclear = auc.value > 0.7 or auc.high - auc.low > UNCLEAR
    words = WIDE[level] if level in WIDE and unclear else SHOWN[level]
    return f"{words} {figures}"


def _leak(control: ControlCheck) -> str:
    side = "knows labels that mean nothing" if control.value > 0.5 else "is systematically wrong on meaningless labels"
    return (
        f"Something leaks: trained on labels shuffled between patients the winner {side} (AUC {control.value:.2f}; "
        f"chance stays within {control.low:.2f} to {control.high:.2f}). No figure of this study can be trusted until "
        "the cause is found."
    )
