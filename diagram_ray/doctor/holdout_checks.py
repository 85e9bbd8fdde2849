"""What is wrong with controls, nested and repeated cross-validation in a study's folder (`study.holdout_files`).

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

from diagram_ray.doctor.findings import Finding, Repair, check_auc, inside, superfluous
from diagram_ray.errors import DataError, StoreError, one_line
from diagram_ray.results import Trial, TrialState
from diagram_ray.search.ladder import Ladder
from diagram_ray.storage.paths import Place
from diagram_ray.storage.tables import read_table
from diagram_ray.study import holdout_files
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.holdout_files import CHECKPOINT, HeldOutFile, model_folder, read_held_out, scores_file
from diagram_ray.study.nested_plan import candidates
from diagram_ray.study.tables import Trials
from diagram_ray.study.trial_files import TrialFiles

UNKNOWN = "the ledger knows no such trial"
ANEW = "; tune --resume makes it anew from the models' scores"


@dataclass(frozen=True)
class _Known:
    """What the files are judged by."""

    folder: Place
    trials: Trials
    study: StudyConfig
    ladder: Ladder

    def trial_of(self, name: str) -> Trial | None:
        """Whose folder has this name."""
        trial = self.trials.get(int(name)) if re.fullmatch(r"\d{4,9}", name) else None
        return trial if trial is not None and name == f"{trial.number:04d}" else None

    @property
    def top(self) -> int:
        """Epochs of a whole training."""
        return self.ladder.rungs[-1].epochs


def examine_held_out(folder: Place, trials: Trials, study: StudyConfig, ladder: Ladder) -> Iterator[Finding]:
    """All findings of these kinds. `trials` are those of the study's ledger, and nobody writes meanwhile."""
    known = _Known(folder, trials, study, ladder)
    yield from _nested(known)
    yield from _repeats(known)
    yield from _controls(known)


def _nested(known: _Known) -> Iterator[Finding]:
    path = known.folder / holdout_files.NESTED_RESULT
    recorded = _recorded(path)
    if recorded is None:
        yield Finding(path.name, f"cannot be read{ANEW}", _removal(path))
    mine = candidates(known.study, known.trials, known.study.parallel.lookback or 1)
    done = recorded is not None and recorded.get("candidates") == mine
    for place in _entries(known.folder / holdout_files.NESTED):
        trial = known.trial_of(place.name)
        if trial is not None:
            yield from _models(known, place, trial, 2, path.is_file(), done)
        elif place.name != holdout_files.PREDICTIONS:
            yield superfluous(known.folder, place, UNKNOWN)
    if recorded and "failed" not in recorded:
        yield from _nested_result(known, recorded, _removal(path))


def _repeats(known: _Known) -> Iterator[Finding]:
    path = known.folder / holdout_files.REPEATS_RESULT
    recorded = _recorded(path)
    if recorded is None:
        yield Finding(path.name, f"cannot be read{ANEW}", _removal(path))
    of, assignments = _assignments_of(recorded or {})
    for place in _entries(known.folder / holdout_files.REPEATS):
        trial = known.trial_of(place.name)
        if trial is None:
            yield superfluous(known.folder, place, UNKNOWN)
        else:
            yield from _assignments(known, place, trial, assignments if trial.number == of else {})
    for repeat in assignments:
        table = known.folder / holdout_files.REPEATS / f"{of:04d}" / f"repeat-{repeat}.parquet"
        if not table.is_file():
            yield Finding(inside(known.folder, table), f"missing{ANEW}", _removal(path))


def _assignments(
    known: _Known, place: Place, trial: Trial, recorded: Mapping[int, Sequence[float]]
) -> Iterator[Finding]:
    """All that is in the folder of a trial's repeats."""
    for path in _entries(place):
        found = re.fullmatch(r"repeat-([1-9]\d{0,8})(\.parquet)?", path.name)
        if found is None:
            yield superfluous(known.folder, path, "it belongs to no repeat")
        elif found[2]:
            models = place / f"repeat-{found[1]}"
            yield from _assignment(known, path, models, recorded.get(int(found[1])))
        else:
            rests = (place / f"{path.name}.parquet").is_file()
            yield from _models(known, path, trial, 1, rests, rests)


def _controls(known: _Known) -> Iterator[Finding]:
    """The models of a control that is not done; they are removed when it is."""
    for place in _entries(known.folder / holdout_files.CONTROLS):
        of = re.fullmatch(r"(shuffles|leaky)-(\d{4,9})", place.name)
        trial = known.trial_of(of[2]) if of else None
        if of is None or trial is None:
            yield superfluous(known.folder, place, UNKNOWN)
            continue
        result = known.folder / (holdout_files.CONTROL if of[1] == "shuffles" else holdout_files.LEAKAGE)
        if result.is_file():
            yield superfluous(known.folder, place, f"{result.name} is written")
            continue
        for models in _entries(place) if of[1] == "shuffles" else [place]:
            yield from _models(known, models, trial, 1, rests=False, done=False)


def _models(known: _Known, place: Place, trial: Trial, most: int, rests: bool, done: bool) -> Iterator[Finding]:
    """All models of a trial in one folder, each without at most `most` folds. `rests`: a result was made from them;
    `done`: nobody goes on from them."""
    for path in _entries(place):
        found = re.fullmatch(r"without-(\d{1,4})(?:-(\d{1,4}))?", path.name)
        without = tuple(int(fold) for fold in found.groups() if fold is not None) if found else ()
        ordered = sorted({fold for fold in without if fold < known.study.folds})
        if not without or list(without) != ordered or len(without) > most:
            yield superfluous(known.folder, path, "it is the folder of no model")
        else:
            yield from _model(known, path, {**trial.params, "without": list(without)}, rests, done)


def _model(known: _Known, place: Place, identity: Mapping[str, Any], rests: bool, done: bool) -> Iterator[Finding]:
    rungs = {scores_file(place, rung.epochs).name: rung.epochs for rung in known.ladder.rungs}
    for path in _entries(place):
        where = inside(known.folder, path)
        if path.name not in rungs:
            if path.name != CHECKPOINT:
                yield superfluous(known.folder, path, "it has the scores of no rung")
            continue
        try:
            cell = read_held_out(path)
        except DataError as error:
            yield Finding(where, str(error).removeprefix(f"{path}: "), None if rests else _removal(path))
            continue
        done = done or bool(cell.failed) or rungs[path.name] == known.top
        if wrong := _wrong(cell, identity):
            yield Finding(where, wrong)
    if done and (place / CHECKPOINT).exists():
        yield superfluous(known.folder, place / CHECKPOINT, "nobody goes on from it")


def _wrong(cell: HeldOutFile, identity: Mapping[str, Any]) -> str:
    """What is wrong with a model's scores that can be read; empty if nothing is."""
    for key, value in identity.items():
        if key not in cell.identity or cell.identity[key] != value:
            return f"is of another model: {key} is {cell.identity.get(key)!r} there; by the ledger it is {value!r}"
    if len(set(cell.image_ids)) < len(cell.image_ids):
        return "has an image twice"
    return "" if np.isfinite(cell.scores).all() else "has scores that are no numbers"


def _nested_result(known: _Known, recorded: Mapping[str, Any], anew: Repair) -> Iterator[Finding]:
    """nested.json against its predictions, and those against the scores of the models that won."""
    path = known.folder / holdout_files.NESTED / holdout_files.PREDICTIONS
    where = inside(known.folder, path)
    try:
        parts, folds = (
            _parts(path),
            [(int(each["fold"]), known.trials[int(each["winner"])], float(each["auc"])) for each in recorded["folds"]],
        )
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        yield Finding(where, f"cannot be read: {one_line(error)}{ANEW}", anew)
        return
    for fold, winner, value in folds:
        mine = parts.get(fold)
        if mine is None or set(mine["trial"]) != {winner.number}:
            named = f"fold {fold} is not of trial {winner.number}"
            yield Finding(where, f"{named}, which {holdout_files.NESTED_RESULT} says has won")
            continue
        yield from check_auc(where, fold, mine, value, holdout_files.NESTED_RESULT)
        if winner.state is TrialState.COMPLETE:
            yield from _has_scores(where, fold, mine, _own_scores(known, winner, fold))
        else:
            models = known.folder / holdout_files.NESTED / f"{winner.number:04d}"
            yield from _rests_on(known, where, fold, mine, model_folder(models, (fold,)))


def _assignment(known: _Known, path: Place, models: Place, recorded: Sequence[float] | None) -> Iterator[Finding]:
    """The out-of-fold scores of a repeat against the models' scores, and against what repeats.json says, if it does."""
    where, result = inside(known.folder, path), known.folder / holdout_files.REPEATS_RESULT
    try:
        parts = _parts(path)
    except StoreError:
        raise
    except Exception as error:  # damaged files raise many kinds
        repair = _removal(path, result) if recorded is not None else _removal(path)
        yield Finding(where, f"cannot be read: {one_line(error)}{ANEW}", repair)
        return
    for fold in range(known.study.folds):
        mine = parts.get(fold)
        if mine is None:
            yield Finding(where, f"has no fold {fold}")
            continue
        if recorded is not None:
            yield from check_auc(where, fold, mine, recorded[fold], result.name)
        yield from _rests_on(known, where, fold, mine, model_folder(models, (fold,)))


def _parts(path: Place) -> dict[int, pd.DataFrame]:
    """Out-of-fold scores by fold. Raises what pandas and pyarrow raise at a damaged file, and DataError."""
    table: pd.DataFrame = read_table(path).to_pandas()[["trial", "fold", "image_id", "label", "score"]]
    twice = table["image_id"].duplicated()
    if twice.any():
        raise DataError(f"has image {table.loc[twice, 'image_id'].iloc[0]} twice")
    return {int(str(fold)): part for fold, part in table.groupby("fold")}


def _rests_on(known: _Known, where: str, fold: int, mine: pd.DataFrame, model: Place) -> Iterator[Finding]:
    """Whether a fold's scores are those of the model that was trained without it."""
    path = scores_file(model, known.top)
    if not path.is_file():
        yield Finding(inside(known.folder, path), f"missing; fold {fold} of {where} rests on it")
        return
    try:
        cell = read_held_out(path)
    except DataError:  # told of already
        return
    yield from _has_scores(where, fold, mine, dict(zip(cell.image_ids, cell.scores.tolist(), strict=True)))


def _own_scores(known: _Known, trial: Trial, fold: int) -> dict[str, float] | None:
    """Of the trial's own model without this fold; None if that cannot be read, which is told of where it belongs."""
    path = TrialFiles.of(known.folder, trial.number).predictions
    try:
        table = read_table(path).to_pandas()
        mine = table[table["fold"] == fold]
        return dict(zip(mine["image_id"], mine["score"], strict=True))
    except StoreError:
        raise
    except Exception:  # damaged files raise many kinds
        return None


def _has_scores(where: str, fold: int, mine: pd.DataFrame, model: Mapping[str, float] | None) -> Iterator[Finding]:
    if model is None:
        return
    others = {*model.items()} ^ {*zip(mine["image_id"], mine["score"], strict=True)}
    if others:
        count = len({image for image, _ in others})
        yield Finding(where, f"fold {fold} has other scores of {count} images than the model that they are from")


def _assignments_of(recorded: Mapping[str, Any]) -> tuple[int, dict[int, list[float]]]:
    """repeats.json: the trial, and the AUC of each fold of the repeats that did not fail."""
    good = [each for each in recorded.get("repeats", []) if "failed" not in each]
    return int(recorded.get("trial", 0)), {int(each["repeat"]): [*map(float, each["fold_auc"])] for each in good}


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
    found: list[Place] = [*place.iterdir()] if place.is_dir() else []
    return sorted((path for path in found if not path.name.startswith(".")), key=str)


def _removal(*paths: Place) -> Repair:
    return partial(_remove, paths)


def _remove(paths: Sequence[Place]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
