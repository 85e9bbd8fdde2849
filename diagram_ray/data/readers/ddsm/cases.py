"""The step from a case's files to the records of its films."""

from diagram_ray.data.decoding.gzip import unpacked
from diagram_ray.data.decoding.optical_density import CURVES, scanner_of
from diagram_ray.data.readers.ddsm import ics, overlay
from diagram_ray.data.readers.ddsm.case_folders import Case, CaseFolder
from diagram_ray.data.readers.ddsm.ics import FilmLine, Ics
from diagram_ray.data.readers.ddsm.marks import NORMAL, UNMARKED, Labels, Marks
from diagram_ray.data.readers.source import Source
from diagram_ray.data.records import Film, ImageRecord, Reject
from diagram_ray.errors import DataError

WRONG_OVERLAYS = ("A_1738_1.RIGHT_CC", "A_1738_1.RIGHT_MLO", "A_1694_1.LEFT_CC")
"""Known to outline other films' lesions."""


def read_case(source: Source, case: Case, labels: Labels) -> tuple[list[ImageRecord], list[Reject]]:
    """The films of a case, and what of it cannot be used."""
    reader = _CaseReader(source, case)
    return reader.records(labels), reader.rejects


class _CaseReader:
    def __init__(self, source: Source, case: Case) -> None:
        self._source, self._case = source, case
        self.rejects: list[Reject] = []

    def records(self, labels: Labels) -> list[ImageRecord]:
        """The records of the films that can be used, one each."""
        folder = self._case.chosen
        facts = self._ics(folder, "none of the case's films is used")
        if facts is None:
            for other in self._case.others:
                self._reject_double(other)
            return []
        self._note_missing(facts)
        overlays = self._overlays(facts)
        films = [self._film(view, facts, overlays, labels) for view in sorted(folder.films)]
        return [film for film in films if film is not None]

    def _overlays(self, facts: Ics) -> dict[str, tuple[str, FilmLine]]:
        """View -> the overlay to read, and the line about the film in the .ics beside it.

        Another folder's overlay counts where the films' own folder has none: the lesions of some cases are described
        in two folders.
        """
        folder = self._case.chosen
        overlays = {view: (path, facts.films[view]) for view, path in folder.overlays.items() if view in facts.films}
        for other in self._case.others:
            views = sorted((other.overlays.keys() & folder.films.keys()) - overlays.keys())
            its = self._ics(other, "its overlays are not used") if views else None
            added = [view for view in views if its and self._is_same_film(view, facts, its, other)]
            overlays |= {view: (other.overlays[view], its.films[view]) for view in added if its}
            self._reject_double(other, f"; its overlays of {', '.join(added)} are used" if added else "")
        return overlays

    def _reject_double(self, other: CaseFolder, used: str = "") -> None:
        volume = self._case.chosen.volume or "no volume"
        self._reject(other.folder, f"the same case stands in {volume} and is read there{used}")

    def _is_same_film(self, view: str, facts: Ics, its: Ics, other: CaseFolder) -> bool:
        same = view in facts.films and view in its.films and facts.films[view].shape == its.films[view].shape
        if not same:
            self._reject(other.overlays[view], "is not used: the film that is read has another size")
        return same

    def _film(
        self, view: str, facts: Ics, overlays: dict[str, tuple[str, FilmLine]], labels: Labels
    ) -> ImageRecord | None:
        folder = self._case.chosen
        try:
            line, scanner = _scanned(view, facts)
        except DataError as error:
            self._reject(folder.films[view], str(error))
            return None
        marks = self._marks(view, line, overlays.get(view))
        pathology = marks.pathology or (NORMAL if folder.kind == NORMAL else UNMARKED) if marks else None
        side, projection = view.split("_")
        return ImageRecord(
            path=self._source.full(folder.films[view]),
            image_id=f"{folder.key}_1.{view}",
            patient_id=folder.key,
            exam_id=f"{folder.key}_1",
            laterality=side[0],
            view=projection,
            label=labels[pathology] if pathology else None,
            columns={
                "pathology": pathology,
                "density": facts.density,
                "finding": marks.finding if marks else None,
                "assessment": marks.assessment if marks else None,
                "subtlety": marks.subtlety if marks else None,
                "scanner": scanner,
                "volume": folder.volume,
            },
            regions=marks.regions(labels) if marks else (),
            spacing_mm=line.spacing_mm,
            film=Film(line.shape, scanner),
        )

    def _marks(self, view: str, line: FilmLine, described: tuple[str, FilmLine] | None) -> Marks | None:
        """What is marked on a film; None if that is not known."""
        if described is None:
            if not line.overlay:
                return Marks()
            self._reject(self._case.chosen.films[view], "has an overlay by its .ics, but there is none: no label")
            return None
        path, its_line = described
        try:
            if not its_line.overlay:
                raise DataError("the .ics beside it says that the film has none")
            if f"{self._case.chosen.key}_1.{view}" in WRONG_OVERLAYS:
                raise DataError("it is known to belong to another film")
            abnormalities = overlay.parse_overlay(self._read(path, overlay.MAX_BYTES))
            cut = [overlay.box_of(one.boundary, line.shape) for one in abnormalities]
        except DataError as error:
            self._reject(path, f"the overlay is not used, and its film has no label: {error}")
            return None
        for number, (_, beyond) in enumerate(cut, start=1):
            if beyond:
                self._reject(path, f"abnormality {number} leaves the image by {beyond} pixels and is cut off there")
        return Marks(abnormalities, tuple(box for box, _ in cut))

    def _ics(self, folder: CaseFolder, consequence: str) -> Ics | None:
        """The case's .ics, or None after saying why there is none."""
        try:
            if folder.ics is None:
                raise DataError("has no .ics, which alone tells the size of films")
            facts = ics.parse_ics(self._read(folder.ics, ics.MAX_BYTES))
            if facts.name != f"{folder.key}_1".replace("_", "-"):
                raise DataError("is of another case by its line 'filename'")
        except DataError as error:
            self._reject(folder.ics or folder.folder, f"{error}; {consequence}")
            return None
        return facts

    def _note_missing(self, facts: Ics) -> None:
        folder = self._case.chosen
        for view in sorted(facts.films.keys() - folder.films.keys()):
            self._reject(str(folder.ics), f"lists {view}, of which there is no film")
        for view in sorted(folder.overlays.keys() - folder.films.keys()):
            self._reject(folder.overlays[view], "is an overlay of a film that is not there")

    def _read(self, path: str, limit: int) -> bytes:
        """The file's bytes, unpacked, one more than `limit` at most."""
        try:
            with self._source.open(path) as file:
                data = file.read(limit + 1)
        except Exception as error:  # object stores raise kinds of their own
            raise DataError(f"cannot be read ({type(error).__name__})") from None
        return unpacked(data, limit)

    def _reject(self, path: str, reason: str) -> None:
        self.rejects.append(Reject(self._source.full(path), reason, self._case.chosen.key))


def _scanned(view: str, facts: Ics) -> tuple[FilmLine, str]:
    """What is known of a film, and the key of its scanner."""
    if view not in facts.films:
        raise DataError(f"its .ics has no line {view}, so that its size is unknown")
    line, scanner = facts.films[view], scanner_of(facts.name[0], facts.digitizer)
    if line.bits != CURVES[scanner].bits:
        raise DataError(f"has {line.bits} bits by its .ics; films of the scanner {scanner} have {CURVES[scanner].bits}")
    return line, scanner
