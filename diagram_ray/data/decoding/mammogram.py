"""One image file, decoded: DICOM, PGM, PNG, JPEG, TIFF or a film of DDSM, from a local path or an fsspec URI.

Only whitelisted header fields leave this module: laterality, view, pixel size and two flags. Files are hostile input:
the kind is recognised by the first bytes, sizes are limited before pixels are decoded, and whatever goes wrong is a
DataError that says what in our own words: those of a decoder may quote what a header says of a patient.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.dicom.header import is_dicom
from diagram_ray.data.decoding.dicom.image import read_dicom, read_mask
from diagram_ray.data.decoding.dicom.kind import USUAL, Allowed
from diagram_ray.data.decoding.digitised_film import is_film, read_film
from diagram_ray.data.decoding.gzip import unpacked
from diagram_ray.data.decoding.limits import LARGEST_FILE, checked
from diagram_ray.data.decoding.raster_image import read_picture
from diagram_ray.data.records import Film
from diagram_ray.errors import DataError
from diagram_ray.storage.object_store import StorePath, missing
from diagram_ray.storage.opening import open_file


@dataclass(frozen=True)
class Mammogram:
    """A decoded image, as stored: tissue may be bright or dark, the breast on either side."""

    pixels: NDArray[np.float32]
    """The grey levels, (H, W)."""
    laterality: str | None = None
    """The breast, 'L' or 'R', from (0020,0062) Image Laterality or (0020,0060) Laterality."""
    view: str | None = None
    """The view, 'CC', 'MLO', ..., from (0018,5101) View Position."""
    spacing_mm: float | None = None
    """The size of a pixel, from (0018,1164) Imager Pixel Spacing or (0028,0030) Pixel Spacing."""
    inverted: bool = False
    """Whether the file says that high values are dark: MONOCHROME1 in (0028,0004), or INVERSE in (2050,0020). `pixels`
    are not turned round."""
    burned_in: bool | None = None
    """Whether text in the pixels identifies the patient, from (0028,0301); None where the file does not say."""


def read_mammogram(path: str, film: Film | None = None, allowed: Allowed = USUAL) -> Mammogram:
    """Decodes a file. Raises DataError, whose message is the reason alone: the caller knows the path.

    `film` says what a DDSM film's file does not; with it, pixels are 4 minus the optical density. Without it such a
    file has its grey levels, and the shape that its header names: sides may be exchanged. `allowed`: DICOM images that
    are read although they are no mammograms, or FOR PROCESSING.
    """
    data = unpacked(_read_bytes(path), LARGEST_FILE)
    if film is not None or is_film(data):
        return Mammogram(checked(read_film(data, film)))
    if not is_dicom(data, path):
        return Mammogram(checked(read_picture(data)))
    image = read_dicom(data, allowed)
    return Mammogram(
        checked(image.pixels), image.laterality, image.view, image.spacing_mm, image.inverted, image.burned_in
    )


def read_stored(path: str) -> tuple[NDArray[np.integer], bool]:
    """A DICOM file's pixels as stored, and whether its (0008,103E) Series Description calls it a mask.

    For pictures that are not mammograms. Raises DataError as `read_mammogram`.
    """
    return read_mask(unpacked(_read_bytes(path), LARGEST_FILE))


def _read_bytes(path: str) -> bytes:
    try:
        with open_file(StorePath(path, once=True) if "://" in path else Path(path)) as file:
            data = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise DataError("cannot be opened: no such file") from None
    except PermissionError:
        raise DataError("cannot be opened: no permission") from None
    except ImportError as error:
        raise DataError(f"cannot be opened: {missing(path, error)}") from None
    except Exception as error:  # object stores raise kinds of their own, for example for missing credentials
        raise DataError(f"cannot be opened ({type(error).__name__})") from None
    if not data:
        raise DataError("the file is empty")
    if len(data) > LARGEST_FILE:
        raise DataError(f"the file has more than {LARGEST_FILE // 2**20} MiB")
    return data
