"""DiaGRAM and other networks on the same folds: `python -m benchmarks.comparators [--data DATASET]`.

Each is trained by the same loop; frozen ImageNet features with a logistic regression stand beside them. Without --data
it makes phantoms, a few minutes on one core; on real films an hour and more. What has been trained is kept in --work.
Needs the extra `pretrained`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from diagram_ray.config import DataConfig, ExperimentConfig, override
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.evaluation.delong import delong, paired_delong
from diagram_ray.evaluation.metrics import auc

FOLDS, SEED = 5, 0
FROZEN = "frozen features, logistic regression"
BASE = {
    "model.width": 16,
    "model.generator_width": 16,
    "training.schedule": "cosine",
    "training.augment": {"rotation": 15.0, "scale": 0.15, "shift": 0.1},
    "training.learning_rate": {"discriminator": 1e-3, "classifier": 1e-3, "generator": 3e-4},
}
IMAGES = {"model.gan": False, "training.multi_task": False}
LITE = {"model.features": "efficientnet-lite0", "model.pretrained": True, "model.pixels": "range"}
GENTLE = {"training.freeze": 2, "training.features_rate": 0.1}
ARMS: dict[str, dict[str, Any]] = {
    "DiaGRAM": {},
    "DiaGRAM, images only": IMAGES,
    "DiaGRAM on pretrained features": {**LITE, **GENTLE},
    "the same, patches but no GAN": {**LITE, **GENTLE, "model.gan": False},
    "the same, images only": {**LITE, **GENTLE, **IMAGES},
    "EfficientNet-Lite0, pretrained": {
        **LITE, **IMAGES, **GENTLE, "model.classifier": "backbone", "training.learning_rate.classifier": 3e-4,
    },
    "residual network": {"model.features": "residual", "model.classifier": "backbone", **IMAGES},
    "multi-instance network, sparse": {"model.classifier": "multi-instance", **IMAGES},
    "multi-instance network on pretrained features": {**LITE, **GENTLE, **IMAGES, "model.classifier": "multi-instance"},
}  # fmt: skip


def trained(data: TrainingData, splits: Splits, folds: int, settings: dict[str, Any]) -> NDArray[np.float64]:
    """Scores of the test images of the first `folds` folds, one fold after the other."""
    import torch

    from diagram_ray.training.cross_validation import CrossValidation

    torch.set_num_threads(1)
    config = override(override(ExperimentConfig(), BASE, "benchmark"), settings, "benchmark")
    validation = CrossValidation(config, data, splits)
    for rows in validation.advance(folds, config.training.epochs):
        print("  ", rows[0]["epoch"], *(f"{row['auc']:.3f} {row['seconds']:.0f} s" for row in rows), flush=True)
    return validation.scores(folds)


def frozen(data: TrainingData, splits: Splits, folds: int) -> NDArray[np.float64]:
    """The same of frozen features."""
    import torch

    from diagram_ray.training.pretrained.frozen_features import frozen_feature_scores

    torch.set_num_threads(1)
    return frozen_feature_scores(data, splits)[tested(data, splits, folds)]


def tested(data: TrainingData, splits: Splits, folds: int) -> NDArray[np.intp]:
    """The test images of the first folds."""
    return np.concatenate([splits.fold(data, number).test_images for number in range(folds)])


def kept(path: Path, scores: Any) -> NDArray[np.float64]:
    """The scores in `path`; if there are none, those that `scores` makes."""
    if not path.is_file():
        began = time.perf_counter()
        found = scores()
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
        print(f"   {time.perf_counter() - began:.0f} s")
    return np.asarray(np.load(path))


def phantom(work: Path) -> str:
    """A made-up dataset, made unless it is there."""
    out = work / "phantom"
    if not (out / "dataset.json").is_file():
        command = ["phantom", "--out", str(out), "--patients", "60", "--image-size", "96x64"]
        subprocess.run([sys.executable, "-m", "diagram_ray.prepare", *command], check=True)
    return str(out)


def main() -> None:
    """Trains the arms and compares each with frozen features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a prepared dataset")
    parser.add_argument("--work", type=Path, default=Path("runs") / "comparators")
    parser.add_argument("--folds", type=int, default=1, help=f"the first so many of {FOLDS}")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=ARMS, metavar="ARM", help=", ".join(ARMS))
    arguments = parser.parse_args()
    data = read_training_data(arguments.data or phantom(arguments.work), DataConfig())
    splits = make_splits(data, FOLDS, SEED)
    labels = data.labels[tested(data, splits, arguments.folds)]
    place = arguments.work / f"{data.fingerprint[:12]}-{arguments.folds}-{arguments.epochs}"
    reference, results = None, []
    for name in (FROZEN, *arguments.arms):
        print(name, flush=True)
        settings = ARMS.get(name, {}) | {"training.epochs": arguments.epochs}
        scores = kept(
            place / f"{name}.npy",
            lambda name=name, settings=settings: (
                frozen(data, splits, arguments.folds)
                if name == FROZEN
                else trained(data, splits, arguments.folds, settings)
            ),
        )
        reference = scores if reference is None else reference
        interval, (against, p) = delong(labels, scores), paired_delong(labels, reference, scores)
        print(
            f"   AUC {interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}), against frozen features "
            f"{against.value:+.3f} ({against.low:+.3f} to {against.high:+.3f}), p = {p:.3f}",
            flush=True,
        )
        results.append({"name": name, "auc": auc(labels, scores), "settings": settings})
    (place / "results.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
