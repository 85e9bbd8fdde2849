"""What kind of object a DICOM file is: mammograms are read, other kinds are refused by their names.

A file is recognised by its SOP class and its Modality. Secondary Capture stays a mammogram, as do CR and DX images:
films of CBIS-DDSM and of many archives are that. What neither of the two says anything of is taken for a mammogram. The
names quoted are those of the standard; other text of a header might identify a patient.
"""

from dataclasses import dataclass

from diagram_ray.data.decoding.dicom.library import Dataset, uid
from diagram_ray.errors import DataError

TAGS = (
    "SOPClassUID",
    "Modality",
    "PresentationIntentType",
    "SharedFunctionalGroupsSequence",
)
"""The tags of a header that are used here."""
PROCESSING = (uid.DigitalMammographyXRayImageStorageForProcessing, uid.DigitalXRayImageStorageForProcessing)
CLASSES = (
    *PROCESSING,
    uid.DigitalMammographyXRayImageStorageForPresentation,
    uid.BreastTomosynthesisImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.ComputedRadiographyImageStorage,
    uid.SecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    uid.MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    uid.MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""SOP classes that mammograms have. Some of them hold several frames or colours, which is looked at elsewhere."""
_OTHERS = (
    "ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT "
    "IVUS KER KO LEN LS M3D MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS PA PLAN POS PR PT PX REG RESP RF RG RTDOSE "
    "RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA "
    "XAPROTOCOL XC"
)
OTHER_MODALITIES = frozenset(_OTHERS.split())
"""Values of (0008,0060) Modality in PS3.3 C.7.3.1.1.1 without MG, a mammogram, and OT, which says nothing."""


@dataclass(frozen=True)
class Allowed:
    """Which images are read although they are refused usually."""

    any_modality: bool = False
    """Whether images are read that say that they are no mammograms."""
    for_processing: bool = False
    """Whether images FOR PROCESSING are read."""


USUAL = Allowed()
"""Mammograms FOR PRESENTATION only."""


def check_kind(header: Dataset, allowed: Allowed) -> None:
    """Raises DataError for what is no mammogram, or FOR PROCESSING, unless that is allowed."""
    sop_class = _sop_class(header)
    modality = str(header.get("Modality") or "").strip().upper()
    other_class = sop_class.type == "SOP Class" and sop_class not in CLASSES
    if not allowed.any_modality and (other_class or modality in OTHER_MODALITIES):
        parts = ["(0008,0016) SOP Class is " + sop_class.name] * (sop_class.type == "SOP Class")
        parts += ["(0008,0060) Modality is " + modality] * (modality in OTHER_MODALITIES)
        raise DataError(f"is not a mammogram: {', '.join(parts)}; --any-modality takes other kinds of image, too")
    intent = str(header.get("PresentationIntentType") or "").strip().upper()
    if not allowed.for_processing and (intent == "FOR PROCESSING" or (not intent and sop_class in PROCESSING)):
        raise DataError(
            "is FOR PROCESSING by its (0008,0068) Presentation Intent Type or SOP class: the detector's values, not "
            "the picture made of them for reading; --for-processing takes it, too"
        )


def check_single(header: Dataset) -> None:
    """Raises DataError for a tomosynthesis and for enhanced objects, which keep what belongs to a frame elsewhere."""
    sop_class = _sop_class(header)
    if sop_class == uid.BreastTomosynthesisImageStorage:
        raise DataError("is a tomosynthesis; only single mammograms are read")
    if "SharedFunctionalGroupsSequence" in header:
        name = f" ({sop_class.name})" if sop_class.type == "SOP Class" else ""
        raise DataError(f"is an enhanced object{name}, with functional groups of frames; only plain images are read")


def _sop_class(header: Dataset) -> uid.UID:
    return uid.UID(str(header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID") or ""))
