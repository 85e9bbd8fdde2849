"""DDSM (Heath et al. 2000, University of South Florida): the archive's tree of cases, as it is or in part.

.../<kind>_<nn>/case<number>/ holds a case: four .LJPEG films, an .ics with their sizes and the scanner, and an .OVERLAY
for each film with an abnormality. The image's path leads to the .LJPEG, which needs the .ics to be decoded.

Labels. A film with overlay has the pathology of its worst abnormality (malignant, unproven, benign, benign without
callback): cancer or benign, and none if that is unproven. A film without overlay is
    'unmarked' in a cancer or benign case: mostly the other breast, but also views that do not show the lesion. No
               label: that nothing was outlined is no diagnosis;
    'normal'   in a normals volume. No label, as in the DiaGRAM paper, unless `normals` is asked for.
All of them stay in the index, distinguished by the column `pathology`, so that they are counted and other targets can
use them. A film whose overlay cannot be used has no pathology at all.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from diagram_ray.data.readers.ddsm.case_folders import find_cases
from diagram_ray.data.readers.ddsm.cases import read_case
from diagram_ray.data.readers.ddsm.marks import NORMAL, UNMARKED, Labels
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import ImageRecord, Index
from diagram_ray.errors import DataError

NAME = "DDSM"
CANCER, BENIGN, NEGATIVE = "cancer", "benign", "negative"
AT_A_TIME = 16
"""Cases whose text files are read at once: from an object store each file costs a round trip."""


def index(source: str, normals: bool = False) -> Index:
    """The films in a folder or URI. Classes: benign, cancer; with `normals`: negative (normal or benign), cancer.

    A case's letter and number are its patient; where two folders hold a case, its films are read once, from the
    cancers before the benigns before the benigns without callback, then from the volume of the lower number. Overlays
    of the other folder are used for films that have none in the first. What is not used is a reject with its reason,
    as is every file that is not of the archive's own form. Columns: pathology, density, finding, assessment and
    subtlety (of the abnormality that decides the label), scanner, volume. Raises DataError if no film can be used.
    """
    folder = Source(source)
    cases, rejects = find_cases(folder.files(), folder.full)
    labels = _labels(normals)
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda case: read_case(folder, case, labels), cases))
    records = [record for of_case, _ in results for record in of_case]
    rejects += [reject for _, of_case in results for reject in of_case]
    if not records:
        first = f"; the first of {len(rejects)}: {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise DataError(f"{source}: no film of DDSM that can be used, such as case1465/A_1465_1.LEFT_CC.LJPEG{first}")
    doubled = sum(1 for case in cases if case.others)
    return Index(records, rejects, (NEGATIVE if normals else BENIGN, CANCER), NAME, _notes(records, doubled))


def _labels(normals: bool) -> Labels:
    negative = NEGATIVE if normals else BENIGN
    return {
        "malignant": CANCER,
        "unproven": None,
        "benign": negative,
        "benign_without_callback": negative,
        UNMARKED: None,
        NORMAL: NEGATIVE if normals else None,
    }


def _notes(records: Sequence[ImageRecord], doubled: int) -> tuple[str, ...]:
    """What has no label, and why; and what was read once though it is there twice."""
    without = Counter(record.columns["pathology"] for record in records if record.label is None)
    counted = (
        ("films without an outlined abnormality in cases that have one elsewhere, without label", without[UNMARKED]),
        ("films of normal cases, without label unless --normals is given", without[NORMAL]),
        ("films with nothing worse than an abnormality of unproven pathology, without label", without["unproven"]),
        ("films whose overlay cannot be used, without label", without[None]),
        ("cases that stand in two folders and are read once", doubled),
    )
    return tuple(f"{what}: {count}" for what, count in counted if count)
