"""Lesions: what they add to the attenuation, and the outlines a radiologist would draw.

Malignant: an irregular mass with spicules and a haze around it, often with a cluster of fine calcifications. Benign: a
smooth ellipse, or a few coarse round calcifications. Malignant masses are larger and brighter where the difficulty is
low; where it is high, shape alone tells the two apart.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.phantom.anatomy import Field, Grid, Outline, as_field, thickness
from diagram_ray.data.phantom.plan import CANCER_BIRADS

EASY = {True: (15.0, 0.95), False: (7.0, 0.33)}
HARD = {True: (8.0, 0.19), False: (6.0, 0.15)}
"""Radius in mm and contrast of masses (malignant or not) at difficulty 0 and 1."""
HAZE = 0.3
"""Density of the tissue's reaction around a malignant mass, as a part of the mass's contrast."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """A radiologist's outline: (n, 2) points (x, y) in pixels; one point is a single calcification."""

    name: str
    points: Points


@dataclass(frozen=True)
class Mass:
    """A mass as it is in the breast: the same for both of its views."""

    malignant: bool
    radius: float
    """mm"""
    contrast: float
    """Attenuation added in the middle."""
    depth: float
    """Distance behind the nipple, as a part of the breast's depth."""


def draw_mass(rng: np.random.Generator, malignant: bool, difficulty: float) -> Mass:
    """A mass; the higher the difficulty (0..1), the smaller, fainter and more like a benign one."""
    easy, hard = EASY[malignant], HARD[malignant]
    part = difficulty**3
    radius, contrast = (a * (b / a) ** part for a, b in zip(easy, hard, strict=True))
    return Mass(
        malignant=malignant,
        radius=float(radius * np.clip(rng.lognormal(0.0, 0.13), 0.75, 1.15)),
        contrast=float(contrast * rng.lognormal(0.0, 0.15)),
        depth=float(rng.uniform(0.25, 0.75)),
    )


def add_lesions(
    rng: np.random.Generator, masses: list[Mass], coarse: int, outline: Outline, depth: float, grid: Grid
) -> tuple[Field, list[Finding]]:
    """What the lesions of one view add, (H, W), and their outlines.

    `coarse` is the number of coarse benign calcifications, `depth` the breast's in mm.
    """
    added = np.zeros(grid.shape, np.float32)
    findings: list[Finding] = []
    for mass in masses:
        centre = _place(rng, mass.radius, mass.depth, outline, depth, grid)
        findings += (
            _malignant(rng, mass, centre, added, grid) if mass.malignant else _benign(rng, mass, centre, added, grid)
        )
    for _ in range(coarse):
        centre = _place(rng, 2.0, float(rng.uniform(0.15, 0.85)), outline, depth, grid)
        _speck(added, centre, 0.55 * rng.uniform(0.8, 1.2), 0.9 * rng.uniform(0.8, 1.3), grid)
        findings.append(Finding("Calcification", _pixels([centre], grid)))
    return added * thickness(outline), findings


def is_cancer(birads: str) -> bool:
    """Whether the breast holds a malignant lesion."""
    return birads in CANCER_BIRADS


def _place(
    rng: np.random.Generator, radius: float, depth_part: float, outline: Outline, depth: float, grid: Grid
) -> tuple[float, float]:
    """(y, x) in mm of the permitted place nearest to the one wanted: inside the breast, clear of skin and muscle."""
    y, x = grid.axes()
    level, tip = outline.nipple
    wanted_y = level + rng.uniform(-0.55, 0.55) * depth
    wanted_x = tip - depth_part * depth
    permitted = (outline.to_skin > 0.7 * radius + 5.0) & (outline.muscle < 0.05) & (x > 0.9 * radius)
    distance = np.where(permitted, (y - wanted_y) ** 2 + (x - wanted_x) ** 2, np.inf)
    row, column = np.unravel_index(int(np.argmin(distance)), grid.shape)
    return (float(row) + 0.5) * grid.spacing, (float(column) + 0.5) * grid.spacing


def _polar(centre: tuple[float, float], grid: Grid) -> tuple[Field, Field]:
    y, x = grid.axes()
    dy, dx = y - centre[0], x - centre[1]
    return np.hypot(dy, dx), np.arctan2(dy, dx)


def _benign(
    rng: np.random.Generator, mass: Mass, centre: tuple[float, float], added: Field, grid: Grid
) -> list[Finding]:
    """A circumscribed ellipse, sharply bordered."""
    axis_ratio, turn = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    radius, angle = _polar(centre, grid)

    def border(at: NDArray[np.floating]) -> Field:
        long, short = mass.radius / np.sqrt(axis_ratio), mass.radius * np.sqrt(axis_ratio)
        return as_field(long * short / np.hypot(short * np.cos(at - turn), long * np.sin(at - turn)))

    added += mass.contrast * _dome(radius / border(angle), 0.5 / mass.radius)
    return [Finding("Mass", _contour(centre, border(_ANGLES), grid))]


def _malignant(
    rng: np.random.Generator, mass: Mass, centre: tuple[float, float], added: Field, grid: Grid
) -> list[Finding]:
    """An irregular core with a soft border, spicules, a haze and, in two of three, fine calcifications."""
    waves = [(k, rng.normal(0.0, 0.16) / np.sqrt(k), rng.uniform(0, 2 * np.pi)) for k in range(2, 9)]
    radius, angle = _polar(centre, grid)

    def border(at: NDArray[np.floating]) -> Field:
        lobes = sum(size * np.cos(k * at + phase) for k, size, phase in waves)
        return as_field(mass.radius * np.clip(0.78 + lobes, 0.4, 1.3))

    core = mass.contrast * _dome(radius / border(angle), 1.4 / mass.radius)
    reach = mass.radius * rng.uniform(1.7, 2.3)
    haze = HAZE * mass.contrast * np.exp(-((radius / (1.2 * mass.radius)) ** 2))
    added += np.maximum(core, _spicules(rng, mass, reach, radius, angle)) + haze
    findings = [
        Finding("Mass", _contour(centre, border(_ANGLES), grid)),
        Finding("Spiculated Region", _contour(centre, np.full(_ANGLES.shape, 0.95 * reach), grid)),
    ]
    return findings + (_cluster(rng, mass, centre, added, grid) if rng.random() < 2 / 3 else [])


def _spicules(rng: np.random.Generator, mass: Mass, reach: float, radius: Field, angle: Field) -> Field:
    """Thin bent lines from the core outwards that taper and fade."""
    near = radius < 1.15 * reach
    away, at = radius[near], angle[near]
    brightest = np.zeros_like(away)
    for start in np.linspace(0, 2 * np.pi, int(rng.integers(14, 24)), endpoint=False):
        bend = np.clip(rng.normal(0.0, 0.25) * (away / mass.radius - 1.0) ** 2, -0.5, 0.5)
        direction = start + rng.normal(0.0, 0.2) + bend
        aside = (np.mod(at - direction + np.pi, 2 * np.pi) - np.pi) * away
        end = reach * rng.uniform(0.55, 1.15)
        fade = np.clip((end - away) / (end - 0.4 * mass.radius), 0.0, 1.0)
        line = rng.uniform(0.5, 1.0) * fade**0.7 * np.exp(-((aside / (0.4 + 0.7 * fade)) ** 2))
        brightest = np.maximum(brightest, line)
    lines = np.zeros_like(radius)
    lines[near] = 0.8 * mass.contrast * brightest
    return lines


def _cluster(
    rng: np.random.Generator, mass: Mass, centre: tuple[float, float], added: Field, grid: Grid
) -> list[Finding]:
    """Fine calcifications about the mass."""
    offsets = rng.normal(0.0, 0.45 * mass.radius, (int(rng.integers(6, 17)), 2))
    specks = [(centre[0] + float(dy), centre[1] + float(dx)) for dy, dx in offsets]
    for speck in specks:
        _speck(added, speck, rng.uniform(0.8, 1.2) * 1.1 * mass.contrast, rng.uniform(0.28, 0.42), grid)
    around = 3.0 + np.max(np.hypot(*offsets.T))
    cluster = Finding("Cluster", _contour(centre, np.full(_ANGLES.shape, around), grid))
    return [cluster, *(Finding("Calcification", _pixels([speck], grid)) for speck in specks)]


def _speck(added: Field, centre: tuple[float, float], contrast: float, sigma: float, grid: Grid) -> None:
    """A calcification: a small bright spot, dimmed where it is smaller than a pixel."""
    radius, _ = _polar(centre, grid)
    seen = max(sigma, 0.5 * grid.spacing)
    added += np.float32(contrast * (sigma / seen) ** 2) * np.exp(-((radius / seen) ** 2) / 2)


def _dome(part: NDArray[np.floating], softness: float) -> Field:
    """Height of a flattened ball over its border's parts (0 middle, 1 border), with a border of the given softness."""
    height = 0.6 + 0.4 * np.sqrt(np.clip(1.0 - part**2, 0.0, 1.0))
    return as_field(height / (1.0 + np.exp(np.clip((part - 1.0) / softness, -30.0, 30.0))))


_ANGLES = np.linspace(0.0, 2 * np.pi, 72, endpoint=False)


def _contour(centre: tuple[float, float], radii: NDArray[np.floating], grid: Grid) -> Points:
    y, x = centre[0] + radii * np.sin(_ANGLES), centre[1] + radii * np.cos(_ANGLES)
    return _pixels(list(zip(y.tolist(), x.tolist(), strict=True)), grid)


def _pixels(places: list[tuple[float, float]], grid: Grid) -> Points:
    """(y, x) in mm -> (n, 2) points (x, y) in pixels, kept inside the image."""
    y, x = np.array(places, dtype=np.float64).T / grid.spacing
    return np.stack([np.clip(x, 0.0, grid.width), np.clip(y, 0.0, grid.height)], axis=1)
