"""INbreast (Moreira et al., Acad Radiol 2012): INbreast.csv or INbreast.xls, AllDICOMs/ and AllXML/.

Image names are <file id>_<16 hex digits>_MG_<L|R>_<view>_ANON.dcm. The table's Patient ID column is blanked out, so
the hash in the name is the only key of a patient; it stays the same over exams of different dates. ML in a name is
the table's MLO. Classes: BI-RADS 1 and 2 negative, 4, 5 and 6 cancer (DiaGRAM paper, Sect. 3). BI-RADS 3 stays in the
index with no label, so that another target (density) can use it.
"""

import re
from collections import defaultdict
from dataclasses import dataclass

from diagram_ray.data.readers import inbreast_table, inbreast_xml
from diagram_ray.data.readers.dicom_header import Geometry, read_geometry
from diagram_ray.data.readers.inbreast_table import Row
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

NAME = "INbreast"
NEGATIVE, CANCER = "negative", "cancer"
LABELS: dict[str, str | None] = {
    **dict.fromkeys(("1", "2"), NEGATIVE),
    "3": None,
    **dict.fromkeys(("4", "4a", "4b", "4c", "5", "6"), CANCER),
}
SPACING_MM = 0.07
"""Pixel size of all INbreast images (Siemens MammoNovation), used where a header gives none."""
NO_FINDING = "none"
TABLES = ("inbreast.csv", "inbreast.xls")
"""Names of the table, in any case; the first that is there is read."""

_IMAGE = re.compile(r"(\d{1,16})_([0-9a-f]{16})_MG_([LR])_([A-Z]{2,4})_ANON\.dcm", re.IGNORECASE)
_VIEWS = {"ML": "MLO"}


@dataclass(frozen=True)
class _Image:
    """What a DICOM file's name says."""

    path: str
    """Inside the folder."""
    file_id: str
    patient: str
    laterality: str
    view: str


class _Tree:
    """The files of an INbreast folder, by their paths inside it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._source = Source(source)
        self._paths = self._source.files()

    @property
    def files(self) -> list[str]:
        """The files that are in no sub-folder."""
        return [path for path in self._paths if "/" not in path]

    def files_of(self, folder: str, suffix: str) -> list[str]:
        """Files ending in `suffix` in the sub-folder `folder` (any case), or in the root where there is none."""
        inside = [path for path in self._paths if path.rpartition("/")[0].lower() == folder.lower()]
        return [path for path in inside or self.files if path.lower().endswith(suffix)]

    def read(self, path: str, limit: int) -> bytes:
        """The file's bytes, one more than `limit` at most. Raises DataError if it cannot be read."""
        try:
            with self._source.open(path) as file:
                return file.read(limit + 1)
        except OSError as error:
            raise DataError(f"cannot be read ({type(error).__name__})") from None

    def geometry(self, path: str) -> Geometry:
        """Pixel spacing and size from the image's header, where it has them."""
        try:
            with self._source.open(path) as file:
                return read_geometry(file)
        except OSError:
            return Geometry(None, None)

    def uri(self, path: str) -> str:
        """The path as `read_mammogram` takes it: plain for local files, a URI for others."""
        return self._source.full(path)


def index(source: str) -> Index:
    """The images of an INbreast folder (local path or fsspec URI). Classes: negative, cancer.

    A row without an image, an image without a row and a contradiction between the two are rejects. An annotation that
    cannot be used is a reject as well, but its image stays, without regions and with the `finding` that the table marks
    (or None): its label comes from the table. An exam is a patient's images of one acquisition date, or all of them
    where the table has no dates. Raises DataError if the folder or the table is missing or not one image can be used.
    """
    tree = _Tree(source)
    rejects: list[Reject] = []
    table = _find_table(tree)
    rows = inbreast_table.parse_table(_read_table(tree, table), tree.uri(table), rejects)
    images = _unique_images(tree, rejects)
    annotations = {_base(path).rpartition(".")[0]: path for path in tree.files_of("AllXML", ".xml")}
    _reject_leftovers(tree, table, rows, images, annotations, rejects)
    records = [
        _record(tree, rows[file_id], images[file_id], annotations, rejects)
        for file_id in sorted(rows.keys() & images.keys())
        if not _contradicts(tree, rows[file_id], images[file_id], rejects)
    ]
    if not records:
        raise DataError(f"{source}: none of the {len(rows)} images in {_base(table)} is there as a DICOM file")
    return Index(records, rejects, (NEGATIVE, CANCER), NAME)


def _read_table(tree: _Tree, table: str) -> bytes:
    try:
        return tree.read(table, inbreast_table.MAX_BYTES)
    except DataError as error:
        raise DataError(f"{tree.uri(table)}: {error}") from None


def _find_table(tree: _Tree) -> str:
    names = {_base(path).lower(): path for path in tree.files}
    for name in TABLES:
        if name in names:
            return str(names[name])
    if "inbreast.xlsx" in names:
        raise DataError(f"{tree.source}: INbreast.xlsx is not read; save its first sheet beside it as INbreast.csv")
    raise DataError(
        f"{tree.source}: no INbreast.csv or INbreast.xls in it; the folder must have the table, AllDICOMs and AllXML"
    )


def _unique_images(tree: _Tree, rejects: list[Reject]) -> dict[str, _Image]:
    """File id -> image. Of images with one id none is used: they may belong to different patients."""
    by_id: dict[str, list[_Image]] = defaultdict(list)
    for path in tree.files_of("AllDICOMs", ".dcm"):
        match = _IMAGE.fullmatch(_base(path))
        if match is None:
            expected = "<file id>_<16 hex digits>_MG_<L|R>_<view>_ANON.dcm"
            guess = re.search("[0-9a-f]{16}", _base(path), re.IGNORECASE)
            reason = f"the file name is not of the form {expected}"
            rejects.append(Reject(tree.uri(path), reason, guess[0] if guess else None))
            continue
        file_id, patient, laterality, view = match.groups()
        view = _VIEWS.get(view.upper(), view.upper())
        by_id[file_id].append(_Image(path, file_id, patient.lower(), laterality.upper(), view))
    for file_id, same in by_id.items():
        if len(same) > 1:
            reason = f"{len(same)} files have the id {file_id}: none is used"
            rejects += [Reject(tree.uri(image.path), reason, image.patient) for image in same]
    return {file_id: same[0] for file_id, same in by_id.items() if len(same) == 1}


def _reject_leftovers(
    tree: _Tree,
    table: str,
    rows: dict[str, Row],
    images: dict[str, _Image],
    annotations: dict[str, str],
    rejects: list[Reject],
) -> None:
    for file_id in sorted(rows.keys() - images.keys()):
        rejects.append(Reject(tree.uri(table), f"row {rows[file_id].number}: no DICOM file of image {file_id}"))
    for file_id in sorted(images.keys() - rows.keys()):
        reason = f"no usable row of image {file_id} in {_base(table)}"
        rejects.append(Reject(tree.uri(images[file_id].path), reason, images[file_id].patient))
    for name in sorted(annotations.keys() - rows.keys() - images.keys()):
        rejects.append(Reject(tree.uri(annotations[name]), "an annotation of an image that is not there"))


def _contradicts(tree: _Tree, row: Row, image: _Image, rejects: list[Reject]) -> bool:
    """The side decides how an image is mirrored; where table and name differ, the row may be of another image."""
    if row.laterality in ("", image.laterality):
        return False
    reason = f"the file name says {image.laterality}, row {row.number} of the table says {row.laterality}"
    rejects.append(Reject(tree.uri(image.path), reason, image.patient))
    return True


def _record(tree: _Tree, row: Row, image: _Image, annotations: dict[str, str], rejects: list[Reject]) -> ImageRecord:
    label = LABELS[row.birads]
    regions = _annotated(tree, image, annotations, label, rejects)
    columns: dict[str, str | float | None] = {
        "birads": row.birads,
        "density": row.density,
        "finding": _finding(row, regions),
    }
    return ImageRecord(
        path=tree.uri(image.path),
        image_id=image.file_id,
        patient_id=image.patient,
        exam_id=f"{image.patient}:{row.date}",
        laterality=image.laterality,
        view=row.view or image.view,
        label=label,
        columns=columns,
        regions=regions or (),
    )


def _finding(row: Row, regions: tuple[Region, ...] | None) -> str | None:
    """What was outlined; else what the table marks; None if neither is known."""
    findings = row.marked if regions is None else {one.finding for one in regions}
    return None if findings is None else " + ".join(sorted(findings)) or NO_FINDING


def _annotated(
    tree: _Tree, image: _Image, annotations: dict[str, str], label: str | None, rejects: list[Reject]
) -> tuple[Region, ...] | None:
    """The regions of an image; () if nothing was outlined; None if it is not known what was."""
    if not annotations:
        return None
    path = annotations.get(image.file_id)
    if path is None:
        return ()
    geometry = tree.geometry(image.path)
    spacing = geometry.spacing_mm or SPACING_MM
    try:
        annotation = inbreast_xml.parse_annotation(tree.read(path, inbreast_xml.MAX_BYTES))
        inbreast_xml.check_scale(annotation.outlines, spacing)
        regions = inbreast_xml.regions(annotation.outlines, label, spacing, geometry.shape)
    except DataError as error:
        rejects.append(Reject(tree.uri(path), f"the annotation is not used: {error}"))
        return None
    rejects += [Reject(tree.uri(path), problem) for problem in annotation.problems]
    return regions


def _base(path: str) -> str:
    return path.rpartition("/")[2]
