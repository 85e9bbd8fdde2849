"""Out-of-fold scores of several trials as arrays, ready for resampling by patient."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import Floats


@dataclass(frozen=True)
class OutOfFold:
    """C trials' scores of the same N predictions (an image once per repeat).

    Positions, not names, stand for patients and folds; a fold of another repeat is another fold.
    """

    trials: tuple[int, ...]
    """The trial numbers (C,), ascending."""
    scores: Floats
    """The scores, (C, N)."""
    labels: NDArray[np.int64]
    """The labels (N,), 0 or 1."""
    folds: NDArray[np.int64]
    """The fold of each image, (N,): 0..F-1."""
    patients: NDArray[np.int64]
    """The patient of each image, (N,): 0..P-1."""

    @property
    def n_patients(self) -> int:
        """The number of patients P."""
        return int(self.patients.max()) + 1

    def rows(self) -> list[NDArray[np.intp]]:
        """The positions of each fold's predictions."""
        return [np.flatnonzero(self.folds == fold) for fold in range(int(self.folds.max()) + 1)]

    def strata(self) -> list[NDArray[np.int64]]:
        """Patients that are exchanged with each other in a resample: those of one fold (of the first repeat)."""
        first = {int(p): int(f) for p, f in zip(self.patients[::-1], self.folds[::-1], strict=True)}
        fold = np.array([first[p] for p in range(self.n_patients)])
        return [np.flatnonzero(fold == f) for f in np.unique(fold)]

    def only(self, trial: int) -> "OutOfFold":
        """The predictions of one trial."""
        chosen = self.scores[[self.trials.index(trial)]]
        return OutOfFold((trial,), chosen, self.labels, self.folds, self.patients)

    def followed_by(self, other: "OutOfFold") -> "OutOfFold":
        """The trials of both, those of `other` under further numbers; it has scores of the same predictions."""
        further = range(self.trials[-1] + 1, self.trials[-1] + 1 + len(other.trials))
        scores = np.vstack([self.scores, other.scores])
        return OutOfFold((*self.trials, *further), scores, self.labels, self.folds, self.patients)


def out_of_fold(predictions: pd.DataFrame) -> OutOfFold:
    """The out-of-fold scores in the study's table `trial, repeat, fold, image_id, patient_id, label, score`.

    Raises DataError if a trial lacks an image that another one has, has it twice, or in another fold.
    """
    if predictions.empty:
        raise DataError("predictions: the table is empty")
    keys = ["repeat", "image_id"]
    ordered = predictions.sort_values(["trial", *keys], kind="stable")
    blocks = [block for _, block in ordered.groupby("trial")]
    first = blocks[0]
    for block in blocks:
        if len(block) != len(first) or any(
            (block[name].to_numpy() != first[name].to_numpy()).any() for name in [*keys, "fold", "patient_id", "label"]
        ):
            raise DataError(
                f"predictions: trial {block['trial'].iloc[0]} was not measured on the images and folds of trial "
                f"{first['trial'].iloc[0]}"
            )
    if first.duplicated(keys).any():
        raise DataError(f"predictions: image {first[first.duplicated(keys)].iloc[0]['image_id']} is predicted twice")
    folds = first.groupby(["repeat", "fold"]).ngroup().to_numpy().astype(np.int64)
    patients = pd.factorize(first["patient_id"])[0].astype(np.int64)
    scores = ordered["score"].to_numpy(dtype=np.float64).reshape(len(blocks), len(first))
    labels = first["label"].to_numpy(dtype=np.int64)
    return OutOfFold(tuple(int(block["trial"].iloc[0]) for block in blocks), scores, labels, folds, patients)
