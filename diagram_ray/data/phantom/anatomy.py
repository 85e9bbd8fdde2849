"""A breast without lesions: outline, thickness, pectoral muscle and fibroglandular tissue.

All views are made in the orientation of a left breast (chest wall at column 0) and mirrored afterwards. Lengths are in
mm. The parenchyma is a random field whose power falls with the third power of the spatial frequency, as measured in
mammograms (Burgess, Jacobson and Judy, Med Phys 2001: exponents near 3).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

HEIGHT_MM = 233.0
"""The height of an image in mm: 3328 rows of 0.07 mm, the smaller INbreast format; the width is 2560 columns."""
ASPECT = 2560 / 3328
POWER_EXPONENT = 3.0
GLAND_SHARE = {1: 0.08, 2: 0.26, 3: 0.50, 4: 0.78}
"""Part of the breast's area that is fibroglandular tissue, for each ACR density."""

Field = NDArray[np.float32]


@dataclass(frozen=True)
class Grid:
    """An image of `height` x `width` pixels of `spacing` mm."""

    height: int

    @property
    def width(self) -> int:
        """The number of columns."""
        return round(self.height * ASPECT)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width (H, W) in pixels."""
        return self.height, self.width

    @property
    def spacing(self) -> float:
        """The side of a pixel in mm."""
        return HEIGHT_MM / self.height

    def axes(self) -> tuple[Field, Field]:
        """Positions of the pixels' centres in mm: y as (H, 1), x as (1, W)."""
        y = (np.arange(self.height, dtype=np.float32) + 0.5) * np.float32(self.spacing)
        x = (np.arange(self.width, dtype=np.float32) + 0.5) * np.float32(self.spacing)
        return y[:, None], x[None, :]


@dataclass(frozen=True)
class Body:
    """What the views of one breast have in common."""

    depth: float
    """The distance from the chest wall to the nipple."""
    half_height: float
    """Half the breast's height at the chest wall in CC."""
    gland_width: float
    """Width of the cone of gland behind the nipple, as a part of `half_height`."""


@dataclass(frozen=True)
class Outline:
    """Where the breast is in one view."""

    mask: NDArray[np.bool_]
    """The pixels inside the breast, (H, W)."""
    to_skin: Field
    """The distance to the skin in mm, (H, W); 0 outside."""
    nipple: tuple[float, float]
    """The place of the nipple (y, x) in mm."""
    muscle: Field
    """The part of each pixel, 0..1, that is pectoral muscle, (H, W)."""


def as_field(value: NDArray[np.floating]) -> Field:
    """The array in single precision."""
    return np.asarray(value, dtype=np.float32)


def draw_body(rng: np.random.Generator) -> Body:
    """A patient's breast size and shape."""
    depth = float(rng.uniform(62.0, 112.0))
    half_height = float(np.clip(depth * rng.uniform(0.82, 1.05), 58.0, 104.0))
    return Body(depth, half_height, float(rng.uniform(0.42, 0.7)))


def power_law_noise(rng: np.random.Generator, shape: tuple[int, int], exponent: float = POWER_EXPONENT) -> Field:
    """A Gaussian random field of `shape` with power ~ 1/f^exponent, mean 0 and standard deviation 1.

    The field is cut from a larger one, so its opposite edges do not meet.
    """
    size = (fft.next_fast_len(shape[0] * 3 // 2, real=True), fft.next_fast_len(shape[1] * 3 // 2, real=True))
    spectrum = fft.rfft2(rng.standard_normal(size, dtype=np.float32)) * _gain(size, exponent)
    return _standardised(fft.irfft2(spectrum, s=size)[: shape[0], : shape[1]])


@lru_cache(maxsize=32)
def _gain(size: tuple[int, int], exponent: float) -> Field:
    """Amplitude of each frequency, 1/f^(exponent / 2); the mean is taken out."""
    frequency = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None, :])
    frequency[0, 0] = np.inf
    return as_field(frequency ** (-exponent / 2))


def draw_outline(rng: np.random.Generator, view: str, body: Body, grid: Grid) -> Outline:
    """The breast's outline in view 'CC' or 'MLO'."""
    y, x = grid.axes()
    level = HEIGHT_MM * (rng.uniform(0.46, 0.54) if view == "CC" else rng.uniform(0.54, 0.62))
    profile = _profile_cc(y, level, body) if view == "CC" else _profile_mlo(y, level, body, rng)
    profile = profile + _wobble(rng, y) * np.minimum(profile / 30.0, 1.0)
    profile = profile + rng.uniform(0.0, 4.0) * np.exp(-(((y - level) / 4.5) ** 2))
    mask = x < profile
    row = min(int(level / grid.spacing), grid.height - 1)
    muscle = np.zeros(grid.shape, np.float32) if view == "CC" else _muscle(rng, y, x, grid)
    return Outline(mask, _distance_to_skin(mask, grid), (level, float(profile[row, 0])), muscle * mask)


def draw_tissue(rng: np.random.Generator, outline: Outline, body: Body, density: int, grid: Grid) -> Field:
    """Attenuation of the breast without lesions, (H, W): about 0.2 for fat to 0.8 for gland; 0 outside."""
    noise = power_law_noise(rng, grid.shape)
    strands = _strands(rng, outline, grid)
    gland = _gland(rng, noise, outline, body, density, grid)
    fibres = 0.6 * strands + 0.4 * _strands(rng, outline, grid)
    tissue = 0.20 + 0.035 * noise + gland * (0.26 + 0.10 * noise) + fibres * (0.05 + 0.13 * gland)
    tissue = tissue + 0.10 * _vessels(rng, outline, grid) * (1.0 - gland)
    tissue = np.clip(tissue, 0.08, None) * thickness(outline) + _skin(outline)
    return as_field((tissue + _muscle_tissue(noise, tissue, outline)) * outline.mask)


def thickness(outline: Outline) -> Field:
    """Thickness of the compressed breast, 0 at the skin to 1 inside: a rounded edge about 20 mm wide."""
    inside = np.clip(outline.to_skin / 20.0, 0.0, 1.0)
    return as_field((0.35 + 0.65 * np.sqrt(1.0 - (1.0 - inside) ** 2)) * outline.mask)


def _profile_cc(y: Field, level: float, body: Body) -> Field:
    t = np.clip(np.abs(y - level) / body.half_height, 0.0, 1.0)
    return as_field(body.depth * (1.0 - t**2.1) ** 0.55)


def _profile_mlo(y: Field, level: float, body: Body, rng: np.random.Generator) -> Field:
    """Up to the arm pit at the top edge, down to the fold below the breast."""
    armpit = body.depth * rng.uniform(0.45, 0.7)
    below = min(body.half_height * rng.uniform(0.85, 1.0), HEIGHT_MM * 0.97 - level)
    up = np.clip((level - y) / level, 0.0, 1.0)
    down = np.clip((y - level) / below, 0.0, 1.0)
    upper = body.depth * (1.0 - up**1.9) ** 0.7 + armpit * up**2.2
    return as_field(np.where(y < level, upper, body.depth * (1.0 - down**2.2) ** 0.55))


def _wobble(rng: np.random.Generator, y: Field) -> Field:
    """Slow irregularity of the skin line, about 1.5 mm."""
    turns = 2 * np.pi * y / HEIGHT_MM
    waves = [rng.normal(0.0, 1.0) * np.sin(k * turns + rng.uniform(0, 2 * np.pi)) / k for k in range(2, 7)]
    return as_field(1.5 * np.sum(waves, axis=0))


def _muscle(rng: np.random.Generator, y: Field, x: Field, grid: Grid) -> Field:
    """The pectoral wedge in the upper corner at the chest wall, with a slightly convex and soft border."""
    top, bottom = rng.uniform(34.0, 62.0), rng.uniform(95.0, 150.0)
    border = top * np.clip(1.0 - y / bottom, 0.0, 1.0) ** rng.uniform(0.72, 1.0)
    border = border + 1.5 * power_law_noise(rng, grid.shape)
    thinning = np.clip(0.55 + (border - x) / 45.0, 0.0, 1.0) * _sigmoid((bottom - 8.0 - y) / 2.0)
    return as_field(_sigmoid(border - x) * thinning)


def _distance_to_skin(mask: NDArray[np.bool_], grid: Grid) -> Field:
    """The image's own edges are no skin: the mask goes on beyond them."""
    beyond = round(30.0 / grid.spacing)
    wide = np.pad(mask, ((beyond, beyond), (beyond, 0)), mode="edge")
    distance = ndimage.distance_transform_edt(wide)[beyond:-beyond, beyond:]
    return as_field(distance * grid.spacing)


def _skin(outline: Outline) -> Field:
    return as_field(0.07 * np.exp(-(((outline.to_skin - 0.9) / 0.8) ** 2)))


def _muscle_tissue(noise: Field, tissue: Field, outline: Outline) -> Field:
    """What the pectoral muscle adds in front of a part of the tissue; it thins out towards its border."""
    return as_field(outline.muscle * (0.30 + 0.03 * noise - 0.35 * np.clip(tissue - 0.2, 0.0, 0.6)))


def _gland(rng: np.random.Generator, noise: Field, outline: Outline, body: Body, density: int, grid: Grid) -> Field:
    """0..1: fibroglandular tissue, a cone behind the nipple broken up by fat lobules; its area follows the density."""
    y, x = grid.axes()
    level, tip = outline.nipple
    across = (y - level + rng.normal(0.0, 6.0)) / (body.gland_width * body.half_height)
    behind = (tip - x) / body.depth
    cone = np.exp(-0.5 * (across / np.clip(0.35 + 0.9 * behind, 0.35, 1.1)) ** 2)
    cone = cone * _sigmoid((0.85 - behind) / 0.1)
    layer = _sigmoid((outline.to_skin - 10.0) / 2.5)
    field = 2.0 * cone + 0.55 * noise + 0.55 * power_law_noise(rng, grid.shape, 3.6)
    field = ndimage.gaussian_filter(field, 0.7 / grid.spacing)
    inside = (outline.to_skin > 4.0) & (outline.muscle < 0.5)
    share = GLAND_SHARE[density] * rng.uniform(0.8, 1.2)
    limit = float(np.quantile(field[inside], 1.0 - min(share, 0.9))) if inside.any() else 0.0
    return as_field(_sigmoid((field - limit) / 0.34) * layer)


def _strands(rng: np.random.Generator, outline: Outline, grid: Grid) -> Field:
    """Ducts and ligaments: bright ridges, bent and broken, that run together towards the nipple; 0..1."""
    y, x = grid.axes()
    level, tip = outline.nipple
    dy, dx = y - level, (tip + 25.0) - x
    angle, radius = np.arctan2(dy, dx), np.hypot(dy, dx)
    polar = power_law_noise(rng, (360, 60), 2.0)
    rows = (angle / np.pi + 0.5) * 320 + 20 + 14.0 * power_law_noise(rng, grid.shape, 3.4)
    columns = np.clip(radius / 4.0, 0, 58)
    field = ndimage.map_coordinates(polar, [rows, columns], order=1, mode="reflect")
    return as_field(np.exp(-np.abs(field) / 0.2))


def _vessels(rng: np.random.Generator, outline: Outline, grid: Grid) -> Field:
    """A few thin winding vessels, 0..1: level lines of smooth random fields, shown only in places."""
    line = power_law_noise(rng, grid.shape, 4.5)
    where = _sigmoid(4.0 * (power_law_noise(rng, grid.shape, 4.0) - 0.3))
    slope = np.hypot(*np.gradient(line)) / grid.spacing
    distance = np.abs(line) / np.maximum(slope, 0.004)
    return as_field(np.exp(-((distance / 0.7) ** 2)) * where * (outline.to_skin > 3.0))


def _standardised(field: NDArray[np.floating]) -> Field:
    return as_field((field - field.mean()) / field.std())


def _sigmoid(value: NDArray[np.floating]) -> Field:
    return as_field(1.0 / (1.0 + np.exp(-np.clip(value, -30.0, 30.0))))
