"""A patient is on one side: by construction, by check, and with a message that names the patient when broken."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from diagram_ray.data.splits import Splits, check_fold, forget_patients, make_splits, shuffle_patients
from diagram_ray.data.training_data import Fold, TrainingData
from diagram_ray.errors import DataError, LeakageError
from tests.support.training.patients import make_data


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), folds=st.integers(2, 6), patients=st.integers(30, 60))
def test_every_image_is_tested_once_and_no_patient_is_on_both_sides(seed: int, folds: int, patients: int) -> None:
    data = make_data(patients, seed)
    splits = make_splits(data, folds, seed)
    tested: list[int] = []
    for number in range(folds):
        fold = splits.fold(data, number)
        tested += fold.test_images.tolist()
        sides = [set(data.patient_ids[images]) for images in (fold.train_images, fold.test_images)]
        assert not sides[0] & sides[1]
        assert set(data.patch_patient_ids[fold.train_patches]) == sides[0]
        assert len(fold.train_patches) == 2 * len(fold.train_images)
    assert sorted(tested) == list(range(len(data.images)))


def test_classes_are_spread_evenly() -> None:
    data = make_data(200, 1)
    splits = make_splits(data, 5, 0)
    shares = [data.labels[splits.fold(data, number).test_images].mean() for number in range(5)]
    assert max(shares) - min(shares) < 0.06


def test_folds_depend_on_the_seed_and_not_on_the_order_of_images(data: TrainingData) -> None:
    order = np.random.default_rng(1).permutation(len(data.images))
    per_image = ("images", "labels", "image_ids", "patient_ids")
    shuffled = replace(data, **{name: getattr(data, name)[order] for name in per_image})
    assert make_splits(data, 5, 0).patients == make_splits(shuffled, 5, 0).patients
    assert make_splits(data, 5, 0).patients != make_splits(data, 5, 1).patients


def test_too_few_patients_of_a_class(data: TrainingData) -> None:
    labels = np.zeros_like(data.labels)
    labels[data.patient_ids == "patient-003"] = 1
    with pytest.raises(DataError, match="class 'cancer' has 1 patient, fewer than the 5 folds"):
        make_splits(replace(data, labels=labels), 5, 0)


def moved(fold: Fold, image: int) -> Fold:
    """The fold with one more image for training, which is tested as well or no longer."""
    return replace(
        fold, train_images=np.append(fold.train_images, image), test_images=fold.test_images[fold.test_images != image]
    )


def test_a_patient_on_both_sides_is_named(data: TrainingData) -> None:
    splits = make_splits(data, 5, 0)
    for number in range(5):
        fold = splits.fold(data, number)
        owners, counts = np.unique(data.patient_ids[fold.test_images], return_counts=True)
        patient = owners[counts > 1][0]
        broken = moved(fold, int(np.flatnonzero(data.patient_ids == patient)[0]))
        with pytest.raises(LeakageError, match=f"fold {number}: patient {patient} is tested .* training images"):
            check_fold(data, broken)


def test_a_patients_patch_on_the_other_side_is_named(data: TrainingData) -> None:
    fold = make_splits(data, 5, 0).fold(data, 2)
    patient = data.patient_ids[fold.test_images[0]]
    patch = int(np.flatnonzero(data.patch_patient_ids == patient)[0])
    with pytest.raises(LeakageError, match=f"fold 2: patient {patient} is tested .* training patches"):
        check_fold(data, replace(fold, train_patches=np.append(fold.train_patches, patch)))


def test_folds_that_do_not_group_by_patient_are_refused(data: TrainingData) -> None:
    for train, test in KFold(5, shuffle=True, random_state=0).split(data.images):
        with pytest.raises(LeakageError, match="patient-"):
            check_fold(data, Fold(0, train, np.array([], dtype=np.intp), test))


def test_images_left_out_used_twice_or_of_one_class_are_refused(data: TrainingData) -> None:
    fold = make_splits(data, 5, 0).fold(data, 0)
    with pytest.raises(DataError, match="1 images are in neither part"):
        check_fold(data, replace(fold, train_images=fold.train_images[1:]))
    with pytest.raises(DataError, match="is used twice"):
        check_fold(data, replace(fold, train_images=np.append(fold.train_images, fold.train_images[0])))
    labels = data.labels.copy()
    labels[fold.test_images] = 0
    with pytest.raises(DataError, match="no test image is of class 'cancer'"):
        check_fold(replace(data, labels=labels), fold)


def test_splits_json_is_read_back(data: TrainingData) -> None:
    splits = make_splits(data, 5, 3)
    assert Splits.from_json(splits.to_json(), "splits.json") == splits


def changed(splits: Splits, **changes: Any) -> Splits:
    return Splits.from_json(json.dumps(json.loads(splits.to_json()) | changes), "splits.json")


def test_splits_of_other_data_are_refused(data: TrainingData) -> None:
    splits = make_splits(data, 5, 0)
    some = dict(splits.patients)
    del some["patient-004"]
    for broken, reason in (
        (changed(splits, fingerprint="other"), "made for dataset other, not for abc"),
        (changed(splits, patients=some), "patient-004 is in the dataset but in no fold"),
        (changed(splits, patients={**splits.patients, "stranger": 1}), "patient stranger is in fold 1 but not in"),
        (changed(splits, patients={**splits.patients, "patient-004": 5}), "patient-004 is in fold 5; folds are"),
        (changed(splits, patients={**splits.patients, "patient-004": -1}), "patient-004 is in fold -1"),
    ):
        with pytest.raises(DataError, match=reason):
            broken.fold(data, 0)
    for number in (-1, 5):
        with pytest.raises(DataError, match=f"fold {number}: there are 5 folds"):
            splits.fold(data, number)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"n_folds": 5, "seed": 0, "fingerprint": "a", "patients": {"p": "x"}}', "null"]
)
def test_what_is_no_file_of_splits(text: str) -> None:
    with pytest.raises(DataError, match=r"study/splits\.json"):
        Splits.from_json(text, "study/splits.json")


def test_a_patient_given_twice_in_the_file(data: TrainingData) -> None:
    text = make_splits(data, 5, 0).to_json().replace('"patient-004"', '"patient-003"')
    with pytest.raises(LeakageError, match="'patient-003' stands 2 times"):
        Splits.from_json(text, "splits.json")


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_shuffling_exchanges_whole_patients(seed: int) -> None:
    data = make_data(40, seed)
    shuffled = shuffle_patients(data, seed)

    def by_patient(source: TrainingData) -> list[tuple[int, ...]]:
        order = np.argsort(source.image_ids)
        owners, labels = source.patient_ids[order], source.labels[order]
        return [tuple(labels[owners == patient]) for patient in np.unique(owners)]

    assert sorted(by_patient(data)) == sorted(by_patient(shuffled))
    assert (shuffled.patient_ids == data.patient_ids).all()
    assert (shuffled.images == data.images).all()
    np.testing.assert_array_equal(shuffled.labels, shuffle_patients(data, seed).labels)
    assert set(shuffled.patch_labels) <= {0, 1}


def test_shuffled_labels_say_nothing_about_the_true_ones() -> None:
    data = make_data(400, 0)
    together = [np.corrcoef(data.labels, shuffle_patients(data, seed).labels)[0, 1] for seed in range(20)]
    assert abs(np.mean(together)) < 0.05
    assert len({shuffle_patients(data, seed).labels.tobytes() for seed in range(5)}) == 5


def test_shuffling_data_without_patches() -> None:
    data = make_data(40, patches=False)
    assert len(shuffle_patients(data, 0).patch_labels) == 0


@given(st.integers(12, 40), st.integers(0, 5))
def test_forgotten_patients_stand_on_both_sides(patients: int, seed: int) -> None:
    data = make_data(patients, seed)
    leaky = forget_patients(data, seed)
    assert (leaky.patient_ids == data.image_ids).all()
    assert (leaky.images == data.images).all()
    assert (leaky.labels == data.labels).all()
    owner = dict(zip(data.image_ids.tolist(), data.patient_ids.tolist(), strict=True))
    assert [owner[image] for image in leaky.patch_patient_ids.tolist()] == data.patch_patient_ids.tolist()
    assert (leaky.patch_patient_ids == forget_patients(data, seed).patch_patient_ids).all()
    folds = make_splits(leaky, 3, 0).patients
    sides = {patient: {folds[image] for image in owner if owner[image] == patient} for patient in owner.values()}
    assert any(len(numbers) > 1 for numbers in sides.values())
    assert "patient" not in " ".join(folds)
