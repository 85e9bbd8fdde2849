"""The films of DDSM: lossless JPEG of a coder that departs from the standard, in a scanner's own grey levels."""

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding import ljpeg
from diagram_ray.data.decoding.limits import check_size
from diagram_ray.data.decoding.optical_density import DENSEST, to_optical_density
from diagram_ray.data.records import Film
from diagram_ray.errors import DataError

MOST_TABLES = 4
"""Huffman tables that may stand before the frame."""


def is_film(data: bytes) -> bool:
    """Whether a file begins as DDSM's coder begins them: start of image, perhaps tables, then a lossless frame.

    Other coders write an APPn segment first; and a lossless JPEG of theirs would come out wrong by this coder's rule.
    """
    place = 2
    for _ in range(MOST_TABLES):
        if data[place : place + 2] == b"\xff\xc4":
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return data.startswith(b"\xff\xd8") and data[place : place + 2] == b"\xff\xc3"


def read_film(data: bytes, film: Film | None) -> NDArray[np.float32]:
    """The pixels of a film (rows, columns), high where tissue is: 4 minus the optical density.

    Without `film`, the grey levels as they are, in the shape that the header names: its sides may be exchanged. Raises
    DataError for what is no such file.
    """
    if not is_film(data):
        raise DataError("not a lossless JPEG as DDSM has them")
    if film is None:
        return ljpeg.decode(data).astype(np.float32)
    check_size(*film.shape)
    density = to_optical_density(ljpeg.decode(data, film.shape), film.scanner)
    return np.subtract(DENSEST, density, out=density)
