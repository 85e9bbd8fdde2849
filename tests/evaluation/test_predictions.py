"""Every image exactly once per repeat, with its own patient, or the image is named."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.errors import DataError, LeakageError
from diagram_ray.evaluation.predictions import check_predictions

IMAGES = ["a1", "a2", "b1", "c1"]
PATIENTS = ["A", "A", "B", "C"]


def table(**changes):
    frame = pd.DataFrame(
        {
            "fold": [0, 0, 1, 1],
            "image_id": IMAGES,
            "patient_id": PATIENTS,
            "label": [0, 1, 0, 1],
            "score": [0.1, 0.9, 0.2, 0.4],
        }
    )
    return frame.assign(**changes)


def test_a_whole_table_passes_in_any_order():
    check_predictions(table(), IMAGES, PATIENTS)
    check_predictions(pa.Table.from_pandas(table()[::-1]), np.array(IMAGES), np.array(PATIENTS))


def test_repeats_are_checked_one_by_one():
    twice = pd.concat([table(repeat=0), table(repeat=1, fold=[1, 1, 0, 1])])
    check_predictions(twice, IMAGES, PATIENTS, repeats=2)
    with pytest.raises(DataError, match=r"repeat 1.*image b1 of patient B has no prediction"):
        check_predictions(pd.concat([table(repeat=0), table(repeat=1).drop(index=2)]), IMAGES, PATIENTS, repeats=2)
    with pytest.raises(DataError, match="repeat 1: expected 0 to 0"):
        check_predictions(twice, IMAGES, PATIENTS)
    with pytest.raises(DataError, match=r"repeat 1.*no prediction"):
        check_predictions(table(repeat=0), IMAGES, PATIENTS, repeats=2)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (table().iloc[:3], "image c1 of patient C has no prediction .1 of 4"),
        (table().iloc[:0], "4 of 4 images have none"),
        (pd.concat([table(), table().iloc[[2]]]), "image b1 is predicted 2 times"),
        (table(image_id=["a1", "a2", "b1", "x9"]), "image x9 is not in the dataset"),
        (
            table(patient_id=["A", "B", "B", "C"], fold=[0, 1, 1, 1]),
            "image a2 stands there with patient B.*of patient A",
        ),
        (table(score=[0.1, np.nan, 0.2, 0.4]), "image a2 has the score nan"),
        (table(score=[0.1, 0.9, np.inf, 0.4]), "image b1 has the score inf"),
        (table().drop(columns="score"), "column 'score' is missing"),
    ],
)
def test_what_is_wrong_is_named(broken, message):
    with pytest.raises(DataError, match=message):
        check_predictions(broken, IMAGES, PATIENTS)


def test_a_patient_in_two_folds_is_a_leak():
    with pytest.raises(LeakageError, match="patient A is in 2 folds"):
        check_predictions(table(fold=[0, 1, 1, 1]), IMAGES, PATIENTS)


def test_an_image_keeps_its_label_from_repeat_to_repeat():
    with pytest.raises(DataError, match="image a1 has 2 different labels"):
        check_predictions(pd.concat([table(repeat=0), table(repeat=1, label=[1, 1, 0, 1])]), IMAGES, PATIENTS, 2)


@given(st.lists(st.sampled_from(IMAGES), max_size=8))
def test_only_a_permutation_of_the_images_passes(chosen):
    frame = table().set_index("image_id").loc[chosen].reset_index()
    if sorted(chosen) == sorted(IMAGES):
        check_predictions(frame, IMAGES, PATIENTS)
    else:
        with pytest.raises(DataError):
            check_predictions(frame, IMAGES, PATIENTS)
