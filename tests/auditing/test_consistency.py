"""The manifest, the images and the patches have to say the same."""

from collections.abc import Callable

import pandas as pd
import pytest

from diagram_ray.auditing.consistency import image_findings, patch_findings, patch_flaws
from diagram_ray.auditing.findings import Severity

Make = Callable[..., pd.DataFrame]


def patches_of(manifest: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "patch_id": manifest["image_id"] + "-000",
            "image_id": manifest["image_id"],
            "patient_id": manifest["patient_id"],
            "label": manifest["label"],
            "kind": "roi",
        }
    )


def test_patches_that_agree(make_manifest: Make) -> None:
    manifest = make_manifest(10)
    patches = patches_of(manifest)
    patches.loc[0, "label"] = None
    patches.loc[1, "label"] = "negative"
    manifest.loc[2, "label"] = None
    assert patch_flaws(patches, manifest, "cancer").empty
    assert patch_findings(patch_flaws(patches, manifest, "cancer"), 40, 40) == []


def test_patches_of_another_patient_of_no_image_and_of_another_class(make_manifest: Make) -> None:
    manifest = make_manifest(10)
    patches = patches_of(manifest)
    patches.loc[0, "patient_id"] = "patient-009"
    patches.loc[[1, 2], "image_id"] = "nowhere"
    healthy = int((manifest["label"] == "negative").to_numpy().nonzero()[0][-1])
    patches.loc[healthy, "label"] = "cancer"
    found = {each.code: each for each in patch_findings(patch_flaws(patches, manifest, "cancer"), 40, 41)}
    assert {code: each.severity for code, each in found.items()} == {
        "missing-patches": Severity.SERIOUS,
        "foreign-patches": Severity.SERIOUS,
        "orphan-patches": Severity.SERIOUS,
        "contrary-patches": Severity.WARNING,
    }
    assert found["missing-patches"].sentence == "There are 40 patches, and dataset.json says 41."
    assert found["foreign-patches"].sentence.startswith("1 patch is cut from 1 image of another patient: image-000-RCC")
    assert found["orphan-patches"].sentence.startswith("2 patches are from 1 image that the dataset does not have")


def images_of(manifest: pd.DataFrame) -> pd.DataFrame:
    return manifest[["image_id", "patient_id", "label"]].assign(digest=manifest["image_id"])


def test_images_that_agree(make_manifest: Make) -> None:
    manifest = make_manifest(10)
    manifest.loc[3, "label"] = None
    assert image_findings(images_of(manifest), manifest.assign(digest=manifest["image_id"])) == []
    assert image_findings(images_of(manifest), manifest) == [], "an older manifest has no digest"


@pytest.mark.parametrize(
    ("column", "code"), [("patient_id", "other-patient_id"), ("label", "other-label"), ("digest", "other-digest")]
)
def test_an_image_that_its_shard_tells_otherwise(column: str, code: str, make_manifest: Make) -> None:
    manifest = make_manifest(10).assign(digest=lambda frame: frame["image_id"])
    images = images_of(manifest)
    images.loc[5, column] = "something else"
    (finding,) = image_findings(images, manifest)
    assert finding.code == code
    assert finding.severity is Severity.SERIOUS
    assert manifest["image_id"][5] in finding.sentence


def test_images_that_are_missing_doubled_or_unknown(make_manifest: Make) -> None:
    manifest = make_manifest(10)
    images = pd.concat([images_of(manifest).iloc[1:], images_of(manifest).iloc[[4]]], ignore_index=True)
    images.loc[len(images)] = ["stranger", "patient-000", "cancer", "x"]
    assert {finding.code for finding in image_findings(images, manifest)} == {
        "missing-images", "doubled-images", "unknown-images",
    }  # fmt: skip
