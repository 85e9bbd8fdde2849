"""Where CBIS-DDSM's files are on disk, which depends on the program that fetched them.

    <folder>/<StudyUID>/<SeriesUID>/1-1.dcm or 000000.dcm                                  as in the tables
    <folder>/07-20-2016-DDSM-NA-74994/1.000000-full mammogram images-24515/1-1.dcm         newer

The tables' own file names are never right for all of them, and which of two files is the mask and which the crop is
not to be told from names: see `diagram_ray.data.preprocessing.lesion_masks`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable

from diagram_ray.data.readers.cbis.descriptions import FOLDER, Place, Row

SUFFIX = ".dcm"
FULL_IMAGE = "full mammogram"
"""Part of the SeriesDescription of whole images, which newer layouts have in the folder's name."""


class Files:
    """The DICOM files of a source, found by any folder that they lie in."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = [path for path in paths if path.lower().endswith(SUFFIX)]
        self._inside: dict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            for folder in set(path.split("/")[:-1]):
                self._inside[folder].append(path)

    def images(self, place: Place) -> list[str]:
        """The files that may be a whole image: one, if all is well."""
        paths = self._at(place)
        return [path for path in paths if FULL_IMAGE in path.lower()] or paths if len(paths) > 1 else paths

    def masks(self, row: Row) -> tuple[str, ...]:
        """The files of which one is the row's mask: those of its mask's and of its crop's series."""
        return tuple(sorted({*self._at(row.mask), *self._at(row.crop)}))

    def strays(self, rows: Iterable[Row]) -> Counter[str]:
        """How many files there are that no row names, by the part of the tree they lie in."""
        named = {path for row in rows for place in (row.image, row.crop, row.mask) for path in self._at(place)}
        return Counter(_part(path) for path in self._paths if path not in named)

    def _at(self, place: Place) -> list[str]:
        return self._inside.get(place.series) or self._inside.get(place.folder, [])


def _part(path: str) -> str:
    """'a/Mass-Test_*' of a file in a folder of CBIS-DDSM's, else the topmost folder; '' at the top."""
    parts = path.split("/")[:-1]
    for depth, folder in enumerate(parts):
        if match := FOLDER.fullmatch(folder):
            return "/".join([*parts[:depth], f"{match[1]}-{match[2]}_*"])
    return parts[0] if parts else ""
