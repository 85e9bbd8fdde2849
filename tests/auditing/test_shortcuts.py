"""A planted shortcut is found and named; without one nothing is said; where there is too little to tell, that is."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from diagram_ray.auditing.feature_groups import ALL_FILE, GROUPS, Group, Kind, encoded, plain_folder, with_derived
from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.learner import Question
from diagram_ray.auditing.shortcuts import SERIOUS, WARN, Score, ask, groups, score, shortcut_findings
from diagram_ray.data.splits import make_splits
from diagram_ray.evaluation.resampling import Interval

CLASSES = ("negative", "cancer")
BY_NAME = {group.name: group for group in groups()}
Make = Callable[..., pd.DataFrame]
Plant = Callable[[pd.DataFrame, NDArray[np.bool_], np.random.Generator], None]


def asked(manifest: pd.DataFrame) -> Question:
    question = ask(manifest, CLASSES, "fingerprint")
    assert isinstance(question, Question), question
    return question


def scores(manifest: pd.DataFrame, *names: str) -> list[Score]:
    question = asked(manifest)
    return [score(question, BY_NAME[name]) for name in (ALL_FILE.name, *names)]


def border(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    frame["border_part"] = np.where(sick, random.uniform(0.01, 0.05, len(frame)), 0.0)


def polarity(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    frame["inverted"] = random.random(len(frame)) < np.where(sick, 0.95, 0.05)


def folder(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    frame["source_folder"] = np.where(sick, "hospital-b/2012/", "hospital-a/2011/") + frame["exam_id"]


def size(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    frame["rows"] = np.where(sick, 3000, 2500) + random.integers(0, 300, len(frame))


def spacing(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    """Known of the healthy only: that it is missing tells the class."""
    frame["spacing_mm"] = np.where(sick, np.nan, random.choice([0.05, 0.07], len(frame)))


def scanner(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    frame["scanner"] = np.where(random.random(len(frame)) < 0.95, np.where(sick, "lumisys", "howtek"), "dba")


def middling(frame: pd.DataFrame, sick: NDArray[np.bool_], random: np.random.Generator) -> None:
    """The sick are in the middle of the healthy: no line tells them apart."""
    values = random.normal(0, 1, len(frame))
    frame["label_part"] = np.where(sick, random.normal(0, 0.1, len(frame)), np.sign(values) * (np.abs(values) + 0.5))


PLANTED: dict[str, Plant] = {
    "film border": border,
    "polarity": polarity,
    "source folder": folder,
    "image size": size,
    "pixel spacing": spacing,
    "scanner": scanner,
    "film labels": middling,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_shortcut_is_found_and_named(name: str, make_manifest: Make) -> None:
    manifest = make_manifest(60)
    PLANTED[name](manifest, (manifest["label"] == "cancer").to_numpy(), np.random.default_rng(0))
    other = next(group for group in ("side", "film border", "image size") if group != name)
    whole, mine, unrelated = scores(manifest, name, other)
    assert whole.severity is not Severity.INFO
    assert mine.severity is Severity.SERIOUS
    assert unrelated.severity is Severity.INFO
    (finding,) = shortcut_findings([whole, mine, unrelated], "")
    assert finding.severity is Severity.SERIOUS
    assert finding.code == "shortcut"
    assert name in finding.sentence
    assert other not in finding.sentence
    assert other not in finding.details


@pytest.mark.parametrize("seed", range(8))
def test_without_a_shortcut_nothing_is_said(seed: int, make_manifest: Make) -> None:
    question = asked(make_manifest(40, seed))
    assert shortcut_findings([score(question, group) for group in groups()], "") == []


def test_labels_of_patients_shuffled_end_a_shortcut(make_manifest: Make) -> None:
    """What is constant in a patient must not look like a shortcut because patients have several images."""
    manifest = make_manifest(60)
    random = np.random.default_rng(1)
    of_patient = dict(zip(manifest["patient_id"].unique(), random.random(60), strict=True))
    manifest["border_part"] = manifest["patient_id"].map(of_patient)
    manifest["source_folder"] = manifest["patient_id"].map(lambda patient: f"a/{patient}")
    assert all(each.severity is Severity.INFO for each in scores(manifest, "film border", "source folder"))


def test_the_folds_are_those_of_a_study(make_manifest: Make) -> None:
    question = asked(make_manifest(40).sample(frac=1, random_state=0))
    owners = pd.DataFrame({"patient": question.patients, "fold": question.folds})
    assert (owners.groupby("patient")["fold"].nunique() == 1).all()
    assert sorted(set(question.folds.tolist())) == [0, 1, 2, 3, 4]
    assert question.images["image_id"].is_monotonic_increasing
    assert make_splits is not None


def test_the_same_table_in_another_order_gives_the_same_score(make_manifest: Make) -> None:
    manifest = make_manifest(40)
    shuffled = manifest.sample(frac=1, random_state=3)
    assert score(asked(manifest), ALL_FILE) == score(asked(shuffled), ALL_FILE)


def test_too_few_patients_to_tell(make_manifest: Make) -> None:
    reason = ask(make_manifest(20), CLASSES, "fingerprint")
    assert reason == "too few patients to tell: cancer has 8, and 10 of each class are needed"
    (finding,) = shortcut_findings([], str(reason))
    assert finding.severity is Severity.INFO
    assert "could not be judged: too few patients to tell: cancer has 8" in finding.sentence


def test_a_wide_interval_is_no_all_clear() -> None:
    (finding,) = shortcut_findings([Score(ALL_FILE, Interval(0.6, 0.3, 0.85))], "")
    assert finding.severity is Severity.INFO
    assert finding.sentence.startswith(
        "Too few patients to rule a shortcut out: without looking at the breast, AUC 0.60"
    )


@pytest.mark.parametrize(
    ("low", "severity"),
    [
        (0.5, None),
        (WARN, None),
        (WARN + 0.01, Severity.WARNING),
        (SERIOUS, Severity.WARNING),
        (SERIOUS + 0.01, Severity.SERIOUS),
    ],
)
def test_the_lower_bound_decides(low: float, severity: Severity | None) -> None:
    found = shortcut_findings([Score(ALL_FILE, Interval(0.9, low, 0.95))], "")
    assert [finding.severity for finding in found] == ([] if severity is None else [severity])


def test_what_looks_at_the_breast_is_told_but_no_shortcut() -> None:
    bright = next(group for group in GROUPS if group.kind is Kind.BREAST)
    (finding,) = shortcut_findings(
        [Score(ALL_FILE, Interval(0.5, 0.4, 0.6)), Score(bright, Interval(0.99, 0.97, 1.0))], ""
    )
    assert (finding.severity, finding.code) == (Severity.INFO, "brightness")


def test_a_dataset_that_tells_nothing_of_its_files(make_manifest: Make) -> None:
    manifest = make_manifest(40)[["image_id", "patient_id", "label"]]
    question = asked(manifest)
    (finding,) = shortcut_findings([score(question, group) for group in groups()], "")
    assert "had nothing to look at" in finding.sentence


@pytest.mark.parametrize(
    ("folder", "plain"),
    [
        ("cancers/cancer_01/case0001", "//case0001"),
        ("benign_without_callbacks/x", "/x"),
        ("Malignant", ""),
        ("1/site-a", "/site-a"),
        ("hospital-a/2011", "hospital-a/2011"),
        ("", ""),
    ],
)
def test_folders_named_for_a_class_do_not_count(folder: str, plain: str) -> None:
    assert plain_folder(folder, ("0", "1")) == plain


def test_class_folders_are_no_shortcut(make_manifest: Make) -> None:
    manifest = make_manifest(40)
    manifest["source_folder"] = manifest["label"] + "/x"
    assert encoded(manifest, BY_NAME["source folder"], CLASSES).shape == (160, 0)
    assert score(asked(manifest), BY_NAME["source folder"]).auc is None


def one(name: str, values: list[Any], patients: list[str] | None = None) -> NDArray[np.float64]:
    frame = pd.DataFrame({"patient_id": patients or [f"p{i}" for i in range(len(values))], name: values})
    return encoded(frame, Group("x", Kind.FILE, (name,), ""), CLASSES)


def test_how_features_become_numbers() -> None:
    assert one("rows", [3, 3, 3]).shape == (3, 0), "what is constant tells nothing"
    assert one("rows", [1, 2, None, 5]).tolist() == [[1, 0], [2, 0], [2, 1], [5, 0]], (
        "the median, and that it is missing"
    )
    assert one("inverted", [True, False, True]).tolist() == [[1], [0], [1]]
    assert one("burned_in", [None, True, None]).tolist() == [[1], [0], [1]], "whether it is known"
    assert one("spacing_mm", [None, None]).shape == (2, 0)
    assert one("rows", ["12", "many", "14"]).tolist() == [[12, 0], [13, 1], [14, 0]]
    sides = one("laterality", ["L", "R", "L", None, "R", None])
    assert sorted(sides.sum(axis=1)) == [1] * 6, "one column a value, and one for none"
    assert one("view", ["CC", "CC", "odd"]).tolist() == [[1], [1], [0]], "one patient's value cannot be learned"
    assert one("view", ["CC", "CC", "odd"], ["a", "a", "b"]).shape == (3, 0)


def test_aspect_needs_both_sides() -> None:
    assert with_derived(pd.DataFrame({"rows": [200], "columns": [100]}))["aspect"].tolist() == [0.5]
    assert "aspect" not in with_derived(pd.DataFrame({"rows": [200]}))
