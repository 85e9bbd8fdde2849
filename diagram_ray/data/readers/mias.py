"""mini-MIAS (Suckling et al. 1994): Info.txt and mdb001 ... mdb322 as PGM or PNG, of the original or a reduced size.

A line of Info.txt is: name, tissue F/G/D, finding, severity B/M, x, y, radius. x and y are in the 1024 x 1024 frame
with the origin at the BOTTOM left. An image may have several lines; NORM lines end after the finding; some lesions have
no position. Two consecutive images (1 and 2, 3 and 4, ...) are of one patient, the right and the left breast: odd
numbers are right, even ones left. All views are MLO, pixels are 0.2 mm in the original frame.
"""

import re
from dataclasses import dataclass

from PIL import Image

from diagram_ray.data.decoding.raster_image import PICTURES
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import ImageRecord, Index, Region, Reject
from diagram_ray.errors import DataError

FRAME = 1024
"""Pixels on a side of the frame that positions are given in."""
SPACING_MM = 0.2
"""Size of a pixel of that frame."""
CLASSES = ("negative", "cancer")
SEVERITY = {"M": "cancer", "B": "negative"}
LINE = re.compile(
    r"(mdb\d{3}) ([FGD]) (CALC|CIRC|SPIC|MISC|ARCH|ASYM|NORM)(?: ([BM]))?(?: (\d{1,6}) (\d{1,6}) (\d{1,6}))?(?:\s.*)?$"
)
IMAGE = re.compile(r"(?:^|/)(mdb\d{3})\.(?:pgm|png)$", re.IGNORECASE)
MOST_LESIONS = 100
"""The most lesions on one image; the real table has at most three."""
LARGEST_TABLE = 2**20
"""Bytes read of Info.txt; the real one has 12 KB."""


@dataclass(frozen=True)
class _Lesion:
    finding: str
    severity: str
    circle: tuple[int, int, int] | None
    """x, y from the bottom left, radius; in the frame."""


@dataclass
class _Case:
    tissue: str
    lesions: list[_Lesion]


def index(source: str) -> Index:
    """The images that Info.txt lists. An image is 'cancer' if a lesion on it is malignant, else 'negative'.

    `source` is a folder or a URI. Columns: `density` (F, G, D), `severity` (N, B, M: the worst), `finding`. Raises
    DataError if there is no folder, no table in it, or no image.
    """
    folder = Source(source)
    files = folder.files()
    table = next((path for path in files if path.lower().rpartition("/")[2] == "info.txt"), None)
    if table is None:
        raise DataError(f"{source}: no Info.txt in it; mini-MIAS has one beside its images")
    images = {match[1].lower(): path for path in files if (match := IMAGE.search(path))}
    cases = _read_table(folder, table)
    place = folder.full(table)
    rejects = [Reject(place, f"lists {name}, which has no image") for name in sorted(set(cases) - set(images))]
    rejects += [Reject(folder.full(images[name]), "is not in Info.txt") for name in sorted(set(images) - set(cases))]
    records = []
    for name in sorted(set(cases) & set(images)):
        try:
            records.append(_record(name, folder, images[name], cases[name]))
        except Exception as error:  # decoders raise what they like on damaged data
            reason = str(error) if isinstance(error, DataError) else f"not a readable picture ({type(error).__name__})"
            rejects.append(Reject(folder.full(images[name]), reason))
    if not records:
        first = f"; {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise DataError(f"{source}: none of the {len(cases)} images of Info.txt is there as .pgm or .png{first}")
    return Index(records, rejects, CLASSES, "mini-MIAS")


def _read_table(folder: Source, table: str) -> dict[str, _Case]:
    cases: dict[str, _Case] = {}
    try:
        with folder.open(table) as file:
            text = file.read(LARGEST_TABLE).decode("latin-1")
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{folder.full(table)}: cannot be read ({type(error).__name__})") from None
    for line in text.splitlines():
        match = LINE.match(line.strip())
        if match is None:
            continue  # prose around the table
        name, tissue, finding, severity, *numbers = match.groups()
        case = cases.setdefault(name, _Case(tissue, []))
        if finding != "NORM" and severity:
            x, y, radius = (int(number) if number else -1 for number in numbers)
            case.lesions.append(_Lesion(finding.lower(), severity, (x, y, radius) if radius > 0 else None))
    return cases


def _record(name: str, folder: Source, path: str, case: _Case) -> ImageRecord:
    if len(case.lesions) > MOST_LESIONS:
        raise DataError(f"Info.txt lists {len(case.lesions)} lesions on it; at most {MOST_LESIONS} are read")
    with folder.open(path) as file, Image.open(file, formats=PICTURES) as picture:
        side, height = picture.size
    if side != height:
        raise DataError(f"it is {height} x {side} pixels; positions are known for the square frame only")
    number = int(name[3:])
    severities = {lesion.severity for lesion in case.lesions}
    severity = "M" if "M" in severities else "B" if "B" in severities else "N"
    patient = f"mias-{(number + 1) // 2:03d}"
    return ImageRecord(
        path=folder.full(path),
        image_id=name,
        patient_id=patient,
        exam_id=patient,
        laterality="L" if number % 2 == 0 else "R",
        view="MLO",
        label=SEVERITY.get(severity, CLASSES[0]),
        columns={
            "density": case.tissue,
            "severity": severity,
            "finding": ",".join(sorted({lesion.finding for lesion in case.lesions})) or None,
        },
        regions=tuple(_region(lesion, side / FRAME) for lesion in case.lesions if lesion.circle is not None),
        spacing_mm=SPACING_MM * FRAME / side,
    )


def _region(lesion: _Lesion, scale: float) -> Region:
    """The lesion's bounding square in an image that is `scale` times the frame."""
    assert lesion.circle is not None  # noqa: S101 - the caller left out those without
    x, y, radius = lesion.circle
    row = FRAME - y
    box = (row - radius, x - radius, row + radius, x + radius)
    top, left, bottom, right = (edge * scale for edge in box)
    return Region((top, left, bottom, right), lesion.finding, SEVERITY[lesion.severity])
