"""A phantom patient as a case of DDSM: scanner, films in the scanner's grey levels, and what was outlined on them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.decoding.optical_density import CURVES, scanner_of
from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.lesions import Finding, is_cancer
from diagram_ray.data.phantom.patients import VIEWS, PatientPlan, Stream, plan_archived, stream
from diagram_ray.data.phantom.render import WHITE, render_view

MOST_PATIENTS = 19_998
"""A case's number has four digits, and two letters share each number."""
DIGITIZERS = (
    (("A", "DBA M2100 IMAGECLEAR"), ("A", "HOWTEK"), ("B", "LUMISYS LASER")),
    (("C", "LUMISYS"), ("D", "HOWTEK 960")),
)
"""Letter and scanner of patients with even and with odd numbers."""
BLACK, CLEAR = 3.4, 0.2
"""Optical densities of the phantom's darkest and brightest pixels."""
SPECK_MM = 2.0
"""Half the side of what a radiologist draws around one calcification."""

WITHOUT_CALLBACK = "BENIGN_WITHOUT_CALLBACK"

Points = NDArray[np.int64]


@dataclass(frozen=True)
class Outlined:
    """An abnormality: `outlines` are (n, 2) corners (x, y) in pixels of the film, the boundary first."""

    lesions: tuple[str, ...]
    """As after LESION_TYPE."""
    pathology: str
    outlines: tuple[Points, ...]


@dataclass(frozen=True)
class PhantomFilm:
    """One view."""

    view: str
    """'LEFT_CC'"""
    grey: NDArray[np.uint16]
    """(rows, columns): what the scanner wrote."""
    abnormalities: tuple[Outlined, ...]


@dataclass(frozen=True)
class PhantomCase:
    """A patient's four films."""

    plan: PatientPlan
    letter: str
    digitizer: str
    films: tuple[PhantomFilm, ...]

    @property
    def number(self) -> int:
        """Not unique: a case of another letter has it as well."""
        return 1 + self.plan.number // 2

    @property
    def kind(self) -> str:
        """Which volumes the case belongs to: the worst of what was found."""
        found = {one.pathology for film in self.films for one in film.abnormalities}
        if "MALIGNANT" in found:
            return "cancer"
        if found & {"BENIGN", "UNPROVEN"}:
            return "benign"
        return "benign_without_callback" if found else "normal"


def phantom_case(seed: int, number: int, difficulty: float, grid: Grid) -> PhantomCase:
    """The case of patient `number` (from 0): a pure function of its arguments.

    Films are of unlike heights, as films are.
    """
    plan = plan_archived(seed, number)
    letters = DIGITIZERS[number % 2]
    letter, digitizer = letters[stream(seed, number, Stream.SCANNER).integers(len(letters))]
    grey = _grey_levels(scanner_of(letter, digitizer.split()[0]))
    films = []
    for view, (side, projection) in enumerate(VIEWS):
        rendered = render_view(plan, seed, view, difficulty, grid)
        rows = grid.height - view
        found = _abnormalities(rendered.findings, _pathology(plan, side), (rows, grid.width), grid.spacing)
        name = f"{'LEFT' if side == 'L' else 'RIGHT'}_{projection}"
        films.append(PhantomFilm(name, grey[rendered.pixels[:rows]], found))
    return PhantomCase(plan, letter, digitizer, tuple(films))


def _grey_levels(scanner: str) -> NDArray[np.uint16]:
    """What the scanner writes for each brightness 0..WHITE of the phantom."""
    curve = CURVES[scanner]
    density = np.linspace(BLACK, CLEAR, WHITE + 1)
    rising = curve.table[: 2**curve.bits][::-1]
    return (len(rising) - 1 - np.searchsorted(rising, density)).astype(np.uint16)


def _pathology(plan: PatientPlan, side: str) -> str:
    """Of the breast's mass. Every third patient was not called back for a benign one."""
    birads = plan.birads[side]
    if is_cancer(birads):
        return "MALIGNANT"
    return "UNPROVEN" if birads == "3" else "BENIGN" if plan.number % 3 else WITHOUT_CALLBACK


def _abnormalities(
    findings: list[Finding], pathology: str, shape: tuple[int, int], spacing: float
) -> tuple[Outlined, ...]:
    """A malignant mass is outlined by its spicules, with the mass proper as a core; its cluster is a second one."""
    corners: dict[str, list[Points]] = {}
    for finding in findings:
        around = SPECK_MM / spacing if len(finding.points) == 1 else 0.0
        corners.setdefault(finding.name, []).append(_corners(finding.points, around, shape))
    if pathology == "MALIGNANT":
        clusters = corners.get("Cluster", [])
        calcified = ("CALCIFICATION TYPE PLEOMORPHIC DISTRIBUTION CLUSTERED",)
        lesions = ("MASS SHAPE IRREGULAR MARGINS SPICULATED-ILL_DEFINED", *(calcified if clusters else ()))
        mass = Outlined(lesions, pathology, (corners["Spiculated Region"][0], corners["Mass"][0]))
        return (mass, *(Outlined(calcified, pathology, (cluster,)) for cluster in clusters))
    smooth = ("MASS SHAPE OVAL MARGINS CIRCUMSCRIBED",)
    scattered = ("CALCIFICATION TYPE ROUND_AND_REGULAR DISTRIBUTION N/A",)
    masses = [Outlined(smooth, pathology, (mass,)) for mass in corners.get("Mass", [])]
    specks = [Outlined(scattered, WITHOUT_CALLBACK, (speck,)) for speck in corners.get("Calcification", [])]
    return (*masses, *specks)


def _corners(points: NDArray[np.float64], around: float, shape: tuple[int, int]) -> Points:
    """The pixels of the points, or of the corners of a square around a single point; inside an image of `shape`."""
    if around:
        points = points + max(around, 1.0) * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    return np.clip(np.floor(points).astype(np.int64), 0, (shape[1] - 1, shape[0] - 1))
