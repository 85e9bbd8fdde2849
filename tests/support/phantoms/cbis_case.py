"""A phantom patient as CBIS-DDSM has them: films with an abnormality, in 16 bits, and a mask of each abnormality."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.draw import polygon2mask

from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.lesions import Finding, is_cancer
from diagram_ray.data.phantom.patients import VIEWS, PatientPlan, plan_archived
from diagram_ray.data.phantom.render import render_view

SPECK_MM = 2.0
"""Radius of the mask of a single calcification."""
TEST_OF_FIVE = {"mass": 0, "calcification": 1}
"""Which of five patients in a row is in the official test part: another one for masses than for calcifications."""


@dataclass(frozen=True)
class PhantomAbnormality:
    """One row of a table."""

    number: int
    """From 1, over the film's masses and calcifications."""
    finding: str
    """'mass' or 'calcification'."""
    pathology: str
    """MALIGNANT, BENIGN or BENIGN_WITHOUT_CALLBACK."""
    mask: NDArray[np.bool_]
    """(H, W)"""

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) in pixels; bottom and right are exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(axis=1)), np.flatnonzero(self.mask.any(axis=0))
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


@dataclass(frozen=True)
class CbisFilm:
    """One view with its abnormalities."""

    plan: PatientPlan
    side: str
    """'LEFT' or 'RIGHT'."""
    view: str
    pixels: NDArray[np.uint16]
    """(H, W)"""
    abnormalities: tuple[PhantomAbnormality, ...]

    @property
    def patient(self) -> str:
        """'P_00001'"""
        return f"P_{self.plan.number + 1:05d}"

    @property
    def label(self) -> str:
        """The worst: 'cancer' or 'benign'."""
        return "cancer" if any(one.pathology == "MALIGNANT" for one in self.abnormalities) else "benign"


def phantom_films(seed: int, number: int, difficulty: float, grid: Grid) -> tuple[CbisFilm, ...]:
    """The films of patient `number` (from 0) that show something: none of a healthy patient.

    A pure function of its arguments.
    """
    plan = plan_archived(seed, number)
    films = []
    for view, (side, projection) in enumerate(VIEWS):
        rendered = render_view(plan, seed, view, difficulty, grid)
        found = _abnormalities(rendered.findings, plan.birads[side], grid)
        if found:
            name = "LEFT" if side == "L" else "RIGHT"
            films.append(CbisFilm(plan, name, projection, (4 * rendered.pixels).astype(np.uint16), found))
    return tuple(films)


def split(number: int, finding: str) -> str:
    """The official part, 'train' or 'test', of patient `number` for a kind of abnormality."""
    return "test" if number % 5 == TEST_OF_FIVE[finding] else "train"


def _abnormalities(findings: list[Finding], birads: str, grid: Grid) -> tuple[PhantomAbnormality, ...]:
    """Masses proper and clusters of cancers; masses and single calcifications of all others."""
    cancer = is_cancer(birads)
    calcified = "Cluster" if cancer else "Calcification"
    pathology = {"Mass": "BENIGN", calcified: "BENIGN_WITHOUT_CALLBACK"} if not cancer else {}
    return tuple(
        PhantomAbnormality(
            number=number,
            finding="mass" if finding.name == "Mass" else "calcification",
            pathology=pathology.get(finding.name, "MALIGNANT"),
            mask=_filled(finding, grid),
        )
        for number, finding in enumerate((one for one in findings if one.name in ("Mass", calcified)), start=1)
    )


def _filled(finding: Finding, grid: Grid) -> NDArray[np.bool_]:
    """The pixels within an outline, or around a single point."""
    middle_x, middle_y = finding.points.mean(axis=0)
    if len(finding.points) == 1:
        y, x = (axis / grid.spacing for axis in grid.axes())
        mask = np.hypot(y - middle_y, x - middle_x) <= SPECK_MM / grid.spacing
    else:
        mask = polygon2mask(grid.shape, finding.points[:, ::-1] - 0.5)  # type: ignore[no-untyped-call]
    mask[min(int(middle_y), grid.height - 1), min(int(middle_x), grid.width - 1)] = True  # where pixels are large
    return np.asarray(mask, dtype=bool)
