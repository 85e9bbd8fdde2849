"""What trivial features reach on a study's own folds: its target and patients, nothing seen of whom is scored."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from diagram_ray.auditing.baselines import BASELINES, Baselines, identity, measure, question
from diagram_ray.auditing.description import BINS, PICTURE, picture_numbers
from diagram_ray.auditing.feature_groups import ALL_BREAST, GROUPS
from diagram_ray.auditing.learner import scores_of
from diagram_ray.config import DataConfig
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.evaluation.metrics import auc

CONFIG = DataConfig()
BRIGHTNESS = next(group for group in GROUPS if group.name == "brightness")


def made(patients: int = 40, step: int = 6000, seed: int = 0) -> TrainingData:
    """Two images a patient, black at the right; in every other patient they are brighter by `step`."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    labels = (owner % 2).astype(np.int64)
    images = random.integers(10000, 30000, (len(owner), 16, 16)) + (labels * step)[:, None, None]
    images += random.integers(0, 6000, len(owner))[:, None, None]
    images[:, :, 10:] = 0
    empty = np.zeros((0, 16, 16), np.uint16)
    return TrainingData(
        images=images.astype(np.uint16),
        labels=labels,
        image_ids=np.array([f"i{number:03d}" for number in range(len(owner))]),
        patient_ids=np.array([f"p{number:02d}" for number in owner]),
        patches=empty,
        patch_labels=np.zeros(0, np.int64),
        patch_patient_ids=np.zeros(0, np.str_),
        classes=("low", "high"),
        fingerprint="f" * 64,
    )


def manifest_of(data: TrainingData, **columns: object) -> pd.DataFrame:
    """In another order than the data."""
    frame = pd.DataFrame({"image_id": data.image_ids, "patient_id": data.patient_ids, "label": data.labels.astype(str)})
    return frame.assign(**columns).sample(frac=1, random_state=1)


def measured(
    data: TrainingData, splits: Splits, manifest: pd.DataFrame | None = None, config: DataConfig = CONFIG
) -> Baselines:
    found = measure(question(data, splits, manifest, config), lambda: False)
    assert found is not None
    return found


def reached(found: Baselines) -> dict[str, float]:
    return {group["name"]: group["auc_mean"] for group in found.groups}


def test_brightness_that_goes_with_the_class_is_found_and_size_is_not_without_reason() -> None:
    data = made()
    found = measured(data, make_splits(data, 4, 0))
    assert reached(found)["brightness"] > 0.8
    assert reached(found)["grey levels and size together"] > 0.8
    assert "breast size" in found.absent, "the breast is equally large in all pictures"
    assert {"scanner", "source folder", "all facts of the file"} <= set(found.absent), (
        "nobody has told the files' facts"
    )


def test_every_image_is_scored_once_by_group_in_the_fold_of_its_patient() -> None:
    data = made()
    splits = make_splits(data, 4, 3)
    found = measured(data, splits, manifest_of(data, rows=np.arange(80)))
    for group in found.groups:
        mine = found.scores[found.scores["group"] == group["name"]]
        assert mine["image_id"].tolist() == data.image_ids.tolist()
        assert mine["label"].tolist() == data.labels.tolist()
        assert mine["fold"].tolist() == [splits.patients[patient] for patient in data.patient_ids.tolist()]
        folds = [auc(part["label"].to_numpy(), part["score"].to_numpy()) for _, part in mine.groupby("fold")]
        assert group["fold_auc"] == folds
        assert group["auc_mean"] == pytest.approx(np.mean(folds))


def test_no_image_is_scored_by_a_model_that_has_seen_its_patient() -> None:
    """Other labels of a fold change the scores of all folds but that one."""
    data = made()
    splits = make_splits(data, 4, 0)
    asked = question(data, splits, None, CONFIG)
    mine = asked.folds == 2
    other = replace(asked, labels=np.where(mine, 1 - asked.labels, asked.labels))
    before, after = scores_of(asked, ALL_BREAST), scores_of(other, ALL_BREAST)
    assert before is not None
    assert after is not None
    assert (before[mine] == after[mine]).all()
    assert all((before[asked.folds == fold] != after[asked.folds == fold]).any() for fold in (0, 1, 3))


def test_facts_of_the_manifest_go_with_their_images_whatever_its_order() -> None:
    data = made(step=0)
    splits = make_splits(data, 4, 0)
    spacing = np.where(data.labels == 1, 0.05, 0.07)
    found = reached(measured(data, splits, manifest_of(data, spacing_mm=spacing)))
    assert found["pixel spacing"] == found["all facts of the file"] == 1.0
    assert found["everything together"] > 0.95
    assert found["brightness"] < 0.7


def test_the_target_itself_is_no_hint_nor_is_a_folder_named_for_a_class() -> None:
    data = made(step=0)
    views = np.where(data.labels == 1, "MLO", "CC")
    config = DataConfig(target="view", classes={"low": ["CC"], "high": ["MLO"]})
    manifest = manifest_of(data, view=views, source_folder=[f"{view}/a" for view in views])
    found = measured(data, make_splits(data, 4, 0), manifest, config)
    assert {"view", "source folder"} <= set(found.absent)
    assert max(reached(found).values()) < 0.75
    assert reached(measured(data, make_splits(data, 4, 0), manifest))["view"] == 1.0


def test_a_study_of_which_nothing_varies_says_so() -> None:
    data = made()
    data = replace(data, images=np.full_like(data.images, 7))
    with pytest.raises(DataError, match="is the same for all of them"):
        measured(data, make_splits(data, 4, 0))


def test_a_fold_whose_training_part_has_one_class_is_told() -> None:
    data = made(patients=6)
    folds = {patient: 0 if label else 1 for patient, label in zip(data.patient_ids.tolist(), data.labels, strict=True)}
    with pytest.raises(DataError, match="fold 0: the images of the other folds are all of one class"):
        question(data, Splits(2, 0, data.fingerprint, folds), None, CONFIG)


def test_it_can_be_stopped() -> None:
    data = made()
    assert measure(question(data, make_splits(data, 4, 0), None, CONFIG), lambda: True) is None


def test_the_same_data_and_folds_have_the_same_baselines_and_identity() -> None:
    data = made()
    splits = make_splits(data, 4, 0)
    pd.testing.assert_frame_equal(measured(data, splits).scores, measured(data, splits).scores, check_exact=True)
    assert identity(data, splits) == identity(made(), make_splits(made(), 4, 0))
    assert identity(data, splits) != identity(data, make_splits(data, 4, 1))
    assert identity(data, splits) != identity(replace(data, labels=1 - data.labels), splits)


def test_names_of_groups_are_told_apart() -> None:
    assert len({group.name for group in BASELINES}) == len(BASELINES)


def test_what_a_picture_tells_counted_by_hand() -> None:
    picture = np.zeros((2, 5), np.uint16)
    picture[0, :4] = (1, 65535, 32768, 2048)
    (row,) = picture_numbers([picture]).to_dict("records")
    assert row["picture_part"] == 0.4
    bins = [row[f"grey_bin_{number:02d}"] for number in range(BINS)]
    assert [number for number, part in enumerate(bins) if part] == [0, 1, 16, 31]
    assert sum(bins) == 1
    levels = np.array([1, 2048, 32768, 65535]) / 65535
    assert row["picture_mean"] == pytest.approx(levels.mean())
    assert row["picture_sd"] == pytest.approx(np.sqrt(((levels - levels.mean()) ** 2).mean()))
    assert row["picture_p50"] == pytest.approx((2048 + 32768) / 2 / 65535)
    assert set(row) == set(PICTURE)


def test_a_picture_without_a_breast_is_all_zeros() -> None:
    black: NDArray[np.uint16] = np.zeros((4, 4), np.uint16)
    assert not picture_numbers([black]).to_numpy().any()


def test_the_audit_describes_pictures_in_the_same_columns(make_pictures: Callable[[int], NDArray[np.uint16]]) -> None:
    pictures = make_pictures(3)
    found = picture_numbers(pictures)
    assert found.shape == (3, len(PICTURE))
    assert found["picture_part"].tolist() == [float((picture > 0).mean()) for picture in pictures]
    assert BRIGHTNESS.columns == tuple(PICTURE[-len(BRIGHTNESS.columns) :])
