"""Checks of a study's folder: what is missing, left over, or says something else than the ledger.

Every finding names its place. One that can be put right from what is there has a `repair`; nothing that only this
folder knows is ever removed or changed: no ledger line, no file of a trial in the ledger.
"""

import re
from bisect import bisect_right, insort
from collections.abc import Iterator
from functools import partial

import pandas as pd

from diagram_ray.doctor.baseline_checks import examine_baselines
from diagram_ray.doctor.differences import Finding, check_auc, check_same, inside, superfluous
from diagram_ray.doctor.holdout_checks import examine_held_out
from diagram_ray.errors import one_line
from diagram_ray.results import Measurement, Trial, TrialState, best_of
from diagram_ray.search.ladder import Ladder, decide_by_rank
from diagram_ray.storage.parquet_files import read_table
from diagram_ray.storage.paths import Place
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.ledger import FILE
from diagram_ray.study.study_folder import leftovers
from diagram_ray.study.tables import Trials, write_tables
from diagram_ray.study.trial_files import MODEL, TrialFiles, read_scores

LEDGER = "the ledger"
"""Name of what a trial's own files are compared with."""


def examine(folder: Place, trials: Trials, study: StudyConfig, ladder: Ladder) -> list[Finding]:
    """Returns all findings of the study in `folder`. `trials` are those of its ledger, and nobody writes meanwhile."""
    parts = (
        _leftovers(folder, trials),
        _trial_files(folder, trials, ladder),
        _figures(folder, trials),
        _decisions(trials, study, ladder),
        _tables(folder, trials),
        examine_held_out(folder, trials, study, ladder),
        examine_baselines(folder),
    )
    return [finding for part in parts for finding in part]


def _leftovers(folder: Place, trials: Trials) -> Iterator[Finding]:
    """Findings of what nobody needs any more: of killed drivers and workers, or of trials that have ended."""
    for path in leftovers(folder):
        yield superfluous(folder, path, "a process that was killed has left it")
    for kind in ("trials", "checkpoints"):
        for path in _matching(folder / kind, "*"):
            trial = trials.get(int(path.name)) if re.fullmatch(r"\d+", path.name) else None
            if trial is None:
                yield superfluous(folder, path, "the ledger knows no such trial")
            elif kind == "checkpoints" and trial.state is not TrialState.RUNNING:
                yield superfluous(folder, path, f"trial {trial.number} has ended: {trial.state}")
    best = best_of(trials)
    for number in trials:
        models = TrialFiles.of(folder, number).models
        if models.exists() and (best is None or number != best.number) and trials[number].state in ENDED:
            yield superfluous(folder, models, "models are kept of the best trial only")


ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


def _matching(folder: Place, pattern: str) -> list[Place]:
    return sorted(folder.glob(pattern), key=str)


def _trial_files(folder: Place, trials: Trials, ladder: Ladder) -> Iterator[Finding]:
    """Files that must be there by what the ledger says."""
    best = best_of(trials)
    for number, trial in sorted(trials.items()):
        files = TrialFiles.of(folder, number)
        needed = [files.scores(rung) for rung in range(len(trial.measurements))]
        needed += [files.curves] if trial.measurements else []
        needed += [files.predictions, files.measurement] if trial.state is TrialState.COMPLETE else []
        needed += [files.models] if best is not None and best.number == number else []
        for path in needed:
            if not path.exists():
                yield Finding(inside(folder, path), f"missing; trial {number} is {_stands(trial, ladder)}")
        if trial.state is TrialState.RUNNING and trial.measurements and not _any(files.checkpoints):
            yield Finding(
                f"checkpoints/{number:04d}", f"missing: trial {number} will be trained anew from its first epoch"
            )


def _stands(trial: Trial, ladder: Ladder) -> str:
    return f"{trial.state} at {ladder.rungs[len(trial.measurements) - 1]}"


def _any(folder: Place) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _figures(folder: Place, trials: Trials) -> Iterator[Finding]:
    """The ledger's AUC of each fold against the curves, and against the out-of-fold scores themselves."""
    for number, trial in sorted(trials.items()):
        files = TrialFiles.of(folder, number)
        try:
            if trial.measurements and files.curves.is_file():
                yield from _curves_agree(trial, read_table(files.curves).to_pandas())
            for rung in range(len(trial.measurements)):
                if files.scores(rung).is_file():
                    read_scores(files.scores(rung))
            if trial.state is TrialState.COMPLETE and files.predictions.is_file():
                yield from _predictions_agree(trial, read_table(files.predictions).to_pandas())
        except Exception as error:  # damaged files raise many kinds
            yield Finding(f"trials/{number:04d}", f"cannot be read: {one_line(error)}")


def _curves_agree(trial: Trial, curves: pd.DataFrame) -> Iterator[Finding]:
    where = f"trials/{trial.number:04d}/curves.parquet"
    if curves.duplicated(["fold", "epoch"]).any():
        yield Finding(where, "has an epoch of a fold twice")
        return
    by_place = curves.set_index(["fold", "epoch"])["auc"].to_dict()
    for measured in trial.measurements:
        for fold, recorded in enumerate(measured.fold_auc):
            curve_auc = by_place.get((fold, measured.epochs))
            if curve_auc is None:
                yield Finding(where, f"has no row for epoch {measured.epochs} of fold {fold}")
            else:
                yield from check_same(where, fold, curve_auc, recorded, LEDGER, _after(measured))


def _predictions_agree(trial: Trial, table: pd.DataFrame) -> Iterator[Finding]:
    where, last = f"trials/{trial.number:04d}/predictions.parquet", trial.measurements[-1]
    if table.duplicated("image_id").any():
        yield Finding(where, f"has image {table.loc[table.duplicated('image_id'), 'image_id'].iloc[0]} twice")
    for fold, recorded in enumerate(last.fold_auc):
        yield from check_auc(where, fold, table[table["fold"] == fold], recorded, LEDGER, _after(last))


def _after(measured: Measurement) -> str:
    return f" after {measured.epochs} epochs"


def _decisions(trials: Trials, study: StudyConfig, ladder: Ladder) -> Iterator[Finding]:
    """Compares the trials that went on with the ladder's rule. Where a race decided too, it may have dropped more."""
    for rung in range(ladder.top):
        scores: list[float] = []  # ascending, of those that a trial is compared with
        seen = 0
        for number, trial in sorted(trials.items()):
            while seen <= number - (study.parallel.lookback or 1):
                if len(trials[seen].measurements) > rung:
                    insort(scores, trials[seen].measurements[rung].auc_mean)
                seen += 1
            if len(trial.measurements) > rung:
                yield from _decision(trial, rung, scores, study, ladder)


def _decision(trial: Trial, rung: int, scores: list[float], study: StudyConfig, ladder: Ladder) -> Iterator[Finding]:
    value, point = trial.measurements[rung].auc_mean, ladder.rungs[rung]
    better = len(scores) - bisect_right(scores, value)
    right = decide_by_rank(point, value, better, len(scores), ladder.reduction)
    went_on = len(trial.measurements) > rung + 1 or trial.state is not TrialState.PRUNED
    raced = study.race.rule != "none" and right.go_on
    if went_on != right.go_on and not raced:
        did = "went on" if went_on else "was pruned"
        yield Finding(FILE, f"trial {trial.number} {did} after {point}; by the rule: {right.why}")


def _tables(folder: Place, trials: Trials) -> Iterator[Finding]:
    """The tables against the ledger that they are made from."""
    again, path = partial(write_tables, folder, trials), folder / "trials.parquet"
    if best_of(trials) is not None:
        for name in ("curves.parquet", "predictions.parquet", "best"):
            if not (folder / name / MODEL if name == "best" else folder / name).exists():
                yield Finding(name, "missing", again)
    try:
        table = read_table(path).to_pandas().set_index("number") if path.is_file() else None
    except Exception as error:  # pandas and pyarrow raise many kinds at damaged files
        yield Finding(path.name, f"cannot be read: {one_line(error)}", again)
        return
    recorded = (
        {}
        if table is None
        else dict(zip(table.index, zip(table["state"], table["auc_mean"], strict=True), strict=True))
    )
    for number, trial in sorted(trials.items()):
        state, value = recorded.get(number, ("missing", float("nan")))
        score = trial.last.auc_mean if trial.last else float("nan")
        if state != trial.state or (value != score and not (pd.isna(value) and pd.isna(score))):
            what = (
                f"trial {number} is {state} with the AUC {value:.4f} there; the ledger says {trial.state}, {score:.4f}"
            )
            yield Finding(path.name, what, again)
            return
