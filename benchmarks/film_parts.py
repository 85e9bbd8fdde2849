"""Which part of a film tells the label: `python -m benchmarks.film_parts --source FOLDER --table CSV --positive CLASS`.

Frozen ImageNet features and a logistic regression (training/pretrained/frozen_features.py) read whole films, films
without the breast, the breast alone, and each without the lesions' boxes: 5 folds by patient, for each of two seeds.
What is read where there is no breast is not read from tissue. The breast's outline still shows in a film without it.
Needs the extra `pretrained`; 1,231 films of 800x480 pixels take some 20 minutes on two cores.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.preprocessing.standardise import standardise
from diagram_ray.data.readers import folder
from diagram_ray.data.records import ImageRecord
from diagram_ray.training.pretrained.frozen_features import frozen_features

SIZE = (480, 288)
FOLDS, SEEDS, STRENGTH = 5, (0, 1), 1e-3
Film = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.uint16]]
"""Grey levels from 0 to 1, where the breast is, where lesions are, all of SIZE; and the image as `prepare` makes it."""

PARTS: dict[str, Callable[[Film], NDArray[np.float32] | NDArray[np.uint16]]] = {
    "whole film, stretched": lambda film: film[0],
    "without the lesions' boxes": lambda film: film[0] * ~film[2],
    "outside of the breast alone": lambda film: film[0] * ~film[1],
    "the breast alone": lambda film: film[0] * film[1],
    "the breast without the lesions' boxes": lambda film: film[0] * (film[1] & ~film[2]),
    "as prepare makes it": lambda film: film[3],
}


def read(record: ImageRecord) -> Film:
    mammogram = read_mammogram(record.path)
    pixels, prepared = mammogram.pixels.astype(np.float32), standardise(mammogram, SIZE)
    if prepared.inverted:
        pixels = -pixels
    grey = (pixels - pixels.min()) / max(1e-9, float(pixels.max() - pixels.min()))
    lesions = np.zeros(pixels.shape, dtype=bool)
    for region in record.regions:
        top, left, bottom, right = (round(edge) for edge in region.box)
        lesions[top:bottom, left:right] = True
    return _scaled(grey), _scaled(prepared.breast) > 0.5, _scaled(lesions) > 0.0, prepared.pixels


def _scaled(values: NDArray[np.float32] | NDArray[np.bool_]) -> NDArray[np.float32]:
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize(SIZE[::-1], Image.Resampling.BILINEAR), dtype=np.float32)


def fold_aucs(features: NDArray[np.float32], labels: NDArray[np.int64], patients: list[str]) -> list[float]:
    """The AUC of each fold of each seed."""
    aucs = []
    for seed in SEEDS:
        splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
        for trained, tested in splitter.split(features, labels, patients):
            learner = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
            learner.fit(features[trained], labels[trained])
            aucs.append(float(roc_auc_score(labels[tested], learner.decision_function(features[tested]))))
    return aucs


def as_stored(picture: NDArray[np.float32] | NDArray[np.uint16]) -> NDArray[np.uint16]:
    return picture if picture.dtype == np.uint16 else (picture * 65535).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--source", "--table", "--positive"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    if arguments.source is None:
        print("not measured: made-up films have nothing outside of the breast; give --source, a folder of real ones")
        return
    index = folder.index(arguments.source, arguments.table, arguments.positive)
    labels = np.array([record.label == arguments.positive for record in index.records], dtype=np.int64)
    patients = [record.patient_id for record in index.records]
    with ThreadPoolExecutor(2) as pool:
        films = list(pool.map(read, index.records))
    print(f"{len(films)} films of {len(set(patients))} patients; AUC, mean of {FOLDS} folds x {len(SEEDS)} seeds")
    for name, part in PARTS.items():
        features = frozen_features(np.stack([as_stored(part(film)) for film in films]))
        aucs = fold_aucs(features, labels, patients)
        print(f"{name:40} {np.mean(aucs):.3f} (folds {min(aucs):.3f} to {max(aucs):.3f})", flush=True)


if __name__ == "__main__":
    main()
