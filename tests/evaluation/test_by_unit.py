"""A breast is the mean of its views, a patient the higher breast; patients are drawn whole whatever is counted."""

import numpy as np
import pandas as pd
import pytest

from diagram_ray.evaluation.estimates.by_unit import by_breast, by_patient, unit_estimates
from diagram_ray.evaluation.metrics import auc


def table(patients: int = 40, repeats: int = 1) -> tuple[pd.DataFrame, dict[str, str]]:
    """Two views of each breast; cancer, if any, in the left one."""
    random, rows, sides = np.random.default_rng(0), [], {}
    for repeat in range(repeats):
        for n in range(patients):
            for i, side in enumerate("LLRR"):
                label = int(n % 2 and side == "L")
                name = f"p{n:02d}-{i}"
                sides[name] = side
                fold = n // 2 % 2
                score = 1.5 * label + random.normal()
                rows.append((3, repeat, fold, name, f"p{n:02d}", label, score))
    names = ["trial", "repeat", "fold", "image_id", "patient_id", "label", "score"]
    return pd.DataFrame(rows, columns=names), sides


def test_the_scores_of_breasts_and_patients() -> None:
    images, sides = table()
    breasts, mine = by_breast(images, sides), images[images["patient_id"] == "p01"]
    left, right = mine["score"].iloc[:2].mean(), mine["score"].iloc[2:].mean()
    found = breasts[breasts["patient_id"] == "p01"].set_index("image_id")
    assert found["score"].to_dict() == pytest.approx({"p01-L": left, "p01-R": right})
    assert found["label"].to_dict() == {"p01-L": 1, "p01-R": 0}
    patient = by_patient(breasts).set_index("patient_id").loc["p01"]
    assert (patient["score"], patient["label"]) == (max(left, right), 1)


def test_the_three_aucs_are_means_over_folds() -> None:
    images, sides = table()
    found = {unit.unit: unit for unit in unit_estimates(images, sides, 200)}
    assert [(u.unit, u.count, u.positive) for u in found.values()] == [
        ("image", 160, 40),
        ("breast", 80, 20),
        ("patient", 40, 20),
    ]
    for name, counted in (("image", images), ("breast", by_breast(images, sides))):
        expected = np.mean([auc(f["label"], f["score"]) for _, f in counted.groupby("fold")])
        assert found[name].auc.value == pytest.approx(expected)
        assert found[name].auc.low < expected < found[name].auc.high
    assert found["breast"].auc.value > found["image"].auc.value  # two views know more than one


def test_a_repeat_does_not_count_units_again() -> None:
    images, sides = table(repeats=2)
    assert [unit.count for unit in unit_estimates(images, sides, 50)] == [160, 80, 40]


def test_without_all_sides_there_are_no_breasts() -> None:
    images, sides = table()
    del sides["p00-0"]
    for known in (sides, None):
        assert [unit.unit for unit in unit_estimates(images, known, 50)] == ["image", "patient"]


def test_a_unit_of_one_class_has_no_auc() -> None:
    images, sides = table()
    assert unit_estimates(images[images["patient_id"].isin(["p01", "p03", "p05"])], sides, 50)[-1].auc is None
