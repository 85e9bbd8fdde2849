"""The step from a film scanner's grey levels to the film's optical density, by the curves that were published with
DDSM.

Grey levels of different scanners mean different things; optical densities are comparable. Sources: the calibration
page of each scanner at the University of South Florida and the range that DDSM's converters use (0 to 4).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diagram_ray.errors import DataError

DENSEST = 4.0
"""Optical densities are taken to lie between 0 (clear film) and this (black)."""


@dataclass(frozen=True)
class Curve:
    """A curve of optical density: density = intercept + slope x grey level, or x log10(grey level)."""

    intercept: float
    slope: float
    lowest: int
    """Grey levels below this are read as this: the curve would lead beyond the range, or (log of 0) nowhere."""
    highest: int
    """Grey levels above this are read as this: the curve would lead to negative densities."""
    bits: int
    """Bits per pixel of the scanner's files."""
    logarithmic: bool = False

    @cached_property
    def table(self) -> NDArray[np.float32]:
        """The density of each of the 65,536 grey levels that 16 bits can hold; it never rises."""
        levels = np.clip(np.arange(2**16, dtype=np.float64), self.lowest, self.highest)
        density = self.intercept + self.slope * (np.log10(levels) if self.logarithmic else levels)
        return np.clip(density, 0.0, DENSEST).astype(np.float32)


CURVES = {
    "dba": Curve(4.80662 / 1.07553, -1 / 1.07553, 4, 64064, bits=16, logarithmic=True),
    "howtek-mgh": Curve(3.789, -0.00094568, 0, 4006, bits=12),
    "howtek-ismd": Curve(3.96604096240593, -0.00099055807612, 0, 4003, bits=12),
    "lumisys": Curve(4096.99 / 1009.01, -1 / 1009.01, 61, 4097, bits=12),
}
SCANNERS = {
    ("A", "DBA"): "dba",
    ("A", "HOWTEK"): "howtek-mgh",
    ("D", "HOWTEK"): "howtek-ismd",
    ("B", "LUMISYS"): "lumisys",
    ("C", "LUMISYS"): "lumisys",
}
"""The scanner of a case: (first letter of a case's name, first word after DIGITIZER in its .ics) -> key of CURVES."""


def scanner_of(letter: str, digitizer: str) -> str:
    """The key in CURVES of the scanner that made a DDSM case. Raises DataError for a pair that DDSM does not have."""
    if (letter, digitizer) not in SCANNERS:
        allowed = ", ".join(f"{first} with {word}" for first, word in SCANNERS)
        raise DataError(f"DIGITIZER {digitizer[:20]!r} of a case {letter!r} has no known curve; allowed: {allowed}")
    return SCANNERS[letter, digitizer]


def to_optical_density(pixels: NDArray[np.uint16], scanner: str) -> NDArray[np.float32]:
    """The density at each pixel, in an array of the same shape: between 0 and 4, high where the film is dark.

    `scanner` is a key of CURVES. The DBA curve has no value for grey level 0; it counts as the darkest, as do all
    levels below 4: 0 lies next to 1 on the films, and white specks in the background would be the alternative.
    Raises DataError for an unknown scanner.
    """
    if scanner not in CURVES:
        raise DataError(f"scanner {scanner!r} has no curve; allowed: {', '.join(CURVES)}")
    return CURVES[scanner].table[pixels]
