"""The images of CBIS-DDSM: rows of the tables joined by film, and a file for each film.

A film may have several abnormalities, in the mass tables, the calc tables or both; then its file is stored twice. It is
one image here, with all of its abnormalities: their numbers are unique on the film, so both tables speak of the same
one. Its label is that of the worst. CBIS-DDSM has no normal mammograms.

The official split was drawn for masses and for calcifications apart, so some patients stand on both sides. It is kept
as a column, and folds are not made from it.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from diagram_ray.data.readers.cbis import descriptions
from diagram_ray.data.readers.cbis.descriptions import PATHOLOGIES, Film, Flaw, Row, Table
from diagram_ray.data.readers.cbis.locations import SUFFIX, Files
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import ImageRecord, Index, Mask, Reject
from diagram_ray.errors import DataError

NAME = "CBIS-DDSM"
BENIGN, CANCER = "benign", "cancer"
LABELS = {"BENIGN_WITHOUT_CALLBACK": BENIGN, "BENIGN": BENIGN, "MALIGNANT": CANCER}
PARTS = ("Mass-Training", "Mass-Test", "Calc-Training", "Calc-Test")
HEAD = 4096
"""Bytes of a CSV file in which a description table's header ends."""


def index(source: str) -> Index:
    """The films that the tables in `source` (a folder or URI) describe and that are there as DICOM files.

    Columns: `density`, `finding`, and of the worst abnormality `pathology`, `assessment`, `subtlety`; `split` ('train',
    'test' or 'both'). A film is left out, with a reason, if a row about it cannot be used: its label would be a guess.
    Masks are given by the files that they may be; one that is not there is a reject, and the image is kept. Raises
    DataError if there is no folder, no table in it or no image.
    """
    folder = Source(source)
    paths = folder.files()
    parsed = _read_tables(folder, paths)
    rows, flaws = [row for table in parsed for row in table.rows], [flaw for table in parsed for flaw in table.flaws]
    rejects = [Reject(flaw.table, f"row {flaw.number}: {flaw.reason}") for flaw in flaws]
    films = _usable(_by_film(rows), flaws, rejects)
    files = Files(paths)
    images = _find_images(films, files, folder, rejects)
    rejects += _missing_masks([row for film in images for row in films[film]], files)
    for part, count in sorted(files.strays(rows).items()):
        rejects.append(Reject(folder.full(part), f"{count} {SUFFIX} files that no usable row of a table names"))
    if not images:
        first = f"; the first of {len(rejects)} reasons: {rejects[0].path}: {rejects[0].reason}" if rejects else ""
        raise DataError(
            f"{source}: none of the {len(films)} usable films of the tables is there as a DICOM file{first}"
        )
    records = [_record(film, films[film], path, files, folder) for film, path in sorted(images.items())]
    return Index(records, rejects, (BENIGN, CANCER), NAME, _notes([films[film] for film in images], rows))


def _read_tables(folder: Source, paths: list[str]) -> list[Table]:
    named = [path for path in paths if path.lower().endswith(".csv") and _is_table(folder, path)]
    if not named:
        raise DataError(f"{folder.uri}: no description table in it, such as mass_case_description_train_set.csv")
    tables = (_read(folder, path, descriptions.MAX_BYTES + 1) for path in named)
    return [descriptions.parse_table(table, folder.full(path)) for table, path in zip(tables, named, strict=True)]


def _is_table(folder: Source, path: str) -> bool:
    return descriptions.is_named_as_table(path) or descriptions.is_table(_read(folder, path, HEAD))


def _read(folder: Source, path: str, limit: int) -> bytes:
    try:
        with folder.open(path) as file:
            return file.read(limit)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{folder.full(path)}: cannot be read: {' '.join(str(error).split())[:200]}") from None


def _by_film(rows: Iterable[Row]) -> dict[Film, list[Row]]:
    """The rows of each film by abnormality; a row that stands in two copies of a table counts once."""
    unique: dict[Row, Row] = {}
    for row in rows:
        unique.setdefault(replace(row, table="", number=0), row)
    films: dict[Film, list[Row]] = defaultdict(list)
    for row in unique.values():
        films[row.film].append(row)
    return {film: sorted(same, key=lambda row: row.abnormality) for film, same in films.items()}


def _usable(films: dict[Film, list[Row]], flaws: list[Flaw], rejects: list[Reject]) -> dict[Film, list[Row]]:
    """The films whose rows are all good and agree."""
    doubtful = {film: flaw for flaw in flaws for film in flaw.films}
    owners = Counter(series for rows in films.values() for series in {row.image.series for row in rows})
    usable = {}
    for film, rows in films.items():
        if reason := _contradiction(rows, doubtful.get(film), owners):
            rejects.append(Reject(rows[0].table, f"{_numbers(rows)}: {reason}; the film is left out", film.patient))
        else:
            usable[film] = rows
    return usable


def _contradiction(rows: list[Row], flaw: Flaw | None, owners: Counter[str]) -> str:
    """Why it is not known what a film is or shows; '' if it is."""
    if flaw:
        return f"row {flaw.number} of {flaw.table.rpartition('/')[2]} may be about the same film and cannot be used"
    numbers = Counter(row.abnormality for row in rows)
    if max(numbers.values()) > 1:
        return "one abnormality id is described in two ways"
    if len({row.density for row in rows}) > 1:
        return "breast density is not the same"
    if len({row.image.folder for row in rows}) < len({row.image for row in rows}):
        return "image file path names two series in one folder"
    if any(owners[row.image.series] > 1 for row in rows):
        return "image file path names a series that is another film's as well"
    return ""


def _numbers(rows: list[Row]) -> str:
    """'rows 2, 3' of the first row's table; rows of another one are named with it."""
    numbers = [
        f"{row.number}" if row.table == rows[0].table else f"{row.number} of {row.table.rpartition('/')[2]}"
        for row in rows
    ]
    return f"{'row' if len(numbers) == 1 else 'rows'} {', '.join(numbers)}"


def _find_images(films: dict[Film, list[Row]], files: Files, folder: Source, rejects: list[Reject]) -> dict[Film, str]:
    """The file of each film: of its mass or its calc copy, that of the lowest abnormality if both are there."""
    images = {}
    for film, rows in films.items():
        copies = [files.images(place) for place in dict.fromkeys(row.image for row in rows)]
        paths = min(filter(None, copies), key=len, default=[])
        if len(paths) == 1:
            images[film] = paths[0]
        elif paths:
            reason = f"{len(paths)} files for one image, the other {folder.full(paths[1])}: none is used"
            rejects.append(Reject(folder.full(paths[0]), reason, film.patient))
        else:
            reason = "no DICOM file of the image, neither in its series nor in its folder"
            rejects.append(Reject(rows[0].table, f"{_numbers(rows)}: {reason}", film.patient))
    return images


def _missing_masks(rows: list[Row], files: Files) -> list[Reject]:
    """One for each mask that is not there, but one for a table of which none is: masks are fetched apart."""
    rejects: list[Reject] = []
    for table in sorted({row.table for row in rows}):
        of_table = [row for row in rows if row.table == table]
        missing = [row for row in of_table if not files.masks(row)]
        if len(missing) == len(of_table):
            reason = (
                f"none of the masks of the {len(missing)} abnormalities is there: these images have no regions of it"
            )
            rejects.append(Reject(table, reason))
        else:
            reason = "no DICOM file of the mask"
            rejects += [Reject(table, f"row {row.number}: {reason}", row.film.patient) for row in missing]
    return rejects


def _record(film: Film, rows: list[Row], path: str, files: Files, folder: Source) -> ImageRecord:
    worst = max(rows, key=lambda row: (PATHOLOGIES.index(row.pathology), row.assessment, row.subtlety))
    splits = {row.split for row in rows}
    masks = [
        Mask(tuple(map(folder.full, paths)), row.finding, LABELS[row.pathology])
        for row in rows
        if (paths := files.masks(row))
    ]
    return ImageRecord(
        path=folder.full(path),
        image_id=f"{film.patient}_{film.side}_{film.view}",
        patient_id=film.patient,
        exam_id=film.patient,
        laterality=film.side[0],
        view=film.view,
        label=LABELS[worst.pathology],
        columns={
            "density": worst.density,
            "finding": " + ".join(sorted({row.finding for row in rows})),
            "pathology": worst.pathology.lower(),
            "assessment": worst.assessment,
            "subtlety": worst.subtlety,
            "split": splits.pop() if len(splits) == 1 else "both",
        },
        masks=tuple(masks),
    )


def _notes(films: list[list[Row]], rows: list[Row]) -> tuple[str, ...]:
    """What the counts of a part of CBIS-DDSM, or of all of it, do not show."""
    splits: dict[str, set[str]] = defaultdict(set)
    for row in (row for film in films for row in film):
        splits[row.film.patient].add(row.split)
    leaking = sum(len(sides) > 1 for sides in splits.values())
    doubled = sum(len({row.image for row in film}) > 1 for film in films)
    mixed = sum(len({row.pathology for row in film}) > 1 for film in films)
    absent = [part for part in PARTS if not any(row.image.folder.startswith(part) for row in rows)]
    notes = (
        (
            leaking,
            f"{leaking} of {len(splits)} patients stand on both sides of the official split of masses and "
            "calcifications: it is kept as the column 'split' and not used, folds are made by patient",
        ),
        (
            doubled,
            f"{doubled} films are stored twice, with their masses and with their calcifications: each is one image "
            f"with all of its abnormalities, {len(films)} images instead of {len(films) + doubled}",
        ),
        (mixed, f"{mixed} images have abnormalities of different pathology: the worst gives the label"),
        (
            absent,
            f"no table of {', '.join(absent)}: abnormalities that only stand there are not known, and an image "
            "called benign may have a malignant one",
        ),
    )
    return tuple(text for condition, text in notes if condition)
