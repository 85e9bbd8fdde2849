"""The curves of DDSM's scanners: published values, clipping, and agreement with the formulas one by one."""

import math

import numpy as np
import pytest

from diagram_ray.data.decoding.optical_density import CURVES, scanner_of, to_optical_density
from diagram_ray.errors import DataError


def slow(level: int, scanner: str) -> float:
    """The published formulas, written out."""
    if scanner == "dba":
        return (math.log10(min(max(level, 4), 64064)) - 4.80662) / -1.07553
    if scanner == "howtek-mgh":
        return 3.789 - 0.00094568 * min(level, 4006)
    if scanner == "howtek-ismd":
        return 3.96604096240593 - 0.00099055807612 * min(level, 4003)
    return (min(max(level, 61), 4097) - 4096.99) / -1009.01


@pytest.mark.parametrize("scanner", CURVES)
def test_every_grey_level_has_the_density_of_the_formula(scanner: str) -> None:
    levels = np.arange(2**16).astype(np.uint16)
    density = to_optical_density(levels.reshape(256, 256), scanner)
    assert (density.shape, density.dtype) == ((256, 256), np.float32)
    expected = [slow(level, scanner) for level in range(2**16)]
    np.testing.assert_allclose(density.ravel(), np.clip(expected, 0, 4), rtol=0, atol=1e-6)
    assert (np.diff(density.ravel()) <= 0).all()
    assert density.min() >= 0
    assert density.max() <= 4


@pytest.mark.parametrize(("density", "level"), [(0.04, 55722), (1.13, 3797), (2.07, 393), (3.13, 34)])
def test_the_steps_of_the_dba_phantom(density: float, level: int) -> None:
    """Measured on the scanner's calibration film; the curve is a fit to such steps, the poorer the darker."""
    found = to_optical_density(np.array([[level]], np.uint16), "dba")[0, 0]
    assert found == pytest.approx(density, abs=0.02 if density < 3 else 0.1)


def test_grey_level_0_of_the_dba_scanner_is_as_dark_as_its_neighbours() -> None:
    found = to_optical_density(np.array([0, 1, 4, 5], np.uint16), "dba")
    assert found[0] == found[1] == found[2] > found[3] > 3.8


def test_the_curve_is_told_by_letter_and_digitizer() -> None:
    pairs = [("A", "DBA"), ("A", "HOWTEK"), ("D", "HOWTEK"), ("B", "LUMISYS"), ("C", "LUMISYS")]
    assert [scanner_of(*pair) for pair in pairs] == ["dba", "howtek-mgh", "howtek-ismd", "lumisys", "lumisys"]
    for letter, digitizer in [("A", "LUMISYS"), ("B", "HOWTEK"), ("D", "DBA"), ("E", "DBA"), ("A", "dba"), ("", "")]:
        with pytest.raises(DataError, match=r"no known curve; allowed: A with DBA, A with HOWTEK, D with HOWTEK"):
            scanner_of(letter, digitizer)
    with pytest.raises(DataError, match="scanner 'vidar' has no curve; allowed: dba, howtek-mgh"):
        to_optical_density(np.zeros((2, 2), np.uint16), "vidar")
