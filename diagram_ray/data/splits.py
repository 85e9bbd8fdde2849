"""Folds by patient: made once, written to splits.json, checked each time one is used.

Patients are assigned to folds so that each fold has its share of every class (scikit-learn's StratifiedGroupKFold). The
file says the fold of each patient, so a patient cannot be in two; what is checked is that the images and patches of a
fold, as they are handed to training, are indeed those of its patients.
"""

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.errors import DataError, LeakageError, one_line


@dataclass(frozen=True)
class Splits:
    """The fold of each patient of one dataset and question."""

    n_folds: int
    seed: int
    fingerprint: str
    """The fingerprint of the dataset."""
    patients: dict[str, int]

    def fold(self, data: TrainingData, number: int) -> Fold:
        """Fold `number` (from 0) of `data`, checked.

        Raises DataError if there is no such fold or the patients are not those of `data`, LeakageError if a patient
        is on both sides.
        """
        if not 0 <= number < self.n_folds:
            raise DataError(f"fold {number}: there are {self.n_folds} folds, numbered from 0")
        self.check(data)
        tested = np.array([self.patients[patient] == number for patient in data.patient_ids.tolist()])
        patches = np.array(
            [self.patients[patient] != number for patient in data.patch_patient_ids.tolist()], dtype=bool
        )
        fold = Fold(number, np.flatnonzero(~tested), np.flatnonzero(patches), np.flatnonzero(tested))
        check_fold(data, fold)
        return fold

    def check(self, data: TrainingData) -> None:
        """Raises DataError unless these are the splits of `data`: its fingerprint, its patients, folds in range."""
        if self.fingerprint != data.fingerprint:
            raise DataError(f"the splits were made for dataset {self.fingerprint}, not for {data.fingerprint}")
        patients = set(data.patient_ids.tolist())
        if missing := (patients | set(data.patch_patient_ids.tolist())) - self.patients.keys():
            raise DataError(f"patient {min(missing)} is in the dataset but in no fold")
        if strange := self.patients.keys() - patients:
            raise DataError(f"patient {min(strange)} is in fold {self.patients[min(strange)]} but not in the dataset")
        for patient, fold in self.patients.items():
            if not 0 <= fold < self.n_folds:
                raise DataError(f"patient {patient} is in fold {fold}; folds are numbered 0 to {self.n_folds - 1}")

    def to_json(self) -> str:
        """The content of splits.json."""
        fields = {"n_folds": self.n_folds, "seed": self.seed, "fingerprint": self.fingerprint}
        return json.dumps({**fields, "patients": dict(sorted(self.patients.items()))}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "Splits":
        """Reads splits.json back. Raises DataError naming `where`, LeakageError for a patient given twice."""
        try:
            fields = json.loads(text, object_pairs_hook=lambda pairs: _unique(pairs, where))
            patients = {str(patient): int(fold) for patient, fold in fields["patients"].items()}
            return cls(int(fields["n_folds"]), int(fields["seed"]), str(fields["fingerprint"]), patients)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise DataError(f"{where}: not a file of splits: {one_line(error)}") from None


def make_splits(data: TrainingData, n_folds: int, seed: int) -> Splits:
    """Assigns the patients of `data` to `n_folds` folds, the same for the same seed whatever the order of the images.

    Raises DataError if a class has fewer patients than there are folds.
    """
    for label, name in enumerate(data.classes):
        patients = len(set(data.patient_ids[data.labels == label].tolist()))
        if patients < n_folds:
            raise DataError(
                f"class {name!r} has {patients} patient{'s' * (patients != 1)}, fewer than the {n_folds} folds: "
                "a fold would have none; ask for fewer folds or give more data"
            )
    order = np.argsort(data.image_ids, kind="stable")
    groups, labels = data.patient_ids[order], data.labels[order]
    from sklearn.model_selection import StratifiedGroupKFold  # here: who only reads splits need not wait for it

    splitter = StratifiedGroupKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    folds: dict[str, int] = {}
    for number, (_, test) in enumerate(splitter.split(np.zeros(len(order)), labels, groups)):
        folds |= dict.fromkeys(groups[test].tolist(), number)
    splits = Splits(n_folds, seed, data.fingerprint, folds)
    for number in range(n_folds):
        splits.fold(data, number)
    return splits


def check_fold(data: TrainingData, fold: Fold) -> None:
    """Raises LeakageError if a patient is on both sides, DataError if an image or a class is missing or doubled."""
    tested = set(data.patient_ids[fold.test_images].tolist())
    for what, trained in (
        ("images", data.patient_ids[fold.train_images]),
        ("patches", data.patch_patient_ids[fold.train_patches]),
    ):
        if both := tested & set(trained.tolist()):
            raise LeakageError(
                f"fold {fold.number}: patient {min(both)} is tested and is also among the training {what}; "
                "a patient's images and patches must stay on one side"
            )
    counts = Counter([*fold.train_images.tolist(), *fold.test_images.tolist()])
    if doubled := [image for image, count in counts.items() if count > 1]:
        raise DataError(f"fold {fold.number}: image {data.image_ids[doubled[0]]} is used twice")
    if len(counts) != len(data.images):
        raise DataError(f"fold {fold.number}: {len(data.images) - len(counts)} images are in neither part")
    for part, images in (("training", fold.train_images), ("test", fold.test_images)):
        for label in set(range(len(data.classes))) - set(data.labels[images].tolist()):
            raise DataError(f"fold {fold.number}: no {part} image is of class {data.classes[label]!r}")


def shuffle_patients(data: TrainingData, seed: int) -> TrainingData:
    """The no-signal control: patients with equally many images exchange all their labels, so that images say nothing.

    A patient's images, in the order of their ids, get the labels of another patient's; a patch gets the label of a
    patch of that patient, in turn, or its worst image's label if that patient has no patch. Patients, folds and the
    number of images of each class stay as they are.
    """
    random = np.random.default_rng([seed, 0x5EED])
    images, patches = _rows_by_patient(data.patient_ids, data.image_ids), _rows_by_patient(data.patch_patient_ids)
    donors = _exchange({patient: len(rows) for patient, rows in images.items()}, random)
    labels, patch_labels = data.labels.copy(), data.patch_labels.copy()
    for patient, donor in donors.items():
        labels[images[patient]] = data.labels[images[donor]]
        if patient in patches:
            source = (
                data.patch_labels[patches[donor]] if donor in patches else data.labels[images[donor]].max(keepdims=True)
            )
            patch_labels[patches[patient]] = np.resize(source, len(patches[patient]))
    return replace(data, labels=labels, patch_labels=patch_labels)


def forget_patients(data: TrainingData, seed: int) -> TrainingData:
    """The data made wrong on purpose: every image is a patient of its own, so that folds are assigned by image and
    patients leak.

    A patch goes with one of its patient's images, drawn at random.
    """
    random = np.random.default_rng([seed, 0x1EA4])
    images = _rows_by_patient(data.patient_ids, data.image_ids)
    owners = [data.image_ids[random.choice(images[patient])] for patient in data.patch_patient_ids.tolist()]
    return replace(data, patient_ids=data.image_ids, patch_patient_ids=np.array(owners, dtype=data.image_ids.dtype))


def _exchange(sizes: dict[str, int], random: np.random.Generator) -> dict[str, str]:
    """Patient -> patient, a permutation within the patients of equal size."""
    donors: dict[str, str] = {}
    for size in sorted(set(sizes.values())):
        patients = sorted(patient for patient, count in sizes.items() if count == size)
        donors |= dict(zip(patients, (patients[i] for i in random.permutation(len(patients))), strict=True))
    return donors


def _rows_by_patient(
    patient_ids: NDArray[np.str_], order_by: NDArray[np.str_] | None = None
) -> dict[str, NDArray[np.intp]]:
    order = np.arange(len(patient_ids)) if order_by is None else np.argsort(order_by, kind="stable")
    rows: dict[str, list[int]] = {}
    for row in order.tolist():
        rows.setdefault(str(patient_ids[row]), []).append(row)
    return {patient: np.array(indices) for patient, indices in rows.items()}


def _unique(pairs: list[tuple[str, Any]], where: str) -> dict[str, Any]:
    keys = Counter(key for key, _ in pairs)
    for key, count in keys.items():
        if count > 1:
            raise LeakageError(f"{where}: {key!r} stands {count} times; a patient is in exactly one fold")
    return dict(pairs)
