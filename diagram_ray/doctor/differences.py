"""Findings of an examination of a study's folder: where, what, and what would put it right."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pandas as pd

from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.storage.paths import Place, discard

Repair = Callable[[], object]
CLOSE = 1e-9
"""AUCs that differ by less are the same: they are computed in two ways."""


@dataclass(frozen=True)
class Finding:
    """A fault in a study's folder."""

    where: str
    what: str
    repair: Repair | None = None
    """Function that puts it right; None: it cannot be put right from what is there."""


def inside(folder: Place, path: Place) -> str:
    """The path in the study's folder, as findings name it."""
    return str(path).removeprefix(f"{folder}/")


def superfluous(folder: Place, path: Place, why: str) -> Finding:
    """The finding that a file or folder is to be removed."""
    return Finding(inside(folder, path), f"left over: {why}", partial(discard, path))


def check_auc(where: str, fold: int, rows: pd.DataFrame, recorded: float, by: str, when: str = "") -> Iterator[Finding]:
    """Whether the scores of a fold's images, which are at `where`, have the AUC that `by` says."""
    try:
        computed = auc(rows["label"].to_numpy(), rows["score"].to_numpy())
    except DataError as error:
        yield Finding(where, f"fold {fold}: {error}")
        return
    yield from check_same(where, fold, computed, recorded, by, when)


def check_same(where: str, fold: int, computed: float, recorded: float, by: str, when: str = "") -> Iterator[Finding]:
    """Whether a fold's AUC is the one that `by` says."""
    if abs(computed - recorded) > CLOSE:
        yield Finding(where, f"fold {fold} has the AUC {computed:.6f}{when}; {by} says {recorded:.6f}")
