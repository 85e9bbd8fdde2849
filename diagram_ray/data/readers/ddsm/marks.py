"""What an overlay makes of its film: pathology, columns and regions."""

from collections.abc import Mapping
from dataclasses import dataclass

from diagram_ray.data.readers.ddsm.overlay import PATHOLOGIES, Abnormality, Box
from diagram_ray.data.records import Region

Labels = Mapping[str, str | None]
"""Pathology, in lower case as in the column, -> class."""

NORMAL, UNMARKED = "normal", "unmarked"
"""Pathologies of films without an overlay: in a normals volume, and elsewhere."""
NO_FINDING, UNNAMED = "none", "unnamed"


@dataclass(frozen=True)
class Marks:
    """The abnormalities that are known of a film, and their boxes inside it."""

    abnormalities: tuple[Abnormality, ...] = ()
    boxes: tuple[Box, ...] = ()

    @property
    def pathology(self) -> str | None:
        """The pathology of the worst abnormality, in lower case."""
        worst = self._deciding
        return worst.pathology.lower() if worst else None

    @property
    def finding(self) -> str:
        """The types of lesion, joined."""
        if not self.abnormalities:
            return NO_FINDING
        return _joined({finding for one in self.abnormalities for finding in one.findings})

    @property
    def assessment(self) -> str | None:
        """The assessment of the abnormality that decides the label."""
        return str(self._deciding.assessment) if self._deciding else None

    @property
    def subtlety(self) -> str | None:
        """The subtlety of the abnormality that decides the label."""
        return str(self._deciding.subtlety) if self._deciding else None

    def regions(self, labels: Labels) -> tuple[Region, ...]:
        """A region for each abnormality, with its own label."""
        return tuple(
            Region(box, _joined(set(one.findings)), labels[one.pathology.lower()])
            for one, box in zip(self.abnormalities, self.boxes, strict=True)
        )

    @property
    def _deciding(self) -> Abnormality | None:
        """The worst abnormality; of several that are equally bad, the most suspicious and then the most obvious."""
        return min(
            self.abnormalities,
            key=lambda one: (PATHOLOGIES.index(one.pathology), -one.assessment, -one.subtlety),
            default=None,
        )


def _joined(findings: set[str]) -> str:
    return " + ".join(sorted(findings)) or UNNAMED
