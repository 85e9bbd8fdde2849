"""What would more patients bring? The best configuration of a study trained on parts of its patients.

    python -m benchmarks.learning_curve STUDY DATASET [--parts 0.25 0.5] [--results FILE]

Each fold's training patients are cut to the part, drawn once and nested (those of a quarter are among those of a half),
and trained for as many steps as all of them were, that is for more epochs. The folds' test images stay the same, so the
AUC of a part stands beside that of all patients, which the study has measured. One thread. With --results FILE a fold
that was trained stands there as a line of JSON and is not trained again.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.recipe import keep, known, trained
from diagram_ray.config import override
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import bootstrap
from diagram_ray.results import Study
from diagram_ray.training.checkpoints.model_folder import read_card
from diagram_ray.training.trainer import Trainer


def part_of(data: TrainingData, fold: Fold, part: float) -> tuple[np.ndarray, np.ndarray]:
    """The images and patches of a part of the fold's training patients."""
    patients = np.unique(data.patient_ids[fold.train_images])
    chosen = np.random.default_rng(fold.number).permutation(patients)[: max(2, round(part * len(patients)))]
    images = fold.train_images[np.isin(data.patient_ids[fold.train_images], chosen)]
    patches = fold.train_patches[np.isin(data.patch_patient_ids[fold.train_patches], chosen)]
    return images, patches


def runs(study: Path, dataset: str, parts: list[float], results: Path | None) -> Iterator[dict[str, Any]]:
    """Each part and fold: the scores of its test images, made now or before."""
    experiment = read_card(study).experiment
    data = read_training_data(dataset, experiment.data)
    splits = Splits.from_json((study / "splits.json").read_text(encoding="utf-8"), str(study))
    for part in parts:
        for number in range(splits.n_folds):
            key = {
                "data": data.fingerprint,
                "part": part,
                "fold": number,
                "trial": int(Study.load(study).best["number"]),
            }
            if (run := known(results, key)) is None:
                fold = splits.fold(data, number)
                images, patches = part_of(data, fold, part)
                epochs = round(experiment.training.epochs / part)
                config = override(experiment, {"training.epochs": epochs}, "learning curve")
                trainer = Trainer(config, data, images, patches, number)
                for _ in trained(trainer, epochs):
                    pass
                scores = trainer.score(fold.test_images)
                run = key | {
                    "images": len(images),
                    "auc": auc(data.labels[fold.test_images], scores),
                    "image_id": data.image_ids[fold.test_images].tolist(),
                    "patient_id": data.patient_ids[fold.test_images].tolist(),
                    "label": data.labels[fold.test_images].tolist(),
                    "score": scores.tolist(),
                }
                keep(results, run)
            yield run


def show(name: str, predictions: pd.DataFrame) -> None:
    """Prints mean and sd of the folds' AUC, and the interval by patients."""
    interval = bootstrap(out_of_fold(predictions))[0]
    folds = [auc(rows["label"], rows["score"]) for _, rows in predictions.groupby("fold")]
    spread = f"{np.mean(folds):.3f} +- {np.std(folds, ddof=1):.3f}"
    print(f"{name}: {spread} ({interval.low:.3f} to {interval.high:.3f})", flush=True)


def main() -> None:
    """Prints a line for each part, and one for all patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--parts", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--results", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    done = list(runs(asked.study, asked.dataset, asked.parts, asked.results))
    for part in asked.parts:
        columns = ("fold", "image_id", "patient_id", "label", "score")
        rows = [pd.DataFrame({name: run[name] for name in columns}) for run in done if run["part"] == part]
        show(f"{part:.0%} of the patients", pd.concat(rows).assign(trial=0, repeat=0))
    study = Study.load(asked.study)
    table = study.predictions
    show("all patients", table[(table["trial"] == study.best["number"]) & (table["repeat"] == 0)])


if __name__ == "__main__":
    main()
