"""The shape of a mass, from a smooth oval to a star of spicules, of one area and one distribution of brightness.

A mass is what a fixed profile of heights makes of the level u of each place: 0 in its middle, 1 on its border. In polar
coordinates u = r / B(angle), with the mean square of B held at 1. So the area in which u is below any value is that of
a disc, whatever B is, and two masses of one radius and contrast have the same area, the same sum, the same peak and the
same histogram of added attenuation: nothing but their shape tells them apart. Stretching by one factor along one axis
and by its inverse across, and turning each circle by an angle of its own, leave areas as they are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.data.phantom.anatomy import Field, as_field

ANGLES = np.linspace(0.0, 2 * np.pi, 720, endpoint=False)
SOFTNESS = 0.06
"""Width of the border as a part of the radius."""
OUTERMOST = 1.3
"""Level beyond which nothing is added."""

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Shape:
    """The shape of a mass. Lengths are in radii of the disc of the same area."""

    border: NDArray[np.float64]
    """The border B at ANGLES, (720,), with a mean square of 1."""
    stretch: float
    """The stretching along one axis; across it is the inverse."""
    turn: float
    """The angle of the axis of `stretch`."""
    swirl: float
    """Angle by which spicules are bent at distance 1."""

    def level(self, y: NDArray[np.floating], x: NDArray[np.floating]) -> Field:
        """The level u at places `y`, `x` from the middle: 0 there, 1 on the border."""
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        along, across = (cos * x + sin * y) / self.stretch, (cos * y - sin * x) * self.stretch
        radius = np.hypot(along, across)
        angle = np.arctan2(across, along) + self.swirl * radius
        return as_field(radius / np.interp(angle, ANGLES, self.border, period=2 * np.pi))

    def outline(self) -> Points:
        """The places (y, x) with u = 1, (720, 2)."""
        angle = ANGLES - self.swirl * self.border
        along, across = self.border * np.cos(angle) * self.stretch, self.border * np.sin(angle) / self.stretch
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        return np.stack([sin * along + cos * across, cos * along - sin * across], axis=1)


def draw_shape(rng: np.random.Generator, spiculation: float) -> Shape:
    """A shape: a smooth or slightly lobulated oval at `spiculation` 0, ragged with long spicules at 1."""
    lobes = _waves(rng, range(2, 5), 0.05)
    ragged = _waves(rng, range(3, 16), 0.05)
    border = 1.0 + lobes + spiculation * (ragged + _spicules(rng))
    border = np.clip(border, 0.3, None)
    border /= np.sqrt(np.mean(border**2))
    return Shape(
        border=border,
        stretch=float(rng.uniform(1.0, 1.2)),
        turn=float(rng.uniform(0.0, np.pi)),
        swirl=float(rng.normal(0.0, 0.12)),
    )


def profile(level: NDArray[np.floating]) -> Field:
    """Height over the level u: 1 in the middle, a third just inside of a narrow border."""
    height = 1.0 - 0.7 * np.minimum(level, 1.0) ** 2
    edge = 1.0 / (1.0 + np.exp(np.clip((level - 1.0) / SOFTNESS, -30.0, 30.0)))
    return as_field(height * edge * (level < OUTERMOST))


def _waves(rng: np.random.Generator, orders: range, size: float) -> NDArray[np.float64]:
    sizes, phases = rng.normal(0.0, size, len(orders)), rng.uniform(0.0, 2 * np.pi, len(orders))
    return np.asarray(sizes @ np.cos(np.outer(orders, ANGLES) + phases[:, None]))


def _spicules(rng: np.random.Generator) -> NDArray[np.float64]:
    """What 9 to 15 spicules of unlike lengths add to the border."""
    count = int(rng.integers(9, 16))
    middles = 2 * np.pi * (np.arange(count) + rng.uniform(-0.4, 0.4, count)) / count
    lengths, widths = rng.uniform(0.2, 1.3, count), rng.uniform(0.05, 0.11, count)
    aside = np.mod(ANGLES - middles[:, None] + np.pi, 2 * np.pi) - np.pi
    return np.asarray(lengths @ np.exp(-0.5 * (aside / widths[:, None]) ** 2))
