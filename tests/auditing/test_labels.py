"""Labels that contradict each other are told from those that only look so."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from diagram_ray.auditing.findings import Finding, Severity
from diagram_ray.auditing.labels import label_findings

CLASSES = ("negative", "cancer")
Make = Callable[..., pd.DataFrame]


def codes(findings: list[Finding]) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in findings}


def judged(manifest: pd.DataFrame) -> dict[str, Severity]:
    return codes(label_findings(manifest, described(manifest), CLASSES))


def described(manifest: pd.DataFrame) -> pd.DataFrame:
    """All pictures are different."""
    return manifest.assign(digest=manifest["image_id"])


def test_one_healthy_and_one_diseased_breast_is_normal(make_manifest: Make) -> None:
    manifest = make_manifest(40)
    assert judged(manifest) == {"mixed-patients": Severity.INFO}
    (finding,) = label_findings(manifest, described(manifest), CLASSES)
    assert finding.sentence.startswith("16 of 40 patients have images of more than one class. A healthy breast")


def test_where_the_side_is_unknown_it_cannot_be_told(make_manifest: Make) -> None:
    manifest = make_manifest(40).assign(laterality=None)
    (finding,) = label_findings(manifest, described(manifest), CLASSES)
    assert "The side of the images is not known" in finding.sentence


def relabelled(manifest: pd.DataFrame, row: int, **values: Any) -> pd.DataFrame:
    changed = manifest.copy()
    for name, value in values.items():
        changed.loc[row, name] = value
    return changed


def test_two_labels_of_one_breast(make_manifest: Make) -> None:
    """In two views they may be right; in one view of one exam they are not; in two exams they are again."""
    manifest = make_manifest(40)
    healthy = int((manifest["patient_id"] == "patient-003").to_numpy().argmax())
    one_view = relabelled(manifest, healthy, label="cancer")
    assert judged(one_view)["breast-labels"] is Severity.INFO
    assert "film-labels" not in judged(one_view)
    twice = pd.concat(
        [one_view, one_view.iloc[[healthy]].assign(image_id="again", label="negative")], ignore_index=True
    )
    assert judged(twice)["film-labels"] is Severity.WARNING
    later = relabelled(twice, len(twice) - 1, exam_id="exam-later")
    assert "film-labels" not in judged(later)
    for key in ("view", "laterality", "exam_id"):
        assert "film-labels" not in judged(twice.assign(**{key: None})), f"{key} is not known, so nothing can be said"
        assert "film-labels" not in judged(twice.drop(columns=key))


def test_one_picture_with_two_labels_is_wrong_whoever_has_it(make_manifest: Make) -> None:
    manifest = make_manifest(40)
    images = described(manifest)
    sick = int((images["label"] == "cancer").to_numpy().argmax())
    healthy = int((images["patient_id"] == "patient-003").to_numpy().argmax())
    images.loc[healthy, "digest"] = images.loc[sick, "digest"]
    found = label_findings(manifest, images, CLASSES)
    assert codes(found)["two-labels"] is Severity.SERIOUS
    assert "1 picture has two labels" in found[0].sentence
    assert images.loc[sick, "image_id"] in found[0].sentence


def test_images_without_a_label_are_counted_and_contradict_nothing(make_manifest: Make) -> None:
    manifest = make_manifest(40)
    manifest.loc[manifest.index % 7 == 0, "label"] = None
    (finding,) = [each for each in label_findings(manifest, described(manifest), CLASSES) if each.code == "no-label"]
    assert finding.sentence == "23 images have no label and are not used."


@pytest.mark.parametrize(("patients", "few"), [(20, True), (22, False)])
def test_too_few_patients_of_a_class(patients: int, few: bool, make_manifest: Make) -> None:
    """Of 20 patients 8 have cancer, of 22 ten."""
    assert ("few-patients" in judged(make_manifest(patients))) is few
