"""Repeated cross-validation of the winner: on folds that are assigned anew, once and again.

What it leaves is described in `study.holdout_files`.
"""

import json
from typing import Any

import numpy as np

from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster, Variant
from diagram_ray.distributed.after_search.winner_cv import WinnerCV, as_row, cross_validate
from diagram_ray.evaluation.predictions import FoldPredictions, check_predictions, predictions_table
from diagram_ray.search.nested import Failed
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.study.holdout_files import REPEATS_RESULT
from diagram_ray.study.tables import repeat_file


def seed_of(seed: int, repeat: int) -> int:
    """The seed of the folds of a repeat; the first one has the study's own."""
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0]) if repeat else seed


def is_repeated(study: EndedStudy, winner: int) -> bool:
    """Whether the winner has been repeated as often as the study asks."""
    path, further = study.folder / REPEATS_RESULT, study.config.repeats - 1
    if not path.is_file():
        return not further
    recorded = json.loads(path.read_text(encoding="utf-8"))
    return not further or bool(recorded["trial"] == winner and len(recorded["repeats"]) >= further)


def run_repeats(study: EndedStudy, winner: int, cluster: Cluster) -> dict[str, Any] | None:
    """Trains what is missing of all repeats but the first, and writes repeats.json, which it returns.

    None if it was stopped: what is done is kept. A repeat of which a fold fails is left out and named. Raises
    LeakageError for a study with initial weights that have seen patients whom a fold of a repeat leaves out, and
    where nothing can be written any more.
    """
    splits = splits_of_repeats(study)
    tables, data = {r: repeat_file(study.folder, winner, r) for r in splits}, study.inputs.data
    runs = [WinnerCV(f"repeat {r}", tables[r].parent / tables[r].stem, Variant(splits[r]), data) for r in splits]
    results = cross_validate(study, winner, runs, cluster)
    if results is None:
        return None
    repeats = [_repeat_row(study, winner, r, run, folds) for r, run, folds in zip(splits, runs, results, strict=True)]
    values = [value for repeat in repeats for value in repeat.get("fold_auc", [])]
    result = {"trial": winner, "auc_mean": float(np.mean(values)) if values else None, "repeats": repeats}
    write_atomic(study.folder / REPEATS_RESULT, json.dumps(result, indent=1))
    return result


def splits_of_repeats(study: EndedStudy) -> dict[int, Splits]:
    """The folds of each repeat but the first, checked against the weights that they start with."""
    config, data = study.config, study.inputs.data
    splits = {r: make_splits(data, config.folds, seed_of(config.seed, r)) for r in range(1, config.repeats)}
    if config.init_from is not None:
        from diagram_ray.training.transfer import read_initial  # PyTorch, which most drivers need not load

        for repeat_splits in splits.values():
            read_initial(config.init_from, study.base, data, repeat_splits)
    return splits


def _repeat_row(
    study: EndedStudy, winner: int, repeat: int, run: WinnerCV, folds: list[FoldPredictions] | Failed
) -> dict[str, Any]:
    """The entry of a repeat in repeats.json; writes its predictions, unless a fold failed."""
    if not isinstance(folds, Failed):
        data = run.data
        table = predictions_table(data, folds, trial=[winner] * len(folds), repeat=[repeat] * len(folds))
        check_predictions(table.drop_columns("repeat"), data.image_ids, data.patient_ids)
        write_table(repeat_file(study.folder, winner, repeat), table)
    return {"repeat": repeat, "seed": run.variant.splits.seed} | as_row(run, folds)
