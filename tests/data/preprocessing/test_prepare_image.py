"""One image: all columns of its manifest, regions from masks, and rejects that tell nobody."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import CTImageStorage

from diagram_ray.data.decoding.dicom.kind import Allowed
from diagram_ray.data.preprocessing import prepare_image as preparation
from diagram_ray.data.preprocessing.prepare_image import (
    Options,
    Prepared,
    check_distinct,
    prepare_image,
)
from diagram_ray.data.preprocessing.pseudonyms import keyed_hash
from diagram_ray.data.records import OWN_COLUMNS, ImageRecord, Mask, Region, Reject
from diagram_ray.errors import DataError
from tests.support.sources.breasts import draw
from tests.support.sources.dicom_files import as_bytes, dicom

KEY = b"0123456789abcdef"


@pytest.fixture
def record(tmp_path: Path) -> ImageRecord:
    """A film of patient Doe-1 in site/doe_1/, stored with low values white and text burned in."""
    path = tmp_path / "site" / "doe_1" / "a.dcm"
    path.parent.mkdir(parents=True)
    film = (4095 - draw(3, 360, 240)).astype(np.uint16)
    header = dicom(film, BurnedInAnnotation="YES", PhotometricInterpretation="MONOCHROME1", ViewPosition="CC")
    path.write_bytes(as_bytes(header))
    columns: dict[str, str | float | None] = {"density": "b"}
    return ImageRecord(str(path), "site/doe_1/a.dcm", "Doe-1", "Doe-1/x", "L", None, "cancer", columns)


def options(record: ImageRecord) -> Options:
    return Options((96, 72), 32, 2, KEY, "negative", str(Path(record.path).parents[2]))


def prepared(record: ImageRecord) -> Prepared:
    item = prepare_image(record, options(record))
    assert isinstance(item, Prepared), item
    return item


def rejected(record: ImageRecord) -> Reject:
    item = prepare_image(record, options(record))
    assert isinstance(item, Reject)
    return item


def test_what_is_no_mammogram_is_a_reject_unless_allowed(record: ImageRecord) -> None:
    film = draw(3, 360, 240).astype(np.uint16)
    for allowed, changes, reason in (
        (Allowed(any_modality=True), {"SOPClassUID": CTImageStorage, "Modality": "CT"}, "CT Image Storage"),
        (Allowed(for_processing=True), {"PresentationIntentType": "FOR PROCESSING"}, "FOR PROCESSING"),
    ):
        Path(record.path).write_bytes(as_bytes(dicom(film, **changes)))
        assert reason in rejected(record).reason
        assert isinstance(prepare_image(record, replace(options(record), allowed=allowed)), Prepared)


def test_the_manifest_tells_what_it_should(record: ImageRecord) -> None:
    told = prepared(record).manifest
    assert set(told) == {*OWN_COLUMNS, "density"}
    assert (told["rows"], told["columns"]) == (360, 240)
    assert (told["burned_in"], told["inverted"], told["view"]) == (True, True, "CC")
    assert told["source_folder"] == f"site/{keyed_hash(KEY, 'Doe-1')}"
    assert told["image_id"] == keyed_hash(KEY, "site/doe_1/a.dcm"), "the path has the patient's key in it"
    assert 0.005 < told["label_part"] < 0.02
    assert told["grey_p05"] < told["grey_p50"] < told["grey_p95"]
    assert "doe" not in repr(told).lower()


def test_masks_and_regions_become_patches(record: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = Mask(("m.dcm",), "mass", "cancer")
    asked = []

    def regions(masks: tuple[Mask, ...], shape: tuple[int, int]) -> tuple[Region, ...]:
        asked.append((masks, shape))
        return tuple(Region((100, 20, 140, 60), mask.finding, mask.label) for mask in masks)

    monkeypatch.setattr(preparation.lesion_masks, "regions", regions)
    both = replace(record, masks=(mask,), regions=(Region((200, 20, 230, 50), "calcification", "benign"),))
    patches = prepared(both).patches
    assert [(one["finding"], one["label"]) for one in patches[:2]] == [("calcification", "benign"), ("mass", "cancer")]
    assert patches[1]["box"] == [100, 20, 140, 60]
    assert len(patches) == 4
    assert asked == [((mask,), (360, 240))]


def test_a_reject_does_not_name_the_patient(record: ImageRecord) -> None:
    Path(record.path).write_bytes(b"Doe-1")
    told = rejected(record)
    stand_in = keyed_hash(KEY, "Doe-1")
    assert told.path.endswith(f"/site/{stand_in}/a.dcm")
    assert told.patient_id is None
    assert "doe" not in told.reason.lower()


def test_a_fault_of_ours_is_a_reject_that_says_where(record: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise ZeroDivisionError("Doe-1")

    monkeypatch.setattr(preparation, "standardise", faulty)
    reason = rejected(record).reason
    assert reason.startswith("could not be prepared (ZeroDivisionError in test_prepare_image.py, line ")
    monkeypatch.setattr(preparation, "standardise", lambda *_: np.empty(2**50))
    assert rejected(record).reason == "does not fit in memory"


def test_the_key_is_not_shown(record: ImageRecord) -> None:
    assert "0123456789abcdef" not in repr(options(record))


def test_doubles_are_named_without_their_patient(record: ImageRecord) -> None:
    check_distinct([record, replace(record, path="b", image_id="b")])
    with pytest.raises(DataError, match=r"image_id .site/\.\.\./a\.dcm. stands 2 times, for 1 patient") as caught:
        check_distinct([record, replace(record, path="b")])
    assert "doe" not in str(caught.value).lower()
    with pytest.raises(DataError, match="for 2 patient"):
        check_distinct([record, replace(record, image_id="b", patient_id="Roe")])
