"""The files of models that are trained after a search: for controls, for nested and for repeated cross-validation.

nested/0007/without-0-3/          the model of trial 7 that has seen neither fold 0 nor fold 3
nested/predictions.parquet        what the inner winners score on their outer folds
nested.json                       what came out; written last
repeats/0007/repeat-1/without-2/  the model of trial 7 that has not seen fold 2 of that assignment
repeats/0007/repeat-1.parquet     the assignment's out-of-fold scores, for predictions.parquet
repeats.json                      what came out; written last
controls/shuffles-0007/1/without-2/   the model of trial 7 on labels shuffled for the second time, without fold 2
controls/leaky-0007/without-2/    the same on folds that are assigned by image
control.json, leakage.json        what came out; written last, and the models are removed then

In each model's folder:

after-9.parquet   what it scores after 9 epochs on the patients it was trained without: `image_id, score`
checkpoint/       its state there, while more epochs may be asked for

A file appears whole, and says what it is of: a model that is done is not trained again, and one of another study is not
taken for it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from diagram_ray.errors import DataError, StoreError, one_line
from diagram_ray.evaluation.metrics import Floats
from diagram_ray.storage.parquet_files import read_table, write_table
from diagram_ray.storage.paths import Place

CONTROLS, CONTROL, LEAKAGE = "controls", "control.json", "leakage.json"
NESTED, NESTED_RESULT, PREDICTIONS = "nested", "nested.json", "predictions.parquet"
REPEATS, REPEATS_RESULT = "repeats", "repeats.json"
CHECKPOINT = "checkpoint"
ABOUT = b"diagram_ray"
"""Key of a file's metadata: the model's identity, and why there are no scores."""


@dataclass(frozen=True)
class HeldOutFile:
    """The content of a file of scores."""

    identity: dict[str, Any]
    """The identity of the model, in plain values."""
    failed: str
    """Reason why there are no scores; empty if there are."""
    image_ids: list[str]
    scores: Floats
    """The scores of the images, in their order."""


def model_folder(parent: Place, without: Sequence[int]) -> Place:
    """The folder of the model that has not seen these folds, ascending."""
    return parent / f"without-{'-'.join(map(str, without))}"


def scores_file(model: Place, epochs: int) -> Place:
    """The file of a model's scores after so many epochs."""
    return model / f"after-{epochs}.parquet"


def write_held_out(
    path: Place, identity: Mapping[str, Any], ids: Sequence[str], scores: Floats, failed: str = ""
) -> None:
    """Writes a model's scores of the images `ids`, or why there are none."""
    about = json.dumps({"identity": dict(identity), "failed": failed})
    table = pa.table({"image_id": pa.array(ids, pa.string()), "score": pa.array(scores, pa.float64())})
    write_table(path, table.replace_schema_metadata({ABOUT: about}))


def read_held_out(path: Place) -> HeldOutFile:
    """Reads what `write_held_out` wrote. Raises DataError."""
    try:
        table = read_table(path)
        about = json.loads(table.schema.metadata[ABOUT])
        scores: Floats = table["score"].to_numpy()
        return HeldOutFile(dict(about["identity"]), str(about["failed"]), table["image_id"].to_pylist(), scores)
    except StoreError:
        raise
    except Exception as error:  # pyarrow raises many kinds at damaged files
        raise DataError(
            f"{path}: cannot be read: {one_line(error)}; remove it, and the model is trained again"
        ) from None
