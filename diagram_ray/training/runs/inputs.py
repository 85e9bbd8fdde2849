"""What a study is run on: the data, its folds, and the weights that its trials start with."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from diagram_ray.data.parquet.layout import read_info, read_manifest, read_sides
from diagram_ray.data.parquet.memory_map import open_training_data
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import UsageError
from diagram_ray.storage.paths import Place
from diagram_ray.study.study_folder import DOCUMENT, Plan
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.yaml_text import read_yaml

if TYPE_CHECKING:
    from diagram_ray.training.transfer import InitialWeights

SPLITS = "splits.json"


@dataclass(frozen=True)
class StudyInputs:
    """What a study is run on."""

    data: TrainingData
    splits: Splits
    info: dict[str, Any]
    """dataset.json"""
    initial: "InitialWeights | None" = None
    """Weights that the trials start with."""
    sides: pa.Table | None = None
    """image_id and laterality of the images; None leaves it unrecorded."""
    manifest: pd.DataFrame | None = None
    """What is known of the images' files; None: nothing."""


def load(plan: Plan) -> StudyInputs:
    """Data, folds and initial weights; nothing is written.

    Raises DataError, UsageError if a study is resumed on other data or weights, and what `read_initial` raises.
    """
    info = read_info(plan.data)
    if plan.resume and plan.out is not None:
        _check_same(plan.out, info)
    data = open_training_data(plan.data, plan.base.data, plan.study.pixels)
    if plan.resume and plan.out is not None:
        path = plan.out / SPLITS
        splits = Splits.from_json(path.read_text(encoding="utf-8"), str(path))
    else:
        splits = make_splits(data, plan.study.folds, plan.study.seed)
    initial = None
    if plan.study.init_from is not None:
        from diagram_ray.training.transfer import read_initial  # PyTorch, which most drivers need not load

        initial = read_initial(plan.study.init_from, fit_to_data(plan.base, data), data, splits)
        if plan.resume and plan.out is not None:
            _check_same_weights(plan.out, initial)
    sides, manifest = read_sides(plan.data, data.image_ids), read_manifest(plan.data)
    return StudyInputs(data, splits, info, initial, sides, manifest)


def _check_same(folder: Place, info: dict[str, Any]) -> None:
    before = read_yaml(folder / DOCUMENT)["dataset"].get("fingerprint")
    if before != info["fingerprint"]:
        raise UsageError(
            f"{folder}: was run on the dataset with the fingerprint {before}; this one has {info['fingerprint']}"
        )


def _check_same_weights(folder: Place, initial: "InitialWeights") -> None:
    before = (read_yaml(folder / DOCUMENT).get("init_from") or {}).get("weights")
    if before != initial.digest:
        raise UsageError(
            f"{folder}: its trials started with weights of {initial.source} with the SHA-256 {before}; they are now "
            f"others: {initial.digest}"
        )
