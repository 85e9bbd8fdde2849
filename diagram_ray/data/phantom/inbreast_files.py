"""The phantom's files as INbreast has them: DICOM images, OsiriX property lists and the table.

Nothing in them depends on the clock, the machine or the order of work: equal arguments give equal bytes.
"""

import plistlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.library import FileDataset, FileMetaDataset
from diagram_ray.data.decoding.dicom.library import uid as uids
from diagram_ray.data.phantom.lesions import Finding
from diagram_ray.data.phantom.patients import VIEWS, PatientPlan

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
_NO_POSITION = "(0.000000, 0.000000, 0.000000)"


def image_name(plan: PatientPlan, view: int) -> str:
    """The name of an image's file: <file id>_<16 hex digits>_MG_<L|R>_<CC|ML>_ANON.dcm"""
    side, projection = VIEWS[view]
    return f"{plan.file_id(view)}_{plan.key}_MG_{side}_{projection.replace('MLO', 'ML')}_ANON.dcm"


def write_dicom(
    path: Path, pixels: NDArray[np.uint16], plan: PatientPlan, view: int, seed: int, spacing: float
) -> None:
    """A Digital Mammography X-Ray image, MONOCHROME2, 14 of 16 bits. `pixels` is (H, W); `spacing` is in mm."""
    uid = uids.generate_uid(entropy_srcs=[f"phantom {seed} {plan.number} {view} {pixels.shape}"])
    image = new_dicom(path, pixels, uids.DigitalMammographyXRayImageStorageForPresentation, uid, bits=14)
    _describe(image, plan, view, seed)
    image.ImagerPixelSpacing = [f"{spacing:.6f}"] * 2
    image.save_as(path, enforce_file_format=True)


def new_dicom(
    path: Path, pixels: NDArray[np.unsignedinteger], sop_class: uids.UID, uid: uids.UID, bits: int
) -> FileDataset:
    """A MONOCHROME2 image with `pixels` (H, W), uint8 or uint16, of which `bits` are used; not written yet."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = uids.ExplicitVRLittleEndian
    image = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = sop_class, uid
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8 * pixels.itemsize, bits, bits - 1
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    return image


def annotation(findings: list[Finding], pixels: NDArray[np.uint16], spacing: float) -> bytes:
    """The property list with a view's findings: Type 15 for outlines, 19 for points, areas in cm2."""
    rois = [_roi(number, finding, pixels, spacing) for number, finding in enumerate(findings)]
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": rois}]})


def table(plans: Iterable[PatientPlan]) -> bytes:
    """INbreast.csv: semicolons and CRLF, one row an image."""
    lines = [HEADER]
    for plan in plans:
        for view, (side, projection) in enumerate(VIEWS):
            cells = (side, projection, plan.date, plan.file_id(view), str(plan.density), plan.birads[side])
            lines.append(";".join(("removed", "removed", *cells)))
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


def _describe(image: FileDataset, plan: PatientPlan, view: int, seed: int) -> None:
    side, projection = VIEWS[view]
    image.ImageType = ["ORIGINAL", "PRIMARY"]
    image.Modality, image.PresentationIntentType, image.BodyPartExamined = "MG", "FOR PRESENTATION", "BREAST"
    image.Manufacturer, image.SeriesDescription = "diagram_ray", "synthetic phantom"
    image.PatientName = image.PatientID = plan.key
    image.PatientIdentityRemoved, image.DeidentificationMethod = "YES", "synthetic: no patient exists"
    image.StudyDate = image.AcquisitionDate = f"{plan.date}01"
    image.StudyInstanceUID = uids.generate_uid(entropy_srcs=[f"phantom study {seed} {plan.number}"])
    image.SeriesInstanceUID = uids.generate_uid(entropy_srcs=[f"phantom series {seed} {plan.number} {view}"])
    image.InstanceNumber = view + 1
    image.ImageLaterality, image.ViewPosition = side, projection
    image.PatientOrientation = ["P" if side == "R" else "A", "L" if projection == "CC" else "FR"]


def _roi(number: int, finding: Finding, pixels: NDArray[np.uint16], spacing: float) -> dict[str, Any]:
    points = [f"({x:.6f}, {y:.6f})" for x, y in finding.points.tolist()]
    inside = _values(finding, pixels)
    return {
        "Area": _area(finding) * spacing**2 / 100.0,
        "Center": _NO_POSITION,
        "Dev": round(float(inside.std()), 6),
        "IndexInImage": number,
        "Max": float(inside.max()),
        "Mean": round(float(inside.mean()), 6),
        "Min": float(inside.min()),
        "Name": finding.name,
        "NumberOfPoints": len(points),
        "Point_mm": [_NO_POSITION] * len(points),
        "Point_px": points,
        "Total": float(inside.sum()),
        "Type": 15 if len(points) > 1 else 19,
    }


def _area(finding: Finding) -> float:
    """Square pixels within the outline."""
    x, y = finding.points.T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def _values(finding: Finding, pixels: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The pixels of the finding's bounding box, at least one."""
    left, top = np.minimum(finding.points.min(axis=0).astype(int), (pixels.shape[1] - 1, pixels.shape[0] - 1))
    right, bottom = finding.points.max(axis=0).astype(int) + 1
    return pixels[top : max(bottom, top + 1), left : max(right, left + 1)].astype(np.float64)
