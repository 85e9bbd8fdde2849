"""The nouns of a search, and the study folder: written and read back without Ray, Optuna or torch.

study.yaml            the resolved configuration as run, versions, the dataset and its fingerprint
splits.json           fold of each patient
images.parquet        laterality of each image
ledger.jsonl          what happened, in order: the truth from which the rest is made (in an object store: ledger/)
trials.parquet        one row a trial
curves.parquet        one row a (trial, fold, epoch)
predictions.parquet   one row a (trial, repeat, fold, image): out-of-fold scores of the complete trials
control.json          the winner's configuration on labels shuffled by patient
baselines.json        what trivial features alone reach on the study's folds, or why that was not measured
baselines.parquet     one row a (group of features, image): out-of-fold scores
reference.json        the same of a reference network, where its weights are installed
reference.parquet     its out-of-fold scores
leakage.json          the same with folds assigned by image, if asked for
repeats.json          the winner on folds assigned anew, if asked for; its scores stand in predictions.parquet
nested.json           the search made again without each fold, if asked for
nested/               its models' scores, and predictions.parquet: of each fold's images by that fold's own winner
optuna.journal        the trials for Optuna's own tools
best/                 config.yaml and fold-K.safetensors of the winner
report.html           self-contained
"""

import io
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import yaml

from diagram_ray.errors import DataError, StoreError, one_line
from diagram_ray.storage.paths import Place, reached

AUC = "auc"
"""The objective that every study has."""
BASELINES, BASELINE_SCORES = "baselines.json", "baselines.parquet"
REFERENCE, REFERENCE_SCORES = "reference.json", "reference.parquet"


class TrialState(StrEnum):
    """How a trial ended; RUNNING while it has not."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Measurement:
    """What one configuration scored on its first `folds` folds after `epochs` epochs each."""

    folds: int
    epochs: int
    fold_auc: tuple[float, ...]
    fold_accuracy: tuple[float, ...]
    seconds: float
    """Seconds that the trial has taken so far."""
    worker_seconds: float | None = None
    """The trial's seconds, added up over all the workers it has had; None: one worker."""
    training_auc: float | None = None
    """Mean over the folds of the AUC on some of their own training images; None where it was not measured."""

    @property
    def auc_mean(self) -> float:
        """The mean of the folds' AUC."""
        return statistics.fmean(self.fold_auc)

    @property
    def auc_sd(self) -> float:
        """Standard deviation (n - 1) of the folds' AUC; 0 for one fold."""
        return statistics.stdev(self.fold_auc) if len(self.fold_auc) > 1 else 0.0

    @property
    def accuracy_mean(self) -> float:
        """Mean of the folds' accuracy at the threshold 0.5."""
        return statistics.fmean(self.fold_accuracy)


@dataclass(frozen=True)
class Trial:
    """One configuration of the search with all its folds."""

    number: int
    params: dict[str, Any]
    state: TrialState = TrialState.RUNNING
    reason: str = ""
    measurements: tuple[Measurement, ...] = ()
    """The measurements, one for each rung reached, in order."""
    sizes: dict[str, float] = field(default_factory=dict)
    """The sizes of the model, where the study has bounds or objectives on them (search/constraints.py)."""

    @property
    def last(self) -> Measurement | None:
        """The measurement of the highest rung reached."""
        return self.measurements[-1] if self.measurements else None


class Study:
    """A study folder, read back. Tables are pandas data frames, loaded when first asked for."""

    def __init__(self, path: Place) -> None:
        self.path = path

    @classmethod
    def load(cls, path: str | Place) -> "Study":
        """The study in `path`, a folder or a URI. Raises DataError if there is none."""
        folder = reached(path)
        if not (folder / "study.yaml").is_file():
            raise DataError(f"{folder}: not a study: it has no study.yaml")
        return cls(folder)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The content of study.yaml: `study`, `dataset`, `classes`, `versions`, `command`, `started`."""
        try:
            document = yaml.safe_load((self.path / "study.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise DataError(f"{self.path / 'study.yaml'}: cannot be read: {one_line(error)}") from None
        if not isinstance(document, dict):
            raise DataError(f"{self.path / 'study.yaml'}: expected a mapping")
        return document

    @cached_property
    def splits(self) -> dict[str, Any]:
        """The content of splits.json: `n_folds`, `seed`, `fingerprint`, `patients` (patient id -> fold)."""
        return self._json("splits.json")

    @cached_property
    def control(self) -> dict[str, Any] | None:
        """The content of control.json: `auc_mean`, `shuffles` (each with `seed` and `fold_auc`); None if the study ran
        no control."""
        return self._json("control.json") if (self.path / "control.json").is_file() else None

    @cached_property
    def baselines(self) -> dict[str, Any] | None:
        """The content of baselines.json: `groups` (each with `name`, `kind`, `note`, `auc_mean` and `fold_auc`),
        `absent` (groups that nothing is known of, or that are the same for all images), `unmeasured` (why there are
        none; empty if there are), `seconds`; None if the study did not come to measure them."""
        return self._json(BASELINES) if (self.path / BASELINES).is_file() else None

    @cached_property
    def baseline_predictions(self) -> pd.DataFrame:
        """Out-of-fold scores of trivial features: `group, fold, image_id, patient_id, label, score`."""
        return self._table(BASELINE_SCORES)

    @cached_property
    def reference(self) -> dict[str, Any] | None:
        """The content of reference.json: as `baselines`, with one group, a network that learnt from other images; None
        if it was not measured."""
        return self._json(REFERENCE) if (self.path / REFERENCE).is_file() else None

    @cached_property
    def reference_predictions(self) -> pd.DataFrame:
        """The reference network's out-of-fold scores, with the columns of `baseline_predictions`."""
        return self._table(REFERENCE_SCORES)

    @cached_property
    def leakage(self) -> dict[str, Any] | None:
        """The content of leakage.json: `auc_mean`, `fold_auc` with folds assigned by image; None if the study did not
        ask for it."""
        return self._json("leakage.json") if (self.path / "leakage.json").is_file() else None

    @cached_property
    def repeats(self) -> dict[str, Any] | None:
        """The content of repeats.json: `trial`, `repeats` (each with `repeat`, `seed` and `fold_auc` or `failed`); None
        without it."""
        return self._json("repeats.json") if (self.path / "repeats.json").is_file() else None

    @cached_property
    def nested(self) -> dict[str, Any] | None:
        """The content of nested.json: `candidates`, `fold_epochs`, and `folds` (`fold`, `winner`, `inner_auc`, `auc`)
        or `failed`; None if the study ran no nested cross-validation."""
        return self._json("nested.json") if (self.path / "nested.json").is_file() else None

    @cached_property
    def nested_predictions(self) -> pd.DataFrame:
        """The scores of nested cross-validation, `trial, fold, image_id, patient_id, label, score`: every image as its
        outer fold's winner scored it."""
        return self._table("nested/predictions.parquet")

    @cached_property
    def trials(self) -> pd.DataFrame:
        """The trials, one row each, ordered by number."""
        return self._table("trials.parquet")

    @cached_property
    def curves(self) -> pd.DataFrame:
        """The curves, one row for each (trial, fold, epoch): `loss_*`, `training_auc`, `auc`, `accuracy`, `seconds`.

        `auc` is on the test images, `training_auc` on some of the training images; older studies do not have that.
        """
        return self._table("curves.parquet")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """Out-of-fold scores: `trial, repeat, fold, image_id, patient_id, label, score`."""
        return self._table("predictions.parquet")

    @cached_property
    def images(self) -> pd.DataFrame | None:
        """The images' `image_id, laterality` ("L", "R" or missing); None for a study that did not record it."""
        return self._table("images.parquet") if (self.path / "images.parquet").is_file() else None

    @cached_property
    def best(self) -> "pd.Series[Any]":
        """The row of the complete trial with the highest mean AUC, the earliest of equals. Raises DataError if none."""
        complete = self.trials[self.trials["state"] == TrialState.COMPLETE]
        if complete.empty:
            raise DataError(f"{self.path}: no trial is complete, so there is no best one")
        return complete.sort_values(["auc_mean", "number"], ascending=[False, True]).iloc[0]

    @cached_property
    def objectives(self) -> list[str]:
        """What the study optimises: `auc`, and the sizes that are to be small."""
        study = self.document.get("study")
        names = study.get("objectives") if isinstance(study, dict) else None
        return [str(name) for name in names] if isinstance(names, list) and names else [AUC]

    @cached_property
    def pareto(self) -> pd.DataFrame:
        """The complete trials than which no other is as good in all objectives and better in one; by AUC, best first.

        Of a study with one objective: the best trial, and those that equal it. Raises DataError if no trial is
        complete, or a size is missing.
        """
        complete = self.trials.loc[self.trials["state"] == TrialState.COMPLETE]
        if complete.empty:
            raise DataError(f"{self.path}: no trial is complete, so there is no Pareto front")
        columns = ["auc_mean" if name == AUC else name for name in self.objectives]
        if missing := [name for name in columns if name not in complete]:
            raise DataError(f"{self.path / 'trials.parquet'}: column {missing[0]!r} is missing")
        costs = complete[columns].to_numpy(dtype=float) * [-1.0 if name == AUC else 1.0 for name in self.objectives]
        beaten = [bool(np.any(np.all(costs <= row, axis=1) & np.any(costs < row, axis=1))) for row in costs]
        return complete.loc[~np.array(beaten)].sort_values(["auc_mean", "number"], ascending=[False, True])

    def _table(self, name: str) -> pd.DataFrame:
        path = self.path / name
        if not path.is_file():
            raise DataError(
                f"{path}: no such table; if the study was cut off, tune --resume {self.path} goes on with it"
            )
        try:
            return pd.read_parquet(io.BytesIO(path.read_bytes()))
        except StoreError:
            raise
        except Exception as error:  # pandas and pyarrow raise many kinds at damaged files
            raise DataError(f"{path}: cannot be read: {one_line(error)}") from None

    def _json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            raise DataError(f"{path}: no such file")
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{path}: cannot be read: {one_line(error)}") from None
        if not isinstance(value, dict):
            raise DataError(f"{path}: expected a JSON object")
        return value


def best_of(trials: Mapping[int, Trial]) -> Trial | None:
    """The complete trial with the highest mean AUC, the earliest of equals; None if no trial is complete."""
    best: Trial | None = None
    for _, trial in sorted(trials.items()):
        if trial.state is TrialState.COMPLETE and trial.last and better(trial, best):
            best = trial
    return best


def better(trial: Trial, best: Trial | None) -> bool:
    """Whether a complete trial takes the place of the best one so far."""
    if best is None or best.last is None or trial.last is None:
        return best is None
    return (-trial.last.auc_mean, trial.number) < (-best.last.auc_mean, best.number)
