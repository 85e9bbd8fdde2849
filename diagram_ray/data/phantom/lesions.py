"""Lesions: what they add to the attenuation, and the outlines a radiologist would draw.

A breast with a lesion has one mass and, in some, a few calcifications. Where they lie, how large and how bright they
are is drawn before anybody asks whether they are malignant. That decides two things only: the shape of the mass
(`shapes`), a smooth oval or a star of spicules, and whether the calcifications are scattered or in a cluster.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from diagram_ray.data.phantom.anatomy import Field, Grid, Outline, thickness
from diagram_ray.data.phantom.patients import CANCER_BIRADS
from diagram_ray.data.phantom.shapes import OUTERMOST, Shape, draw_shape, profile

RADIUS, CONTRAST, SEPARATION = (14.0, 8.0), (0.6, 0.2), (4.4, 1.8)
"""Values at difficulty 0 and 1: radius of masses in mm, attenuation in their middle, and how far apart the classes'
mean degrees of malignancy are, in standard deviations."""
STEEPNESS = 2.5
"""Spiculation is the logistic function of the degree times this."""
CALCIFIED = 0.3
"""Part of the breasts with a mass that have calcifications."""
CLUSTER_MM = 3.0
"""Standard deviation of the places of a cluster's calcifications."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """A radiologist's outline: (n, 2) points (x, y) in pixels; one point is a single calcification."""

    name: str
    points: Points


@dataclass(frozen=True)
class Lesion:
    """A lesion as it is in the breast: the same for both of its views."""

    malignant: bool
    degree: float
    """How malignant its shape is: N(+s/2, 1) of malignant and N(-s/2, 1) of benign ones, s by the difficulty."""
    radius: float
    """The radius in mm of the disc of the mass's area."""
    contrast: float
    """Attenuation added in the middle."""
    depth: float
    """Distance behind the nipple, as a part of the breast's depth."""
    specks: int
    """The number of calcifications."""

    @property
    def spiculation(self) -> float:
        """How spiculated the border is, 0 to 1."""
        return float(expit(STEEPNESS * self.degree))


def separation(difficulty: float) -> float:
    """Distance of the classes' mean degrees in standard deviations, at a difficulty of 0 to 1."""
    return SEPARATION[0] + difficulty * (SEPARATION[1] - SEPARATION[0])


def best_auc(difficulty: float) -> float:
    """The AUC of an observer who knows the degree of each breast's lesion: nobody who sees images does better."""
    return 0.5 * (1.0 + math.erf(separation(difficulty) / 2.0))


def draw_lesion(rng: np.random.Generator, malignant: bool, difficulty: float) -> Lesion:
    """A lesion; the higher the difficulty (0..1), the smaller, fainter and less certain in shape.

    `malignant` moves the degree and changes nothing else: the other draws are the same for equal generators.
    """
    radius, contrast = (easy * (hard / easy) ** difficulty for easy, hard in (RADIUS, CONTRAST))
    mean = separation(difficulty) / 2.0
    return Lesion(
        malignant=malignant,
        degree=float(rng.normal() + (mean if malignant else -mean)),
        radius=float(radius * np.clip(rng.lognormal(0.0, 0.13), 0.75, 1.3)),
        contrast=float(contrast * rng.lognormal(0.0, 0.15)),
        depth=float(rng.uniform(0.25, 0.75)),
        specks=int(rng.integers(3, 8)) if rng.random() < CALCIFIED else 0,
    )


def add_lesion(
    rng: np.random.Generator, lesion: Lesion, outline: Outline, depth: float, grid: Grid
) -> tuple[Field, list[Finding]]:
    """What a lesion adds in one view, (H, W), and its outlines; `depth` is the breast's in mm."""
    added = np.zeros(grid.shape, np.float32)
    centre = _place(rng, 1.5 * lesion.radius, lesion.depth, outline, depth, grid)
    shape = draw_shape(rng, lesion.spiculation)
    _add_mass(added, lesion, shape, centre, grid)
    findings = _outlines(lesion, shape, centre, grid)
    if lesion.specks:
        findings += _calcify(rng, added, lesion, outline, depth, grid)
    return added * thickness(outline), findings


def is_cancer(birads: str) -> bool:
    """Whether the breast holds a malignant lesion."""
    return birads in CANCER_BIRADS


def _place(
    rng: np.random.Generator, clearance: float, depth_part: float, outline: Outline, depth: float, grid: Grid
) -> tuple[float, float]:
    """(y, x) in mm of the permitted place nearest to the one wanted: inside the breast, clear of skin and muscle."""
    y, x = grid.axes()
    level, tip = outline.nipple
    wanted_y = level + rng.uniform(-0.55, 0.55) * depth
    wanted_x = tip - depth_part * depth
    permitted = (outline.to_skin > clearance) & (outline.muscle < 0.05) & (x > clearance)
    distance = np.where(permitted, (y - wanted_y) ** 2 + (x - wanted_x) ** 2, np.inf)
    row, column = np.unravel_index(int(np.argmin(distance)), grid.shape)
    return (float(row) + 0.5) * grid.spacing, (float(column) + 0.5) * grid.spacing


def _add_mass(added: Field, lesion: Lesion, shape: Shape, centre: tuple[float, float], grid: Grid) -> None:
    reach = OUTERMOST * lesion.radius * float(np.hypot(*shape.outline().T).max())
    y, x = grid.axes()
    rows, columns = np.abs(y[:, 0] - centre[0]) < reach, np.abs(x[0] - centre[1]) < reach
    near = np.ix_(rows, columns)
    level = shape.level((y[rows] - centre[0]) / lesion.radius, (x[:, columns] - centre[1]) / lesion.radius)
    added[near] += np.float32(lesion.contrast) * profile(level)


def _outlines(lesion: Lesion, shape: Shape, centre: tuple[float, float], grid: Grid) -> list[Finding]:
    """The mass; around a malignant one also the circle that holds its spicules."""
    border = lesion.radius * shape.outline()[::5]
    mass = Finding("Mass", _pixels(border + centre, grid))
    if not lesion.malignant:
        return [mass]
    region = np.hypot(*border.T).max() * np.stack([np.sin(_AROUND), np.cos(_AROUND)], axis=1)
    return [mass, Finding("Spiculated Region", _pixels(region + centre, grid))]


def _calcify(
    rng: np.random.Generator, added: Field, lesion: Lesion, outline: Outline, depth: float, grid: Grid
) -> list[Finding]:
    """Calcifications of one number and brightness: in a cluster if malignant, else each somewhere in the breast."""
    sizes, contrasts = rng.uniform(0.28, 0.5, lesion.specks), rng.uniform(0.5, 0.9, lesion.specks)
    middle = np.array(_place(rng, 8.0, rng.uniform(0.15, 0.85), outline, depth, grid))
    if lesion.malignant:
        places = middle + np.clip(rng.normal(0.0, CLUSTER_MM, (lesion.specks, 2)), -7.0, 7.0)
    else:
        scattered = [_place(rng, 8.0, rng.uniform(0.15, 0.85), outline, depth, grid) for _ in sizes[1:]]
        places = np.array([middle, *scattered])
    for place, contrast, size in zip(places, contrasts, sizes, strict=True):
        _speck(added, place, contrast, size, grid)
    specks = [Finding("Calcification", _pixels(place[None], grid)) for place in places]
    if not lesion.malignant:
        return specks
    around = 3.0 + np.hypot(*(places - middle).T).max()
    circle = middle + around * np.stack([np.sin(_AROUND), np.cos(_AROUND)], axis=1)
    return [Finding("Cluster", _pixels(circle, grid)), *specks]


def _speck(added: Field, place: Points, contrast: float, sigma: float, grid: Grid) -> None:
    """A calcification: a small bright spot, dimmed where it is smaller than a pixel."""
    y, x = grid.axes()
    seen = max(sigma, 0.5 * grid.spacing)
    spot = np.exp(-(((y - place[0]) / seen) ** 2) / 2) * np.exp(-(((x - place[1]) / seen) ** 2) / 2)
    added += np.float32(contrast * (sigma / seen) ** 2) * spot


_AROUND = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)


def _pixels(places: Points, grid: Grid) -> Points:
    """(n, 2) places (y, x) in mm -> (n, 2) points (x, y) in pixels, kept inside the image."""
    return np.clip(places[:, ::-1] / grid.spacing, 0.0, (grid.width, grid.height))
