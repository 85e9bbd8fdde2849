"""Small DICOM files in any transfer syntax, for the tests."""

import io
from pathlib import Path

import gdcm
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

SHAPE = (64, 48)
_Y, _X = np.mgrid[: SHAPE[0], : SHAPE[1]]
GREY = ((_Y * 40 + _X * 20) % 4000 + np.random.default_rng(0).integers(0, 60, SHAPE)).astype(np.uint16)
"""12 bits, smooth enough for lossy coders."""
GREY8 = (GREY >> 4).astype(np.uint8)


def dicom(pixels: NDArray[np.generic] = GREY, bits: int = 12, **changes: object) -> Dataset:
    """A mammogram with `pixels` of `bits` stored bits, and other header fields as wanted (None takes one away)."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    header.SOPInstanceUID = "1.2.3"
    header.Rows, header.Columns, header.SamplesPerPixel = *pixels.shape, 1
    header.BitsAllocated, header.BitsStored, header.HighBit = 8 * pixels.dtype.itemsize, bits, bits - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    header.PhotometricInterpretation = "MONOCHROME2"
    header.PatientName, header.PatientID = "Doe^Jane", "4711"
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    for name, value in changes.items():
        if value is None:
            delattr(header, name)
        else:
            setattr(header, name, value)
    return header


def coded(header: Dataset, kind: str, folder: Path) -> Dataset:
    """The same file with its pixels compressed by GDCM, `kind` being its name of the transfer syntax."""
    header.save_as(folder / "plain.dcm", enforce_file_format=True)
    reader, change = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax()
    reader.SetFileName(str(folder / "plain.dcm"))
    assert reader.Read()
    syntax = gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, kind))
    change.SetTransferSyntax(syntax)
    change.SetInput(reader.GetImage())
    assert change.Change()
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    parts = [fragments.GetFragment(number).GetByteValue() for number in range(fragments.GetNumberOfFragments())]
    frame = b"".join(part.GetBuffer().encode("utf-8", "surrogateescape") for part in parts)
    header.file_meta.TransferSyntaxUID = syntax.GetString()
    return with_frame(header, frame)


def with_frame(header: Dataset, frame: bytes, fragments: int = 1) -> Dataset:
    """The header with a coded frame in place of its pixels."""
    header.PixelData = encapsulate([frame], fragments_per_frame=fragments)
    header["PixelData"].VR = "OB"
    header["PixelData"].is_undefined_length = True
    return header


def as_bytes(header: Dataset) -> bytes:
    """The file."""
    buffer = io.BytesIO()
    header.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
