"""Racing: a trial is dropped once its scores, case by case, say that it hardly beats the best complete trial.

The ladder (`ladder.py`) compares means and keeps the best part of all trials. A race compares two trials on the same
cases, so what makes a case hard for both counts for neither: always the same folds after the same epochs. Pure: neither
Ray nor torch, no clock, and random numbers of a seed only.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import ndtr

from diagram_ray.config import Frozen
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import Floats, by_class, placements
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Counts, Interval, draw_patients, percentile_interval, weighted_auc
from diagram_ray.search.ladder import Decision, Rung


class RaceConfig(Frozen):
    """Whether trials that the ladder lets go on are also compared, case by case, with the best complete trial."""

    rule: Literal["none", "bbcd", "delong", "wilcoxon", "forgiving", "aggressive"] = "bbcd"
    """Rule of the comparison. `bbcd`: by a bootstrap of the patients; `delong`: by DeLong's variance; `wilcoxon`: by
    the ranks of the folds; `forgiving`, `aggressive`: with the worst and with the mean of the best trial's folds."""
    alpha: float = Field(default=0.05, ge=0.0, lt=1.0)
    """A trial is dropped if the chance that it is the better one is below this. For `forgiving` and `aggressive`: the
    AUC by which it may fall short."""
    resamples: int = Field(default=500, ge=100, le=100_000)
    """Number of resamples of the patients, for bbcd."""


@dataclass(frozen=True)
class FoldScore:
    """The scores of one model on the test images of its fold, as far as races need them."""

    auc: float
    draws: Floats
    """(B,) AUC in each resample of the patients; NaN where a class was not drawn."""
    positive: Floats
    """(P,) placement of each positive among the negatives (DeLong 1988)."""
    negative: Floats
    """(M,) placement of each negative among the positives."""


CaseScores = Sequence[FoldScore]
"""A trial's first folds, all after the same number of epochs."""


@dataclass(frozen=True)
class Cases:
    """The images that all trials of a study are measured on, and the resamples of their patients."""

    labels: NDArray[np.int64]
    """(N,) class of each image, 0 or 1"""
    folds: NDArray[np.int64]
    """(N,) fold of each image, 0..F-1"""
    patients: NDArray[np.int64]
    """(N,) patient of each image, 0..P-1"""
    resamples: int = 500
    seed: int = 0

    @classmethod
    def of(cls, data: TrainingData, splits: Splits, resamples: int, seed: int) -> "Cases":
        """The cases of a study."""
        folds = np.array([splits.patients[patient] for patient in data.patient_ids.tolist()], dtype=np.int64)
        patients = np.unique(data.patient_ids, return_inverse=True)[1].astype(np.int64)
        return cls(data.labels, folds, patients, resamples, seed)

    def case_scores(self, folds: int, scores: Floats) -> "list[FoldScore]":
        """The fold scores from the (n,) scores of the first `folds` folds in their order. Raises DataError."""
        rows = [self.rows(fold) for fold in range(folds)]
        ends = np.cumsum([len(positions) for positions in rows])
        if scores.shape != (ends[-1],):
            raise DataError(f"scores {scores.shape}: the first {folds} folds have {ends[-1]} images")
        return [self.measure(fold, part) for fold, part in enumerate(np.split(scores, ends[:-1]))]

    def rows(self, fold: int) -> NDArray[np.intp]:
        """The positions of a fold's images."""
        return np.flatnonzero(self.folds == fold)

    def measure(self, fold: int, scores: Floats) -> FoldScore:
        """The fold score from the (n,) scores of a fold's images, ordered as `rows`. Raises DataError as `metrics.auc`
        does.

        The patients that are drawn are the same for all trials: their draws are paired.
        """
        rows = self.rows(fold)
        negative, positive = by_class(self.labels[rows], scores)
        above = placements(positive, negative)
        draws = weighted_auc(self.labels[rows], np.asarray(scores, dtype=np.float64), self._counts[self.patients[rows]])
        return FoldScore(float(above.mean()), draws, above, placements(negative, positive))

    @cached_property
    def _counts(self) -> Counts:
        none = np.empty((0, len(self.labels)))
        return draw_patients(OutOfFold((), none, self.labels, self.folds, self.patients), self.resamples, self.seed)


@dataclass(frozen=True)
class Verdict(Decision):
    """A race's decision together with its statistic."""

    rule: str
    statistic: float
    threshold: float
    """The trial was dropped if `statistic` is below it."""
    against: int
    """Number of the trial that was raced against."""


@dataclass(frozen=True)
class Race:
    """A rule by its name in `RULES`, and how sure it must be to drop a trial."""

    rule: str
    alpha: float

    def judge(self, rung: Rung, challenger: CaseScores, incumbent: CaseScores, number: int) -> Verdict:
        """Whether the challenger goes on after `rung`. `incumbent` is trial `number` after the same epochs.

        The incumbent's folds begin with the challenger's; `forgiving` and `aggressive` look at all of them.
        """
        statistic, threshold, reason = RULES[self.rule](challenger, incumbent, self.alpha)
        go_on = not statistic < threshold
        verdict = "goes on" if go_on else "dropped"
        auc, incumbent_auc = mean_auc(challenger), mean_auc(incumbent[: len(challenger)])
        why = f"{verdict}: {auc:.4f} at {rung} against {incumbent_auc:.4f} of trial {number}: {reason} ({self.rule})"
        return Verdict(go_on, why, self.rule, statistic, threshold, number)


def make_race(config: RaceConfig) -> Race | None:
    """The race of a study, if there is one."""
    return None if config.rule == "none" else Race(config.rule, config.alpha)


def mean_auc(case_scores: CaseScores) -> float:
    """The mean AUC of the folds."""
    return math.fsum(fold.auc for fold in case_scores) / len(case_scores)


def interval(case_scores: CaseScores) -> Interval:
    """The mean over the folds with its 95 % interval, from the resamples of the patients."""
    return percentile_interval(mean_auc(case_scores), np.mean([fold.draws for fold in case_scores], axis=0))


def chance_by_bootstrap(challenger: CaseScores, incumbent: CaseScores) -> float:
    """The part of the resamples of the patients in which the challenger's mean over the folds is higher, ties half.

    This is the rule of the bootstrap bias-corrected CV with dropping (Tsamardinos et al. 2018, Sect. 4), with patients
    in the place of cases. 1/2 if no resample has both classes in every fold.
    """
    difference = np.mean([one.draws - other.draws for one, other in zip(challenger, incumbent, strict=False)], 0)
    known = difference[~np.isnan(difference)]
    return float(np.mean((known > 0.0) + 0.5 * (known == 0.0))) if len(known) else 0.5


def chance_by_delong(challenger: CaseScores, incumbent: CaseScores) -> float:
    """The chance that the challenger is better by DeLong's variance of the paired difference; images are cases."""
    pairs = list(zip(challenger, incumbent, strict=False))
    difference = math.fsum(one.auc - other.auc for one, other in pairs)
    variance = sum(
        float(np.var(first - second, ddof=1)) / len(first)
        for one, other in pairs
        for first, second in ((one.positive, other.positive), (one.negative, other.negative))
        if len(first) > 1
    )
    if variance == 0.0:
        return 0.5 * (1.0 + float(np.sign(difference)))
    return float(ndtr(difference / math.sqrt(variance)))


def chance_by_ranks(challenger: CaseScores, incumbent: CaseScores) -> float:
    """The one-sided p of the signed-rank test over folds that the challenger is worse; 1 before 2 folds or if it leads.

    What Optuna's WilcoxonPruner asks. With 3 folds p cannot be below 1/8, so at 0.1 it cannot act before the fourth.
    """
    differences = [one.auc - other.auc for one, other in zip(challenger, incumbent, strict=False)]
    if len(differences) < 2 or not any(differences) or mean_auc(challenger) >= mean_auc(incumbent):
        return 1.0
    from scipy.stats import wilcoxon  # here: processes that train know this module, and it takes a second

    return float(wilcoxon(differences, alternative="less", zero_method="zsplit").pvalue)


Judgement = tuple[float, float, str]
"""The statistic, the threshold and an explanation."""


def _bbcd(challenger: CaseScores, incumbent: CaseScores, alpha: float) -> Judgement:
    chance = chance_by_bootstrap(challenger, incumbent)
    return chance, alpha, f"higher in {chance:.1%} of the resamples of the patients, {alpha:.1%} are needed"


def _delong(challenger: CaseScores, incumbent: CaseScores, alpha: float) -> Judgement:
    chance = chance_by_delong(challenger, incumbent)
    return chance, alpha, f"higher with a chance of {chance:.1%} by DeLong's variance, {alpha:.1%} is needed"


def _wilcoxon(challenger: CaseScores, incumbent: CaseScores, alpha: float) -> Judgement:
    p = chance_by_ranks(challenger, incumbent)
    return p, alpha, f"p = {p:.3f} that it is not worse, by the signs and ranks of the folds, {alpha:g} is needed"


def _forgiving(challenger: CaseScores, incumbent: CaseScores, alpha: float) -> Judgement:
    worst = min(fold.auc for fold in incumbent)
    return mean_auc(challenger), worst - alpha, f"the worst of that trial's {len(incumbent)} folds has {worst:.4f}"


def _aggressive(challenger: CaseScores, incumbent: CaseScores, alpha: float) -> Judgement:
    mean = mean_auc(incumbent)
    return mean_auc(challenger), mean - alpha, f"that trial's {len(incumbent)} folds have {mean:.4f} in the mean"


RULES: dict[str, Callable[[CaseScores, CaseScores, float], Judgement]] = {
    "bbcd": _bbcd,
    "delong": _delong,
    "wilcoxon": _wilcoxon,
    "forgiving": _forgiving,
    "aggressive": _aggressive,
}
"""Name -> statistic, threshold and words. `forgiving` and `aggressive` are the two rules of Bergman, Purucker and
Hutter (AutoML 2024); their alpha is an AUC by which the trial may fall short, 0 in the paper."""
