"""How hard is the phantom? `nice -n 10 python -m benchmarks.phantom`, a few minutes on one core.

For each difficulty and seed, the AUC of malignant against benign breasts, with the images of a patient on one side of
each of 5 splits:

- known: of an observer who knows how malignant each lesion's shape was drawn; nobody who sees images does better,
- told: of one who is told where each lesion lies, measures its shape there and has a logistic regression,
- trivial: of the best of the groups of trivial features that an audit asks, and which one it is.
"""

import argparse
import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diagram_ray.auditing.description import picture_numbers
from diagram_ray.auditing.shortcuts import FOLDS, Question, ask, groups, score
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.phantom.lesions import best_auc
from diagram_ray.data.preprocessing.prepare_image import Options, prepare_image
from diagram_ray.data.readers import inbreast
from diagram_ray.data.records import ImageRecord
from diagram_ray.evaluation.metrics import auc
from diagram_ray.prepare import PHANTOM_DIFFICULTY, PHANTOM_SIZE, PUBLIC_KEY

DIFFICULTIES = {"easy": 0.0, "default": PHANTOM_DIFFICULTY, "hard": 1.0}
RINGS_MM = np.arange(2.0, 30.0)
"""Circles about the lesion's middle."""
BANDS = ((1, 3), (3, 6), (6, 10), (10, 16), (16, 32))
"""Numbers of waves around a circle: an oval has two, spicules many."""
PATCH = 32

Floats = NDArray[np.float64]


def shape_features(record: ImageRecord) -> Floats:
    """Power of each band of waves around circles of seven sizes, and the means on the circles."""
    image = read_mammogram(record.path)
    pixels = np.asarray(-image.pixels if record.columns["inverted"] else image.pixels, dtype=np.float64)
    box = next(region.box for region in record.regions if region.finding == "mass")
    middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    radii = RINGS_MM[:, None] / float(image.spacing_mm or 1.0)
    angles = np.linspace(0.0, 2 * np.pi, 128, endpoint=False)
    places = [middle[0] + radii * np.sin(angles) - 0.5, middle[1] + radii * np.cos(angles) - 0.5]
    circles = ndimage.map_coordinates(pixels, places, order=1, mode="nearest")
    circles /= circles.std() + 1e-9
    power = np.abs(np.fft.rfft(circles, axis=1)) ** 2
    bands = np.stack([power[:, low:high].sum(axis=1) for low, high in BANDS], axis=1)
    rings = np.log(bands + 1e-6).reshape(7, 4, len(BANDS)).mean(axis=1)
    return np.concatenate([rings.ravel(), circles.mean(axis=1).reshape(7, 4).mean(axis=1) - circles.mean()])


def told(question: Question, features: Floats) -> float:
    """Mean over folds of the AUC of a logistic regression, out of fold."""
    aucs = []
    for fold in range(FOLDS):
        tested = question.folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(features[~tested], question.labels[~tested])
        aucs.append(auc(question.labels[tested], model.predict_proba(features[tested])[:, 1]))
    return float(np.mean(aucs))


def measure(folder: Path, patients: int, seed: int, difficulty: float) -> tuple[float, float, str]:
    """AUC of the observer who is told the places, and of the best trivial group, with its name."""
    make_phantom(folder, patients, seed, difficulty, workers=1)
    index = inbreast.index(str(folder))
    options = Options(PHANTOM_SIZE, PATCH, 0, PUBLIC_KEY, index.classes[0])
    rows, pictures, features = [], [], {}
    for record in index.records:
        made = prepare_image(record, options)
        rows.append(made.manifest)
        pictures.append(made.pixels)
        record.columns["inverted"] = made.manifest["inverted"]
        features[made.manifest["image_id"]] = shape_features(record)
    question = ask(pd.DataFrame(rows).join(picture_numbers(pictures)), index.classes, "")
    trivial = {group.name: found.auc.value for group in groups() if (found := score(question, group)).auc}
    best = max(trivial, key=lambda name: trivial[name])
    return told(question, np.stack([features[key] for key in question.images["image_id"]])), trivial[best], best


def main() -> None:
    """Measures all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print(f"{'difficulty':>14} seed  known  told  trivial")
    for name, difficulty in DIFFICULTIES.items():
        for seed in range(asked.seeds):
            with tempfile.TemporaryDirectory() as folder:
                known, (seen, trivial, group) = (
                    best_auc(difficulty),
                    measure(Path(folder), asked.patients, seed, difficulty),
                )
            print(f"{name:>8} {difficulty:5.2f} {seed:4d} {known:6.3f} {seen:5.3f} {trivial:8.3f}  {group}", flush=True)


if __name__ == "__main__":
    main()
