"""The winner's cross-validation on folds that are dealt anew, once and again.

What it leaves is described in `study.holdout_files`.
"""

import json
from collections.abc import Set
from typing import Any

import numpy as np
import pyarrow as pa

from diagram_ray.config import flatten
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.distributed.after_search.ended_study import Searched
from diagram_ray.distributed.after_search.fold_tasks import Cluster, Order, read_scores, train_all
from diagram_ray.evaluation.metrics import Floats, auc
from diagram_ray.evaluation.predictions import check_predictions
from diagram_ray.search.nested import Failed
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place
from diagram_ray.storage.tables import write_table
from diagram_ray.study.holdout_files import REPEATS_RESULT, model_folder
from diagram_ray.study.tables import repeat_file


def seed_of(seed: int, repeat: int) -> int:
    """Of the folds of a repeat; the first one has the study's own."""
    return int(np.random.SeedSequence([seed, repeat]).generate_state(1)[0]) if repeat else seed


def is_repeated(searched: Searched, winner: int) -> bool:
    """Whether the winner has been repeated as often as the study asks."""
    path, further = searched.folder / REPEATS_RESULT, searched.study.repeats - 1
    if not path.is_file():
        return not further
    found = json.loads(path.read_text(encoding="utf-8"))
    return not further or bool(found["trial"] == winner and len(found["repeats"]) >= further)


def run_repeats(searched: Searched, winner: int, cluster: Cluster) -> dict[str, Any] | None:
    """Trains what is missing of all repeats but the first, and writes repeats.json, which it returns.

    None if it was stopped: what is done is kept. A repeat of which a fold fails is left out and named. Raises
    LeakageError for a study with initial weights that have seen patients whom a fold of a repeat leaves out, and what
    `train_all` raises.
    """
    deals = _deals(searched)
    orders = [
        _order(searched, winner, repeat, deal, fold) for repeat, deal in deals.items() for fold in range(deal.n_folds)
    ]

    def waiting(_: Set[Place]) -> list[Order]:
        return [order for order in orders if not order.file(order.epochs).is_file()]

    data = searched.materials.data
    if not train_all(waiting, deals, data, searched.make, cluster):
        return None
    found = [_repeat(searched, winner, repeat, deal, orders) for repeat, deal in deals.items()]
    good = [value for each in found for value in each.get("fold_auc", [])]
    result = {"trial": winner, "auc_mean": float(np.mean(good)) if good else None, "repeats": found}
    write_atomic(searched.folder / REPEATS_RESULT, json.dumps(result, indent=1))
    return result


def _deals(searched: Searched) -> dict[int, Splits]:
    """The folds of each repeat but the first, checked against the weights that they start with."""
    study, data = searched.study, searched.materials.data
    deals = {r: make_splits(data, study.folds, seed_of(study.seed, r)) for r in range(1, study.repeats)}
    if study.init_from is not None:
        from diagram_ray.training.transfer import read_initial  # PyTorch, which most drivers need not load

        for deal in deals.values():
            read_initial(study.init_from, searched.base, data, deal)
    return deals


def _order(searched: Searched, winner: int, repeat: int, deal: Splits, fold: int) -> Order:
    config, epochs = searched.config(winner), searched.ladder.rungs[-1].epochs
    identity = searched.identity(deal) | flatten(config) | {"without": [fold]}
    table = repeat_file(searched.folder, winner, repeat)
    place = model_folder(table.parent / table.stem, (fold,))
    name = f"trial {winner}, repeat {repeat}, fold {fold}"
    return Order(name, place, config, identity, (fold,), epochs, (epochs,), repeat)


def _repeat(searched: Searched, winner: int, repeat: int, deal: Splits, orders: list[Order]) -> dict[str, Any]:
    """One repeat for repeats.json; writes its predictions, unless a fold failed."""
    data, parts = searched.materials.data, list[tuple[Any, Floats]]()
    told: dict[str, Any] = {"repeat": repeat, "seed": deal.seed}
    for order in (order for order in orders if order.repeat == repeat):
        rows = deal.fold(data, order.without[0]).test_images
        scores = read_scores(order.file(order.epochs), order.identity, data.image_ids[rows].tolist())
        if isinstance(scores, Failed):
            return told | {"failed": f"fold {order.without[0]}: {scores.reason}"}
        parts.append((rows, scores))
    rows, sizes = np.concatenate([rows for rows, _ in parts]), [len(scores) for _, scores in parts]
    table = pa.table(
        {
            "trial": pa.array([winner] * len(rows), pa.int64()),
            "repeat": pa.array([repeat] * len(rows), pa.int32()),
            "fold": pa.array(np.repeat(np.arange(len(parts)), sizes), pa.int32()),
            "image_id": data.image_ids[rows].tolist(),
            "patient_id": data.patient_ids[rows].tolist(),
            "label": data.labels[rows].astype(np.int64),
            "score": np.concatenate([scores for _, scores in parts]),
        }
    )
    check_predictions(table.drop_columns("repeat"), data.image_ids, data.patient_ids)
    write_table(repeat_file(searched.folder, winner, repeat), table)
    return told | {"fold_auc": [auc(data.labels[rows], scores) for rows, scores in parts]}
