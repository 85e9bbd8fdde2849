"""How fast DiaGRAM fits its training images, and how well it does on others, by setting: one choice at a time.

    python -m benchmarks.recipe fit DATASET           # training AUC after each of 5 epochs, 400 images, no augmentation
    python -m benchmarks.recipe held-out DATASET      # AUC on the test images of each fold, after all epochs
    python -m benchmarks.recipe held-out DATASET --variants default "group norm" --folds 0 1 --set training.epochs=60

DATASET is a prepared dataset. Each variant is the default configuration of --width with the settings in VARIANTS. One
thread, so that several runs can go side by side. With --results FILE each run is appended to FILE as a line of JSON,
and runs that stand there already are not made again: a measurement that was cut off goes on.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diagram_ray.config import DataConfig, ExperimentConfig, build, override
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.evaluation.metrics import auc
from diagram_ray.training.trainer import Trainer
from diagram_ray.yaml_text import parse_assignment

IMAGES_ALONE = {"training.multi_task": False, "model.gan": False}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "without GAN": {"model.gan": False},
    "images alone": IMAGES_ALONE,
    "group norm": IMAGES_ALONE | {"model.norm": "group"},
    "batch norm": IMAGES_ALONE | {"model.norm": "batch"},
    "reduction 16": IMAGES_ALONE | {"model.reduction": 16},
    "residual": IMAGES_ALONE | {"model.features": "residual", "model.classifier": "backbone"},
    "pixels as prepared": IMAGES_ALONE | {"model.pixels": "range"},
    "group norm, pixels as prepared": IMAGES_ALONE | {"model.norm": "group", "model.pixels": "range"},
}
FIT_IMAGES, FIT_EPOCHS = 400, 5
NO_AUGMENTATION = {"rotation": 0.0, "mirror": False, "scale": 0.0, "shift": 0.0}


def fit(config: ExperimentConfig, data: TrainingData) -> dict[str, Any]:
    """The training AUC after each epoch on the first images of a random order, without augmentation."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(data.images))[:FIT_IMAGES])
    patches = np.flatnonzero(np.isin(data.patch_patient_ids, data.patient_ids[chosen]))
    trainer = Trainer(config, data, chosen, patches)
    return {"training_auc": [score(trainer, chosen) for _ in trained(trainer, FIT_EPOCHS)]}


def held_out(config: ExperimentConfig, data: TrainingData, fold: Fold) -> dict[str, Any]:
    """Training and test AUC of one fold at the last epoch, and the test AUC at quarters of the way."""
    trainer = Trainer(config, data, fold.train_images, fold.train_patches, fold.number)
    epochs = config.training.epochs
    on_the_way = {
        epoch: score(trainer, fold.test_images)
        for epoch in trained(trainer, epochs)
        if epoch % max(1, epochs // 4) == 0
    }
    return {"training_auc": score(trainer, fold.train_images), "auc": score(trainer, fold.test_images)} | {
        "on_the_way": on_the_way
    }


def trained(trainer: Trainer, epochs: int) -> Iterator[int]:
    """The epochs from 1, each when it is done."""
    while trainer.epoch < epochs:
        trainer.advance()
        yield trainer.epoch


def score(trainer: Trainer, images: np.ndarray) -> float:
    """AUC of images as the model stands."""
    return round(auc(trainer.data.labels[images], trainer.score(images)), 4)


def runs(asked: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each run that was asked for, made now or before."""
    question = build(DataConfig, dict(parse_assignment(item) for item in asked.data), "--data")
    data = read_training_data(asked.dataset, question)
    splits = make_splits(data, asked.of_folds, asked.split_seed)
    base = {"model.width": asked.width, "model.generator_width": asked.width, "model.latent_size": 32}
    given = dict(parse_assignment(item) for item in asked.set)
    for fold in asked.folds if asked.what == "held-out" else (0,):
        for name in asked.variants:
            settings = base | (given if asked.what == "held-out" else given | {"training.augment": NO_AUGMENTATION})
            key = {"what": asked.what, "data": data.fingerprint, "variant": name, "fold": fold, "settings": settings}
            if (found := known(asked.results, key)) is None:
                config = override(ExperimentConfig(data=question), settings | VARIANTS[name], name)
                started = time.process_time()
                part = splits.fold(data, fold)
                figures = held_out(config, data, part) if asked.what == "held-out" else fit(config, data)
                found = key | figures | {"seconds": round(time.process_time() - started, 1)}
                keep(asked.results, found)
            yield found


def known(results: Path | None, key: dict[str, Any]) -> dict[str, Any] | None:
    """A run that was made before."""
    lines = results.read_text(encoding="utf-8").splitlines() if results and results.is_file() else []
    plain = json.loads(json.dumps(key))
    return next((run for run in map(json.loads, lines) if {name: run[name] for name in key} == plain), None)


def keep(results: Path | None, run: dict[str, Any]) -> None:
    """Appends a run."""
    if results:
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")


def main() -> None:
    """Makes the runs and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("fit", "held-out"))
    parser.add_argument("dataset")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--folds", type=int, nargs="+", default=(0,))
    parser.add_argument("--of-folds", type=int, default=5)
    parser.add_argument("--split-seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=(), metavar="KEY=VALUE", help="settings of all variants")
    parser.add_argument("--data", nargs="*", default=(), metavar="KEY=VALUE", help="target=density …")
    parser.add_argument("--results", type=Path)
    torch.set_num_threads(1)
    for run in runs(parser.parse_args()):
        figures = {name: run[name] for name in ("training_auc", "auc", "on_the_way", "seconds") if name in run}
        print(f"{run['variant']}, fold {run['fold']}: {json.dumps(figures)}", flush=True)


if __name__ == "__main__":
    main()
