"""Writes a study folder such as `tune` leaves, from made-up scores: fast, seeded, with all states of trials."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from scipy.special import expit
from scipy.stats import norm

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.evaluation.metrics import accuracy, auc
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.ladder import Rung, decide
from diagram_ray.search.space import parse_space
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.study.config import StudyConfig
from diagram_ray.study.tables import trials_table

SPACE = {
    "training.k": {"type": "int", "low": 1, "high": 4},
    "training.learning_rate.discriminator": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "training.learning_rate.classifier": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
    "training.learning_rate.generator": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
    "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
    "model.norm": {"type": "categorical", "choices": ["group", "batch"]},
}


@dataclass(frozen=True)
class Recipe:
    """What kind of study to make."""

    name: str = "quickstart"
    trials: int = 16
    patients: int = 120
    folds: int = 5
    rungs: tuple[tuple[int, int], ...] = ((5, 1), (5, 3), (5, 9))
    ceiling: float = 0.94
    """AUC of the best configuration; 0.5 is noise."""
    seed: int = 0
    failing: tuple[int, ...] = (5,)
    reason: str = "loss_image is NaN in fold 3 after epoch 2"
    none_complete: bool = False
    control: float | None = 0.51
    baselines: tuple[float, ...] = ()
    """AUC of groups of trivial features; none are written for an empty one."""
    reference: float | None = None
    """AUC of the reference network; None writes none."""
    dataset: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, str] = ("benign", "cancer")
    fitted: float | None = 0.97
    """Training AUC that the best configuration comes near to; None: a study from before it was measured."""
    sides: bool = True
    """Whether images.parquet is written."""
    document: dict[str, Any] = field(default_factory=dict)
    """Changes of study.yaml."""


def make_study(folder: Path, recipe: Recipe) -> Path:
    """Writes the study into `folder`."""
    folder.mkdir(parents=True)
    return _Maker(folder, recipe).write()


class _Maker:
    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder, self.recipe = folder, recipe
        self.rng = np.random.default_rng(recipe.seed)
        self.images = self._images()
        self.curves: list[dict[str, Any]] = []
        self.predictions: list[pd.DataFrame] = []

    def write(self) -> Path:
        trials = {number: self._trial(number) for number in range(self.recipe.trials)}
        spent: dict[int, int] = {}
        for row in self.curves:
            spent[row["trial"]] = spent.get(row["trial"], 0) + 1
        write_table(self.folder / "trials.parquet", trials_table(trials, spent))
        if self.curves:
            write_table(self.folder / "curves.parquet", pa.Table.from_pylist(self.curves))
        if self.predictions:
            table = pa.Table.from_pandas(pd.concat(self.predictions), preserve_index=False)
            write_table(self.folder / "predictions.parquet", table)
        if self.recipe.sides:
            sides = self.images["image_id"].str[-1].map({"0": "L", "1": "L", "2": "R", "3": "R"})
            table = pa.table({"image_id": list(self.images["image_id"]), "laterality": list(sides)})
            write_table(self.folder / "images.parquet", table)
        if self.recipe.baselines:
            self._write_beside("baselines", "group {}", self.recipe.baselines)
        if self.recipe.reference is not None:
            self._write_beside("reference", "frozen features {}", (self.recipe.reference,))
        self._write_documents(any(trial.state is TrialState.COMPLETE for trial in trials.values()))
        return self.folder

    def _images(self) -> pd.DataFrame:
        """Four images a patient; cancer in one breast of every third patient, hence in two of the images."""
        count = self.recipe.patients
        patients = [f"{n * 2654435761 % 2**64:016x}" for n in range(1, count + 1)]
        rows = []
        for n, patient in enumerate(patients):
            sick = n % 3 == 0
            rows += [
                {"image_id": f"{patient}-{i}", "patient_id": patient, "fold": n % self.recipe.folds, "label": label}
                for i, label in enumerate((int(sick), int(sick), 0, 0))
            ]
        return pd.DataFrame(rows)

    def _params(self) -> dict[str, Any]:
        space = parse_space(SPACE, "synthetic")
        return {name: values.at(float(self.rng.random())) for name, values in space.items()}

    def _quality(self, params: dict[str, Any]) -> float:
        miss = abs(np.log10(params["training.learning_rate.classifier"]) + 3)
        lack = 0.16 * miss + 0.05 * params["model.dropout"] + 0.02 * (params["training.k"] - 1)
        return 0.5 + (self.recipe.ceiling - 0.5) * max(0.0, 1 - lack)

    def _trial(self, number: int) -> Trial:
        params, measurements = self._params(), []
        quality = self._quality(params)
        if number in self.recipe.failing:
            self._curve(number, quality, Rung(*self.recipe.rungs[0]), 0)
            return Trial(number, params, TrialState.FAIL, self.recipe.reason)
        done = 0
        for at, pair in enumerate(self.recipe.rungs):
            rung = Rung(*pair)
            measured = self._measure(number, quality, rung, at == len(self.recipe.rungs) - 1)
            self._curve(number, quality, rung, done, measured)
            done = rung.epochs
            measurements.append(measured)
            if at == len(self.recipe.rungs) - 1:
                return Trial(number, params, TrialState.COMPLETE, "", tuple(measurements))
            earlier = list(self._earlier.setdefault(at, []))
            self._earlier[at].append(measured.auc_mean)
            decision = decide(rung, measured.auc_mean, earlier, 3)
            if not decision.go_on or self.recipe.none_complete:
                return Trial(number, params, TrialState.PRUNED, decision.why, tuple(measurements))
        raise AssertionError

    @property
    def _earlier(self) -> dict[int, list[float]]:
        return self.__dict__.setdefault("_earlier_values", {})

    def _measure(self, number: int, quality: float, rung: Rung, last: bool) -> Measurement:
        reached = 0.5 + (quality - 0.5) * (1 - np.exp(-rung.epochs / 2.5))
        labels = self.images["label"].to_numpy()
        shift = np.sqrt(2) * norm.ppf(min(reached, 0.999))
        patient = np.repeat(self.rng.normal(size=self.recipe.patients), 4)
        score = expit(shift * (labels - 0.5) + 0.7 * patient + 0.7 * self.rng.normal(size=len(labels)))
        folds = [np.flatnonzero(self.images["fold"] == fold) for fold in range(rung.folds)]
        if last:
            table = self.images.assign(trial=number, repeat=0, score=score)
            self.predictions.append(table[["trial", "repeat", "fold", "image_id", "patient_id", "label", "score"]])
        return Measurement(
            rung.folds,
            rung.epochs,
            tuple(auc(labels[rows], score[rows]) for rows in folds),
            tuple(accuracy(labels[rows], score[rows]) for rows in folds),
            seconds=0.7 * rung.fold_epochs,
        )

    def _curve(self, number: int, quality: float, rung: Rung, done: int, measured: Measurement | None = None) -> None:
        for epoch in range(done + 1, rung.epochs + 1):
            for fold in range(rung.folds):
                reached = 0.5 + (quality - 0.5) * (1 - np.exp(-epoch / 2.5)) + 0.02 * self.rng.normal()
                if epoch == rung.epochs and measured is not None:
                    reached = measured.fold_auc[fold]
                row = {"trial": number, "fold": fold, "epoch": epoch, "auc": float(np.clip(reached, 0, 1))}
                for name, level in (("adversarial", 1.3), ("patch", 0.6), ("image", 0.7), ("generator", 0.8)):
                    row[f"loss_{name}"] = float(level * (0.4 + 0.6 * np.exp(-epoch / 4)) + 0.02 * self.rng.normal())
                if self.recipe.fitted is not None:
                    learnt = (self.recipe.fitted - 0.5) * (1 - np.exp(-epoch / 2.0))
                    row["training_auc"] = float(np.clip(0.5 + learnt + 0.01 * np.sin(7 * fold + epoch), 0, 1))
                self.curves.append(row | {"accuracy": 0.8, "seconds": 0.7})

    def _write_beside(self, file: str, called: str, reached: tuple[float, ...]) -> None:
        """One group of features for each AUC."""
        random = np.random.default_rng(self.recipe.seed + 1)
        tables, groups = [], []
        for number, quality in enumerate(reached):
            labels, name = self.images["label"].to_numpy(), called.format(number)
            score = np.sqrt(2) * norm.ppf(quality) * labels + random.normal(size=len(labels))
            tables.append(self.images.assign(group=name, score=score))
            parts = tables[-1].groupby("fold")
            fold_auc = [auc(part["label"].to_numpy(), part["score"].to_numpy()) for _, part in parts]
            groups.append({"name": name, "kind": "breast", "note": f"Note {number}.", "fold_auc": fold_auc})
        pd.concat(tables).to_parquet(self.folder / f"{file}.parquet")
        found = {"identity": "x", "groups": groups, "absent": ["scanner"], "unmeasured": "", "seconds": 1.0}
        (self.folder / f"{file}.json").write_text(json.dumps(found), encoding="utf-8")

    def _write_documents(self, complete: bool) -> None:
        recipe = self.recipe
        study = StudyConfig(
            name=recipe.name,
            base={"model.width": 8, "training.epochs": recipe.rungs[-1][1]},
            space=parse_space(SPACE, "synthetic"),
            folds=recipe.folds,
            trials=recipe.trials,
            ladder={"rungs": recipe.rungs, "reduction": 3},  # type: ignore[arg-type]
            race={"rule": "none"},  # type: ignore[arg-type]
        )
        counts = self.images["label"].value_counts()
        document = {
            "study": study.model_dump(mode="json"),
            "experiment": override(ExperimentConfig(), study.base, "synthetic").model_dump(mode="json"),
            "dataset": {
                "format_version": 1,
                "name": "phantom",
                "source_format": "phantom",
                "image_size": [128, 96],
                "patch_size": 32,
                "classes": list(recipe.classes),
                "counts": {
                    "images": len(self.images),
                    "patients": recipe.patients,
                    "patches": 640,
                    "rejects": 3,
                    "labels": {recipe.classes[0]: int(counts[0]), recipe.classes[1]: int(counts[1])},
                },
                "rejects": {"no pixel data": 2, "not a mammogram: modality CT": 1},
                "fingerprint": "3f9c2b7a1d" + "0" * 54,
                "uri": "/data/runs/phantom",
                **recipe.dataset,
            },
            "classes": list(recipe.classes),
            "versions": {
                "python": "3.11.9",
                "diagram_ray": "0.1.0",
                "ray": "2.60.0",
                "optuna": "5.0.0",
                "torch": "2.13",
            },
            "command": "tune.py search_spaces/quickstart.yaml --data /data/runs/phantom",
            "started": "2026-03-01T12:34:56+00:00",
            "seconds": 251.3,
            "interrupted": None,
            **recipe.document,
        }
        (self.folder / "study.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        patients = dict(zip(self.images["patient_id"], self.images["fold"].tolist(), strict=True))
        splits = {"n_folds": recipe.folds, "seed": 0, "fingerprint": "3f9c2b7a1d", "patients": patients}
        (self.folder / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
        if complete and recipe.control is not None:
            fold_auc = [recipe.control + d for d in (-0.02, 0.01, 0.03, -0.03, 0.01)]
            control = {"auc_mean": recipe.control, "shuffles": [{"seed": 0, "fold_auc": fold_auc}]}
            (self.folder / "control.json").write_text(json.dumps(control), encoding="utf-8")
