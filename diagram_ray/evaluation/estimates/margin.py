"""How far a search's winner is above trivial baselines, and a reference network, on the same images and folds.

Both sides are the highest of several: the winner of the trials, the best baseline of the groups of features. So both
are chosen anew in each resample of the patients, on those that were drawn, and measured on those that were not, as
BBC-CV does it (`estimates/bbc.py`). The difference has neither side's luck of selection in it, and its interval knows
that both were measured on the same patients. Models are taken as they are: it is not said what others, trained anew,
would have made of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.bbc import Bags, Corrected, corrected, spread
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import LEVEL, Interval, percentile_interval
from diagram_ray.results import BASELINE_SCORES


@dataclass(frozen=True)
class Baseline:
    """What one group of trivial features, or the reference network, reaches."""

    name: str
    auc: Interval
    """Mean over folds, bootstrapped by patient."""
    difference: Interval
    """The winner's corrected AUC less this AUC."""


@dataclass(frozen=True)
class Margin:
    """The winner beside the baselines."""

    best: str
    """The group with the highest AUC."""
    auc: float
    """The AUC of the best baseline, corrected for having been the highest of several."""
    difference: Interval
    """The winner's corrected AUC less `auc`."""
    baselines: tuple[Baseline, ...]
    """The groups, the highest AUC first."""

    @property
    def above(self) -> bool:
        """Whether the winner is shown to be above the best of them."""
        return self.difference.low > 0


def beside(
    predictions: pd.DataFrame, baselines: pd.DataFrame, file: str = BASELINE_SCORES
) -> tuple[OutOfFold, tuple[str, ...]]:
    """The trials' scores followed by the baselines', and the baselines' names.

    `baselines` has `group, fold, image_id, patient_id, label, score`. Raises DataError, naming the `file` that they are
    from, unless they were measured on the images, labels and folds of the trials.
    """
    names = tuple(str(name) for name in baselines["group"].unique())
    first = int(predictions["trial"].max()) + 1
    numbers = baselines["group"].map({name: first + at for at, name in enumerate(names)})
    try:
        return out_of_fold(pd.concat([predictions, baselines.assign(trial=numbers, repeat=0)])), names
    except DataError:
        raise DataError(
            f"{file}: was not measured on the images, labels and folds of predictions.parquet; remove it, and tune "
            "--resume measures it anew"
        ) from None


def margin(trials: Bags, baselines: Bags, names: Sequence[str]) -> Margin:
    """The winner of `trials` beside G baselines with these `names`; trials and baselines were measured in the same
    resamples."""
    winner, best = corrected(trials), corrected(baselines)
    parts = [baselines.part(slice(at, at + 1)) for at in range(len(names))]
    ranked = [single(trials, part, name) for part, name in zip(parts, names, strict=True)]
    ranked.sort(key=lambda baseline: -baseline.auc.value)
    return Margin(ranked[0].name, best.auc.value, _difference(winner, best.auc.value, trials, baselines), tuple(ranked))


def single(trials: Bags, other: Bags, name: str) -> Baseline:
    """The baseline `other`, which was not chosen from several, beside the winner of `trials`; both measured in the same
    resamples."""
    value = float(other.whole[0])
    auc = percentile_interval(value, other.inside[0])
    return Baseline(name, auc, _difference(corrected(trials), value, trials, other))


def _difference(winner: Corrected, other: float, trials: Bags, others: Bags) -> Interval:
    """The winner's corrected AUC less `other`, the interval by the spread of their paired measurements."""
    value = winner.auc.value - other
    if not winner.resamples:
        return Interval(value, -1.0, 1.0)
    chosen = trials.inside.argmax(axis=0) * len(others.whole) + others.inside.argmax(axis=0)
    pairs, index = np.unique(chosen, return_inverse=True)
    one, two = np.divmod(pairs, len(others.whole))
    inside, outside = trials.inside[one] - others.inside[two], trials.outside[one] - others.outside[two]
    measured = outside[index, np.arange(len(index))]
    reach = float(norm.ppf(0.5 + LEVEL / 2)) * spread(measured, index, inside, outside)
    return Interval(value, max(-1.0, value - reach), min(1.0, value + reach))
