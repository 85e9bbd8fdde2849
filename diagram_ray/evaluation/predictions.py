"""The table of out-of-fold predictions, checked: every image exactly once per repeat, or no number is made from it."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError, LeakageError

COLUMNS = ("fold", "image_id", "patient_id", "label", "score")


class FoldPredictions(NamedTuple):
    """What a fold's model scores on the images that it was not trained on."""

    fold: int
    rows: NDArray[np.intp]
    """The indices of the images in the data."""
    scores: NDArray[np.float64]


def predictions_table(data: TrainingData, parts: Sequence[FoldPredictions], **before: Sequence[int]) -> pa.Table:
    """The table `fold, image_id, patient_id, label, score`, one fold after the other, unchecked.

    The columns `before`, for example `trial`, come first, with a value for each of `parts`.
    """
    rows, sizes = np.concatenate([part.rows for part in parts]), [len(part.rows) for part in parts]
    table = pa.table(
        {
            "fold": pa.array(np.repeat([part.fold for part in parts], sizes), pa.int32()),
            "image_id": data.image_ids[rows].tolist(),
            "patient_id": data.patient_ids[rows].tolist(),
            "label": data.labels[rows].astype(np.int64),
            "score": np.concatenate([part.scores for part in parts]),
        }
    )
    for position, (name, values) in enumerate(before.items()):
        kind = pa.int32() if name == "repeat" else pa.int64()
        table = table.add_column(position, name, pa.array(np.repeat(values, sizes), kind))
    return table


def check_predictions(
    table: pa.Table | pd.DataFrame, image_ids: Iterable[str], patient_ids: Iterable[str], repeats: int = 1
) -> None:
    """Checks one trial's predictions against the dataset's images and their patients, which stand in the same order.

    `table` has the columns `fold, image_id, patient_id, label, score`, and `repeat` (0, 1, ...) if `repeats` > 1.
    Raises DataError naming the image that is missing, doubled, unknown, of another patient, of two labels or without
    a finite score, and LeakageError naming a patient who is in two folds of one repeat.
    """
    frame = table.to_pandas() if isinstance(table, pa.Table) else table
    missing = [name for name in COLUMNS if name not in frame]
    if missing:
        raise DataError(f"predictions: column {missing[0]!r} is missing; there are {', '.join(frame.columns)}")
    owners = dict(zip(map(str, image_ids), map(str, patient_ids), strict=True))
    repeat = frame["repeat"].to_numpy() if "repeat" in frame else np.zeros(len(frame), dtype=np.int64)
    unexpected = set(repeat.tolist()) - set(range(repeats))
    if unexpected:
        raise DataError(f"predictions: repeat {min(unexpected)}: expected 0 to {repeats - 1}")
    for number in range(repeats):
        where = f"predictions, repeat {number}" if repeats > 1 else "predictions"
        _check_once(frame[repeat == number], owners, where)
    _check_values(frame, owners)


def _check_once(frame: pd.DataFrame, owners: dict[str, str], where: str) -> None:
    counts = frame["image_id"].value_counts()
    doubled = counts[counts > 1]
    if len(doubled):
        raise DataError(f"{where}: image {doubled.index[0]} is predicted {doubled.iloc[0]} times; expected once")
    unknown = [name for name in counts.index if name not in owners]
    if unknown:
        raise DataError(f"{where}: image {unknown[0]} is not in the dataset")
    absent = [name for name in owners if name not in counts.index]
    if absent:
        raise DataError(
            f"{where}: image {absent[0]} of patient {owners[absent[0]]} has no prediction "
            f"({len(absent)} of {len(owners)} images have none)"
        )
    folds = frame.groupby("patient_id")["fold"].nunique()
    split = folds[folds > 1]
    if len(split):
        raise LeakageError(f"{where}: patient {split.index[0]} is in {split.iloc[0]} folds; expected one")


def _check_values(frame: pd.DataFrame, owners: dict[str, str]) -> None:
    expected = frame["image_id"].map(owners)
    wrong = frame[frame["patient_id"] != expected]
    if len(wrong):
        row = wrong.iloc[0]
        raise DataError(
            f"predictions: image {row['image_id']} stands there with patient {row['patient_id']}; "
            f"in the dataset it is of patient {owners[row['image_id']]}"
        )
    labels = frame.groupby("image_id")["label"].nunique()
    if (labels > 1).any():
        raise DataError(f"predictions: image {labels.index[labels > 1][0]} has {labels.max()} different labels")
    bad = frame[~np.isfinite(frame["score"].to_numpy(dtype=np.float64))]
    if len(bad):
        raise DataError(f"predictions: image {bad.iloc[0]['image_id']} has the score {bad.iloc[0]['score']}")
