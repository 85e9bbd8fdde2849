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
    """Standard deviation of the mean over folds of the first trial's AUC when patients exchange their labels.

    As in the control, patients with equally many images exchange all their labels: those of a patient go together,
    which widens the spread. NaN if no fold has both classes.
    """
    rng = np.random.default_rng(seed)
    sizes = np.bincount(data.patients)
    by_size = [np.flatnonzero(sizes == size) for size in np.unique(sizes)]
    images = [np.stack([np.flatnonzero(data.patients == patient) for patient in patients]) for patients in by_size]
    labels = np.empty((draws, len(data.labels)), dtype=np.int64)
    for rows in images:
        for draw in range(draws):
            labels[draw, rows] = data.labels[rows[rng.permutation(len(rows))]]
    folds = np.stack([_shuffled_auc(labels[:, rows], data.scores[0, rows]) for rows in data.rows()])
    known = ~np.isnan(folds)
    means = np.divide(np.where(known, folds, 0.0).sum(axis=0), known.sum(axis=0), where=known.any(axis=0),
                      out=np.full(draws, np.nan))  # fmt: skip
    return float(np.nanstd(means)) if known.any() else math.nan


def _shuffled_auc(labels: NDArray[np.int64], scores: Floats) -> Floats:
    """The AUC of a fold's scores (N,) for each row of labels (draws, N): (draws,). NaN where a class is missing."""
    positive = labels.sum(axis=1)
    pairs = positive * (labels.shape[1] - positive)
    won = labels @ rankdata(scores) - positive * (positive + 1) / 2
    values: Floats = np.divide(won, pairs, out=np.full(len(labels), np.nan), where=pairs > 0)
    return values
