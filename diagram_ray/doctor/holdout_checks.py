"""Checks of controls, nested and repeated cross-validation in a study's folder (`study.holdout_files`).

A model's scores that cannot be read are removed as long as no result rests on them: the model is trained again then. A
result that cannot be read is removed, because it is made anew from the models' scores when the study is resumed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from diagram_ray.doctor.differences import Finding, Repair, check_auc, inside, superfluous
from diagram_ray.errors import DataError, StoreError, one_line
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.ladder import Ladder
from diagram_ray.storage.parquet_files import read_table
from diagram_ray.storage.paths import Place
from diagram_ray.study import holdout_files
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.holdout_files import CHECKPOINT, HeldOutFile, model_folder, read_held_out, scores_file
from diagram_ray.study.nested_plan import candidates
from diagram_ray.study.tables import Trials
from diagram_ray.study.trial_files import TrialFiles

UNKNOWN = "the ledger knows no such trial"
ANEW = "; tune --resume makes it anew from the models' scores"


@dataclass(frozen=True)
class _Context:
    """The study that the files are compared with."""

    folder: Place
    trials: Trials
    study: StudyConfig
    ladder: Ladder

    def trial_of(self, name: str) -> Trial | None:
        """The trial whose folder has this name, if there is one."""
        trial = self.trials.get(int(name)) if re.fullmatch(r"\d{4,9}", name) else None
        return trial if trial is not None and name == f"{trial.number:04d}" else None

    @property
    def top(self) -> int:
        """Epochs of a whole training."""
        return self.ladder.rungs[-1].epochs


def examine_held_out(folder: Place, trials: Trials, study: StudyConfig, ladder: Ladder) -> Iterator[Finding]:
    """Yields all findings in these files. `trials` are those of the study's ledger, and nobody writes meanwhile."""
    context = _Context(folder, trials, study, ladder)
    yield from _nested(context)
    yield from _repeats(context)
    yield from _controls(context)


def _nested(context: _Context) -> Iterator[Finding]:
    path = context.folder / holdout_files.NESTED_RESULT
    recorded = _recorded(path)
    if recorded is None:
        yield Finding(path.name, f"cannot be read{ANEW}", _removal(path))
    expected = candidates(context.study, context.trials, context.study.parallel.lookback or 1)
    done = recorded is not None and recorded.get("candidates") == expected
    for place in _entries(context.folder / holdout_files.NESTED):
        trial = context.trial_of(place.name)
        if trial is not None:
            yield from _models(context, place, trial, 2, path.is_file(), done)
        elif place.name != holdout_files.PREDICTIONS:
            yield superfluous(context.folder, place, UNKNOWN)
    if recorded and "failed" not in recorded:
        yield from _nested_result(context, recorded, _removal(path))


def _repeats(context: _Context) -> Iterator[Finding]:
    path = context.folder / holdout_files.REPEATS_RESULT
    recorded = _recorded(path)
    if recorded is None:
        yield Finding(path.name, f"cannot be read{ANEW}", _removal(path))
    of, assignments = _assignments_of(recorded or {})
    for place in _entries(context.folder / holdout_files.REPEATS):
        trial = context.trial_of(place.name)
        if trial is None:
            yield superfluous(context.folder, place, UNKNOWN)
        else:
            yield from _assignments(context, place, trial, assignments if trial.number == of else {})
    for repeat in assignments:
        table = context.folder / holdout_files.REPEATS / f"{of:04d}" / f"repeat-{repeat}.parquet"
        if not table.is_file():
            yield Finding(inside(context.folder, table), f"missing{ANEW}", _removal(path))


def _assignments(
    context: _Context, place: Place, trial: Trial, recorded: Mapping[int, Sequence[float]]
) -> Iterator[Finding]:
    """Findings in the folder of a trial's repeats."""
    for path in _entries(place):
        match = re.fullmatch(r"repeat-([1-9]\d{0,8})(\.parquet)?", path.name)
        if match is None:
            yield superfluous(context.folder, path, "it belongs to no repeat")
        elif match[2]:
            models = place / f"repeat-{match[1]}"
            yield from _assignment(context, path, models, recorded.get(int(match[1])))
        else:
            rests = (place / f"{path.name}.parquet").is_file()
            yield from _models(context, path, trial, 1, rests, rests)


def _controls(context: _Context) -> Iterator[Finding]:
    """Findings in the models of a control that is not done; they are removed when it is."""
    for place in _entries(context.folder / holdout_files.CONTROLS):
        of = re.fullmatch(r"(shuffles|leaky)-(\d{4,9})", place.name)
        trial = context.trial_of(of[2]) if of else None
        if of is None or trial is None:
            yield superfluous(context.folder, place, UNKNOWN)
            continue
        result = context.folder / (holdout_files.CONTROL if of[1] == "shuffles" else holdout_files.LEAKAGE)
        if result.is_file():
            yield superfluous(context.folder, place, f"{result.name} is written")
            continue
        for models in _entries(place) if of[1] == "shuffles" else [place]:
            yield from _models(context, models, trial, 1, rests=False, done=False)


def _models(context: _Context, place: Place, trial: Trial, most: int, rests: bool, done: bool) -> Iterator[Finding]:
    """Findings in all models of a trial in one folder, each without at most `most` folds. `rests`: a result was made
    from them; `done`: nobody goes on from them."""
    for path in _entries(place):
        match = re.fullmatch(r"without-(\d{1,4})(?:-(\d{1,4}))?", path.name)
        without = tuple(int(fold) for fold in match.groups() if fold is not None) if match else ()
        ordered = sorted({fold for fold in without if fold < context.study.folds})
        if not without or list(without) != ordered or len(without) > most:
            yield superfluous(context.folder, path, "it is the folder of no model")
        else:
            yield from _model(context, path, {**trial.params, "without": list(without)}, rests, done)


def _model(context: _Context, place: Place, identity: Mapping[str, Any], rests: bool, done: bool) -> Iterator[Finding]:
    rungs = {scores_file(place, rung.epochs).name: rung.epochs for rung in context.ladder.rungs}
    for path in _entries(place):
        where = inside(context.folder, path)
        if path.name not in rungs:
            if path.name != CHECKPOINT:
                yield superfluous(context.folder, path, "it has the scores of no rung")
            continue
        try:
            file = read_held_out(path)
        except DataError as error:
            yield Finding(where, str(error).removeprefix(f"{path}: "), None if rests else _removal(path))
            continue
        done = done or bool(file.failed) or rungs[path.name] == context.top
        if wrong := _wrong(file, identity):
            yield Finding(where, wrong)
    if done and (place / CHECKPOINT).exists():
        yield superfluous(context.folder, place / CHECKPOINT, "nobody goes on from it")


def _wrong(file: HeldOutFile, identity: Mapping[str, Any]) -> str:
    """What is wrong with a model's scores that can be read; empty if nothing is."""
    for key, value in identity.items():
        if key not in file.identity or file.identity[key] != value:
            return f"is of another model: {key} is {file.identity.get(key)!r} there; by the ledger it is {value!r}"
    if len(set(file.image_ids)) < len(file.image_ids):
        return "has an image twice"
    return "" if np.isfinite(file.scores).all() else "has scores that are no numbers"


def _nested_result(context: _Context, recorded: Mapping[str, Any], anew: Repair) -> Iterator[Finding]:
    """nested.json against its predictions, and those against the scores of the models that won."""
    path = context.folder / holdout_files.NESTED / holdout_files.PREDICTIONS
    where = inside(context.folder, path)
    try:
        parts, folds = (
            _parts(path),
            [(int(row["fold"]), context.trials[int(row["winner"])], float(row["auc"])) for row in recorded["folds"]],
        )
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        yield Finding(where, f"cannot be read: {one_line(error)}{ANEW}", anew)
        return
    for fold, winner, value in folds:
        rows = parts.get(fold)
        if rows is None or set(rows["trial"]) != {winner.number}:
            named = f"fold {fold} is not of trial {winner.number}"
            yield Finding(where, f"{named}, which {holdout_files.NESTED_RESULT} says has won")
            continue
        yield from check_auc(where, fold, rows, value, holdout_files.NESTED_RESULT)
        if winner.state is TrialState.COMPLETE:
            yield from _has_scores(where, fold, rows, _own_scores(context, winner, fold))
        else:
            models = context.folder / holdout_files.NESTED / f"{winner.number:04d}"
            yield from _rests_on(context, where, fold, rows, model_folder(models, (fold,)))


def _assignment(context: _Context, path: Place, models: Place, recorded: Sequence[float] | None) -> Iterator[Finding]:
    """The out-of-fold scores of a repeat against the models' scores, and against what repeats.json says, if it does."""
    where, result = inside(context.folder, path), context.folder / holdout_files.REPEATS_RESULT
    try:
        parts = _parts(path)
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        repair = _removal(path, result) if recorded is not None else _removal(path)
        yield Finding(where, f"cannot be read: {one_line(error)}{ANEW}", repair)
        return
    for fold in range(context.study.folds):
        rows = parts.get(fold)
        if rows is None:
            yield Finding(where, f"has no fold {fold}")
            continue
        if recorded is not None:
            yield from check_auc(where, fold, rows, recorded[fold], result.name)
        yield from _rests_on(context, where, fold, rows, model_folder(models, (fold,)))


def _parts(path: Place) -> dict[int, pd.DataFrame]:
    """Out-of-fold scores by fold. Raises what pandas and pyarrow raise at a damaged file, and DataError."""
    table: pd.DataFrame = read_table(path).to_pandas()[["trial", "fold", "image_id", "label", "score"]]
    twice = table["image_id"].duplicated()
    if twice.any():
        raise DataError(f"has image {table.loc[twice, 'image_id'].iloc[0]} twice")
    return {int(str(fold)): part for fold, part in table.groupby("fold")}


def _rests_on(context: _Context, where: str, fold: int, rows: pd.DataFrame, model: Place) -> Iterator[Finding]:
    """Compares a fold's scores with those of the model that was trained without it."""
    path = scores_file(model, context.top)
    if not path.is_file():
        yield Finding(inside(context.folder, path), f"missing; fold {fold} of {where} rests on it")
        return
    try:
        file = read_held_out(path)
    except DataError:  # reported already
        return
    yield from _has_scores(where, fold, rows, dict(zip(file.image_ids, file.scores.tolist(), strict=True)))


def _own_scores(context: _Context, trial: Trial, fold: int) -> dict[str, float] | None:
    """The scores of the trial's own model without this fold, by image; None if they cannot be read."""
    path = TrialFiles.of(context.folder, trial.number).predictions
    try:
        table = read_table(path).to_pandas()
        rows = table[table["fold"] == fold]
        return dict(zip(rows["image_id"], rows["score"], strict=True))
    except StoreError:
        raise
    except Exception:  # damaged files raise many kinds
        return None


def _has_scores(where: str, fold: int, rows: pd.DataFrame, model: Mapping[str, float] | None) -> Iterator[Finding]:
    if model is None:
        return
    others = {*model.items()} ^ {*zip(rows["image_id"], rows["score"], strict=True)}
    if others:
        count = len({image for image, _ in others})
        yield Finding(where, f"fold {fold} has other scores of {count} images than the model that they are from")


def _assignments_of(recorded: Mapping[str, Any]) -> tuple[int, dict[int, list[float]]]:
    """repeats.json: the trial, and the AUC of each fold of the repeats that did not fail."""
    good = [repeat for repeat in recorded.get("repeats", []) if "failed" not in repeat]
    return int(recorded.get("trial", 0)), {int(repeat["repeat"]): [*map(float, repeat["fold_auc"])] for repeat in good}


def _recorded(path: Place) -> dict[str, Any] | None:
    """A result: empty if there is none yet, None if it is damaged."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        _assignments_of(recorded)
    except FileNotFoundError:
        return {}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
    return dict(recorded)


def _entries(place: Place) -> list[Place]:
    """What is in a folder. Drafts of processes that were killed are looked for everywhere (`doctor.study_checks`)."""
    places: list[Place] = [*place.iterdir()] if place.is_dir() else []
    return sorted((path for path in places if not path.name.startswith(".")), key=str)


def _removal(*paths: Place) -> Repair:
    return partial(_remove, paths)


def _remove(paths: Sequence[Place]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
