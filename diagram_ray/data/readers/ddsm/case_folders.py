"""The cases of an archive's file names: .../<volume>/case<number>/<files>, whatever stands before the volume.

Names are matched strictly, because the archive holds leftovers beside its files. A case's number is not its key: 306
numbers stand for two cases. The letter and the number together are.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from diagram_ray.data.records import Reject

KINDS = ("cancer", "benign", "benign_without_callback", "normal")
"""The volumes' kinds. Of a case that stands in two folders, the one of the earlier kind is read."""

_NAME = re.compile(
    r"([A-D])-(\d{4})-1\.(ics)(?:\.gz)?|([A-D])_(\d{4})_1\.((?:LEFT|RIGHT)_(?:CC|MLO))\.(LJPEG|OVERLAY)(?:\.gz)?", re.A
)
_THUMBNAIL = re.compile(r"TAPE_[A-D]_\d{4}_1\.COMB\.16_PGM", re.A)
_FOLDER = re.compile(r"case(\d{4})", re.A)
_VOLUME = re.compile(rf"({'|'.join(KINDS)})_\d\d", re.A)


@dataclass
class CaseFolder:
    """A folder's files of one case, by their paths in the source."""

    key: str
    """Letter and number: 'A_1465'."""
    folder: str
    volume: str | None
    """The volume, such as 'cancer_08'; None where the folder lies in no volume."""
    ics: str | None = None
    films: dict[str, str] = field(default_factory=dict)
    """The films by view, such as 'RIGHT_MLO'."""
    overlays: dict[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> str | None:
        """The kind of volume, one of KINDS."""
        return self.volume.rpartition("_")[0] if self.volume else None

    @property
    def rank(self) -> tuple[int, str, str]:
        """Smallest for the folder to read, where several hold the case."""
        return (KINDS.index(self.kind) if self.kind else len(KINDS), self.volume or "", self.folder)


@dataclass(frozen=True)
class Case:
    """A case: the folder whose films are read, and others that hold the same films."""

    chosen: CaseFolder
    others: tuple[CaseFolder, ...]


def find_cases(files: Iterable[str], full: Callable[[str], str]) -> tuple[list[Case], list[Reject]]:
    """The cases among `files` (paths in the source), sorted by key, and the files that belong to none of them.

    `full` makes whole paths: the source may be the archive, one of its volumes or one case.
    """
    folders: dict[tuple[str, str], CaseFolder] = {}
    rejects = []
    for path in sorted(files):
        reason = _sort_in(path, full(path).split("/"), folders)
        if reason:
            rejects.append(Reject(full(path), reason))
    by_key: dict[str, list[CaseFolder]] = defaultdict(list)
    for folder in sorted(folders.values(), key=lambda folder: folder.rank):
        by_key[folder.key].append(folder)
    return [Case(same[0], tuple(same[1:])) for _, same in sorted(by_key.items())], rejects


def _sort_in(path: str, parts: list[str], folders: dict[tuple[str, str], CaseFolder]) -> str | None:
    """Puts a file into its case's folder, or says why it is in none."""
    match = _NAME.fullmatch(parts[-1])
    if match is None:
        is_known = _THUMBNAIL.fullmatch(parts[-1])
        return "a thumbnail of a case's films, not needed" if is_known else "not a file of DDSM's own form"
    letter, number, view = match[1] or match[4], match[2] or match[5], match[6]
    key = f"{letter}_{number}"
    inside = _FOLDER.fullmatch(parts[-2])
    if inside is None:
        return "not in a folder of the name case<number>"
    if inside[1] != number:
        return "a file of another case than its folder: which of the two it describes is unknown"
    volume = parts[-3] if len(parts) > 2 and _VOLUME.fullmatch(parts[-3]) else None
    place = path.rpartition("/")[0]
    case = folders.setdefault((place, key), CaseFolder(key, place, volume))
    if view is None:
        taken, case.ics = case.ics, case.ics or path
    else:
        files = case.films if match[7] == "LJPEG" else case.overlays
        taken = files.get(view)
        files.setdefault(view, path)
    return "a second copy: the file of this name without .gz is read" if taken else None
