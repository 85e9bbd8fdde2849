"""One fold of one trial of a study, trained again and held against what the study has recorded."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from diagram_ray.config import override
from diagram_ray.errors import UsageError
from diagram_ray.results import Study, Trial, TrialState
from diagram_ray.storage.paths import Place
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import read_plan, versions
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.device import choose_device
from diagram_ray.training.runs.inputs import load

LEFT_OUT = ("fold", "seconds")
"""Columns of the curves that are no results."""

Report = Callable[[int, int, str], None]
"""(epochs done, epochs, words)"""


@dataclass(frozen=True)
class Reproduction:
    """What training again gave, beside what is recorded."""

    trial: int
    fold: int
    epochs: int
    largest: dict[str, float]
    """Column of the curves, or `score` -> largest absolute difference; infinite where one of the two is missing."""
    first: tuple[int, str] | None
    """Epoch and column of the first difference."""
    other_versions: dict[str, tuple[str, str]]
    """Package -> (then, now), where they are not the same."""
    shared_batches: bool
    """Several workers trained the fold together: their sums have another order."""

    @property
    def same(self) -> bool:
        """Whether training again gave the same numbers to the last bit."""
        return not any(self.largest.values())


def reproduce(folder: Place, number: int, fold: int, device: str, report: Report = lambda *_: None) -> Reproduction:
    """Trains fold `fold` of trial `number` of the study in `folder` for as many epochs as it had, as a worker does.

    The folder is left as it is. Raises UsageError for a trial or fold that the study does not have and for another
    dataset or other initial weights than it was run on, DataError for a damaged folder, Diverged as the trial did.
    """
    plan, trial = read_plan(folder), _trial(folder, number)
    inputs = load(plan)
    if not 0 <= fold < inputs.splits.n_folds:
        raise UsageError(f"--fold {fold}: the folds of {folder} are 0 to {inputs.splits.n_folds - 1}")
    before = _recorded(Study.load(folder).curves, number, fold)
    torch.set_num_threads(1)  # as the workers: sums over several threads have another order
    config = override(fit_to_data(plan.base, inputs.data), trial.params, f"trial {number}")
    chosen = choose_device(device)
    validation = CrossValidation(config, inputs.data, inputs.splits, chosen, initial=inputs.initial)
    rows, epochs = [], len(before)
    for row in validation.advance_fold(fold, epochs):
        rows.append(row)
        report(row["epoch"], epochs, f"AUC {row['auc']:.3f}")
    study, curves = Study.load(folder), pd.DataFrame(rows).set_index("epoch")
    largest, first = _compare(before, curves)
    if trial.state is TrialState.COMPLETE:
        images = inputs.data.image_ids[inputs.splits.fold(inputs.data, fold).test_images]
        largest["score"] = _scores_differ(study, trial, fold, pd.Series(validation.fold_scores(fold), images))
    scaling = plan.study.scaling
    shared = scaling.workers > (plan.study.folds if scaling.folds_at_once == "auto" else scaling.folds_at_once)
    return Reproduction(number, fold, epochs, largest, first, _other_versions(study), shared)


def _trial(folder: Place, number: int) -> Trial:
    trials = read_ledger(folder)
    if number not in trials:
        raise UsageError(f"--trial {number}: {folder} has the trials 0 to {max(trials, default=-1)}")
    return trials[number]


def _recorded(curves: pd.DataFrame, trial: int, fold: int) -> pd.DataFrame:
    """The curve by epoch. Raises UsageError if the fold was never trained."""
    mine = curves[(curves["trial"] == trial) & (curves["fold"] == fold)]
    if mine.empty:
        raise UsageError(f"--trial {trial} --fold {fold}: no epoch of it is recorded, so there is nothing to reproduce")
    return mine.set_index("epoch").sort_index()


def _compare(before: pd.DataFrame, now: pd.DataFrame) -> tuple[dict[str, float], tuple[int, str] | None]:
    """Largest difference of each column; epoch and column of the first one. Missing in both is no difference.

    Of a column that is missing altogether nothing was measured: the study is of an older version.
    """
    columns = [name for name in now.columns if name not in LEFT_OUT and name in before]
    one, two = (frame.reindex(columns=columns).astype(float) for frame in (before, now))
    distance = (one - two).abs().mask(one.isna() & two.isna(), 0.0).fillna(np.inf)
    places = [(int(epoch), name) for epoch in distance.index for name in columns if distance.loc[epoch, name] > 0.0]
    return {str(name): float(value) for name, value in distance.max().items()}, min(places, default=None)


def _scores_differ(study: Study, trial: Trial, fold: int, scores: "pd.Series[float]") -> float:
    """Largest difference of the out-of-fold scores; infinite if they are of other images."""
    table = study.predictions
    first = table[(table["trial"] == trial.number) & (table["repeat"] == 0)]
    mine = first[first["fold"] == fold].set_index("image_id")["score"]
    if set(mine.index) != set(scores.index):
        return float("inf")
    return float((mine - scores).abs().max())


def _other_versions(study: Study) -> dict[str, tuple[str, str]]:
    before, now = dict(study.document.get("versions") or {}), versions()
    return {name: (str(before.get(name)), now[name]) for name in now if before.get(name) != now[name]}
