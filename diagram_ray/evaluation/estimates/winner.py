"""All estimates of a study's best trial, and the check of its no-signal control."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from diagram_ray.errors import DataError
from diagram_ray.evaluation.delong import delong
from diagram_ray.evaluation.estimates.bbc import Corrected, bags, corrected
from diagram_ray.evaluation.estimates.margin import Baseline, Margin, beside, margin, single
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.evaluation.out_of_fold import OutOfFold, out_of_fold
from diagram_ray.evaluation.resampling import Interval, bootstrap
from diagram_ray.results import REFERENCE_SCORES

CONTROL_LEVEL = 0.99


@dataclass(frozen=True)
class Estimates:
    """What is known of the best trial."""

    fold_mean: Interval
    """Mean over folds of AUC, bootstrapped by patient: what the search selected by. Still optimistic."""
    pooled: Interval
    """AUC of all out-of-fold scores pooled, bootstrapped by patient."""
    pooled_delong: Interval
    """The pooled AUC with DeLong's interval, which takes images as independent."""
    corrected: Corrected
    """Mean over folds of AUC, corrected for the selection among the complete trials (BBC-CV)."""
    chance_sd: float
    """How far labels without any meaning would take the mean over folds from 0.5 (one standard deviation)."""
    margin: Margin | None = None
    """The winner beside trivial baselines; None if there are none."""
    reference: Baseline | None = None
    """The reference network, which is none of them; None if it was not measured."""


@dataclass(frozen=True)
class ControlCheck:
    """The no-signal control beside what chance allows."""

    value: float
    low: float
    """Chance stays above this, and below `high`, in 99 of 100 studies without a leak."""
    high: float
    shuffles: int

    @property
    def passed(self) -> bool:
        """The control is where an honest study's would be."""
        return self.low <= self.value <= self.high


def estimate(
    predictions: pd.DataFrame,
    best: int,
    resamples: int = 2000,
    seed: int = 0,
    baselines: pd.DataFrame | None = None,
    reference: pd.DataFrame | None = None,
) -> Estimates:
    """The estimates from the study's predictions of all complete trials; `best` is the winner's number.

    `baselines`: those of trivial features, `group, fold, image_id, patient_id, label, score`; `reference`: the same of
    one network. Raises DataError.
    """
    data = out_of_fold(predictions)
    if best not in data.trials:
        raise DataError(f"predictions: there are none of trial {best}, the best; found {list(data.trials)}")
    winner, count = data.only(best), len(data.trials)
    both, names = (data, ()) if baselines is None else beside(predictions, baselines)
    if reference is not None:
        paired, networks = beside(predictions[predictions["trial"] == best], reference, REFERENCE_SCORES)
        if len(networks) != 1:
            raise DataError(f"{REFERENCE_SCORES}: has the scores of {len(networks)} networks; expected those of one")
        both = both.followed_by(paired.only(paired.trials[-1]))
    measured = bags(both, resamples, seed)
    trials, groups = measured.part(slice(count)), measured.part(slice(count, count + len(names)))
    fold_mean, pooled = bootstrap(winner, resamples, seed)
    return Estimates(
        fold_mean=fold_mean,
        pooled=pooled,
        pooled_delong=delong(winner.labels, winner.scores[0]),
        corrected=corrected(trials),
        chance_sd=chance_sd(winner, resamples // 2, seed),
        margin=margin(trials, groups, names) if names else None,
        reference=None if reference is None else single(trials, measured.part(slice(-1, None)), networks[0]),
    )


def check_control(control: Mapping[str, Any], chance: float) -> ControlCheck:
    """The content of `control.json` beside the range that chance, with the standard deviation `chance` for one shuffle,
    allows."""
    shuffles = max(1, sum("failed" not in shuffle for shuffle in control["shuffles"]))
    reach = float(norm.ppf(0.5 + CONTROL_LEVEL / 2)) * chance / math.sqrt(shuffles)
    return ControlCheck(float(control["auc_mean"]), max(0.0, 0.5 - reach), min(1.0, 0.5 + reach), shuffles)


def chance_sd(data: OutOfFold, draws: int = 1000, seed: int = 0) -> float:
    """Standard deviation of the mean over folds of the first trial's AUC when patients swap their labels.

    Within a fold, the patients' lists of labels are laid end to end in a random order: images of a patient keep
    labels that go together, which widens the spread, as it widens the control's.
    """
    rng = np.random.default_rng(seed)
    folds = [_shuffled_auc(data, rows, draws, rng) for rows in data.rows()]
    known = [fold for fold in folds if fold is not None]
    return float(np.mean(known, axis=0).std()) if known else math.nan


def _shuffled_auc(data: OutOfFold, rows: NDArray[np.intp], draws: int, rng: np.random.Generator) -> Floats | None:
    """One fold's AUC under `draws` shuffles of its labels: (draws,). None if it has one class."""
    rows = rows[np.argsort(data.patients[rows], kind="stable")]
    labels = data.labels[rows]
    positive, negative = int(labels.sum()), int((1 - labels).sum())
    if not positive or not negative:
        return None
    patients = np.split(labels, np.flatnonzero(np.diff(data.patients[rows])) + 1)
    shuffled = np.stack([np.concatenate([patients[i] for i in rng.permutation(len(patients))]) for _ in range(draws)])
    sums: Floats = shuffled @ rankdata(data.scores[0, rows])
    return (sums - positive * (positive + 1) / 2) / (positive * negative)
