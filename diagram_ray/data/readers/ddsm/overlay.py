"""A film's .OVERLAY file: its abnormalities, with a radiologist's description and chain-coded outlines of each.

    TOTAL_ABNORMALITIES n, then n times:
        ABNORMALITY k, any number of LESION_TYPE, ASSESSMENT, SUBTLETY, PATHOLOGY, TOTAL_OUTLINES m
        BOUNDARY and its chain, then m - 1 times: CORE and its chain

A chain is one line: column and row of the first pixel, steps to the next pixel as digits 0 (up) to 7 (up and left),
clockwise, and '#'. The boundary is a rough outline; cores are what it holds (calcifications, the mass proper).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diagram_ray.errors import DataError

MAX_BYTES = 4 << 20
MOST_ABNORMALITIES = 50
MOST_OUTLINES = 200
PATHOLOGIES = ("MALIGNANT", "UNPROVEN", "BENIGN", "BENIGN_WITHOUT_CALLBACK")
"""The worst first. What is unproven may be malignant."""
LESION_TYPES = ("MASS", "CALCIFICATION")
OTHER = "other"
MOST_BEYOND = 64
"""Pixels by which an outline may leave its image. Eleven of DDSM's do, by up to 16; more is another image's."""

_ACROSS = np.array([0, 1, 1, 1, 0, -1, -1, -1])
_DOWN = np.array([-1, -1, 0, 1, 1, 1, 0, -1])
_STEPS = tuple("01234567")

Points = NDArray[np.int64]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Abnormality:
    """One ABNORMALITY of a film."""

    findings: tuple[str, ...]
    """The LESION_TYPEs in lower case: 'mass', 'calcification', 'other'."""
    assessment: int
    """The BI-RADS assessment, 0 to 5."""
    subtlety: int
    """The subtlety, 1 (hard to see) to 5 (obvious)."""
    pathology: str
    """The pathology, one of PATHOLOGIES."""
    boundary: Points
    """The outline's pixels (n, 2): x (column) and y (row), from 0, the first one first."""
    cores: tuple[Points, ...]


def parse_overlay(data: bytes) -> tuple[Abnormality, ...]:
    """Reads an .OVERLAY file. Raises DataError, with the line, for whatever departs from the grammar.

    That includes totals that differ from what follows: which lesions the film has would be a guess.
    """
    if len(data) > MAX_BYTES:
        raise DataError(f"has more than {MAX_BYTES} bytes")
    if not data.isascii():
        raise DataError("is not ASCII text")
    lines = _Lines(data.decode("ascii"))
    total = lines.number("TOTAL_ABNORMALITIES", 1, MOST_ABNORMALITIES)
    abnormalities = tuple(_abnormality(lines, number) for number in range(1, total + 1))
    lines.check_end(f"the {total} of TOTAL_ABNORMALITIES")
    return abnormalities


def parse_chain(text: str) -> Points:
    """The pixels of a chain 'x y c c c #', (steps + 1, 2) with x first. Raises DataError for anything else."""
    if not text.endswith("#"):
        raise DataError("the chain does not end with '#'")
    words = text[:-1].split()
    start = [int(word) for word in words[:2] if word.removeprefix("-").isdigit() and len(word) < 7]
    if len(start) < 2 or len(words) < 3:
        raise DataError("not a chain: expected a column, a row and at least one step")
    steps = words[2:]
    codes = "".join(steps)
    if len(codes) != len(steps) or codes.strip("01234567"):
        wrong = next(step for step in steps if step not in _STEPS)
        raise DataError(f"the chain has the step {wrong[:20]!r}; allowed are 0 to 7")
    directions = np.frombuffer(codes.encode("ascii"), dtype=np.uint8) - ord("0")
    points = np.zeros((len(steps) + 1, 2), dtype=np.int64)
    np.cumsum(_ACROSS[directions], out=points[1:, 0])
    np.cumsum(_DOWN[directions], out=points[1:, 1])
    return points + start


def box_of(points: Points, shape: tuple[int, int]) -> tuple[Box, int]:
    """The bounding box (top, left, bottom, right; the last two exclusive) of an outline's part inside an image of
    `shape` (rows, columns), and by how many pixels the outline leaves the image.

    Raises DataError if it leaves it by more than a radiologist's hand does.
    """
    left, top = (int(edge) for edge in points.min(axis=0))
    right, bottom = (int(edge) + 1 for edge in points.max(axis=0))
    beyond = max(0, -top, -left, bottom - shape[0], right - shape[1])
    inside = (max(top, 0), max(left, 0), min(bottom, shape[0]), min(right, shape[1]))
    if beyond > MOST_BEYOND or inside[0] >= inside[2] or inside[1] >= inside[3]:
        where = f"rows {top} to {bottom - 1}, columns {left} to {right - 1}"
        raise DataError(f"an outline ({where}) lies outside of its image of {shape[0]} x {shape[1]} pixels")
    return (float(inside[0]), float(inside[1]), float(inside[2]), float(inside[3])), beyond


class _Lines:
    """The lines of a file that are not blank, taken one by one."""

    def __init__(self, text: str) -> None:
        numbered = ((number, line.strip()) for number, line in enumerate(text.splitlines(), start=1))
        self._rest = [line for line in reversed(list(numbered)) if line[1]]

    def begins(self, keyword: str) -> bool:
        """Whether the next line begins with the keyword."""
        return bool(self._rest) and self._rest[-1][1].split(maxsplit=1)[0] == keyword

    def take(self, keyword: str) -> str:
        """What follows the keyword on the next line, which must begin with it."""
        if not self.begins(keyword):
            raise DataError(f"{self._here()}: expected {keyword}")
        return self._rest.pop()[1].removeprefix(keyword).strip()

    def number(self, keyword: str, low: int, high: int) -> int:
        """The whole number after the keyword."""
        here, text = self._here(), self.take(keyword)
        if not (text.isdigit() and len(text) < 7 and low <= int(text) <= high):
            raise DataError(f"{here}: {keyword} is {text[:20]!r}; allowed are {low} to {high}")
        return int(text)

    def word(self, keyword: str, allowed: tuple[str, ...]) -> str:
        """One of the allowed words after the keyword."""
        here, word = self._here(), self.take(keyword)
        if word not in allowed:
            raise DataError(f"{here}: {keyword} is {word[:20]!r}; allowed are {', '.join(allowed)}")
        return word

    def chain(self) -> Points:
        """The chain on the next line."""
        here = self._here()
        try:
            return parse_chain(self._rest.pop()[1] if self._rest else "")
        except DataError as error:
            raise DataError(f"{here}: {error}") from None

    def check_end(self, what: str) -> None:
        """Raises DataError if another word follows `what` on the line."""
        if self._rest:
            raise DataError(f"{self._here()}: something follows {what}")

    def _here(self) -> str:
        return f"line {self._rest[-1][0]}" if self._rest else "the end"


def _abnormality(lines: _Lines, number: int) -> Abnormality:
    lines.number("ABNORMALITY", number, number)
    findings = []
    while lines.begins("LESION_TYPE"):
        kind = lines.take("LESION_TYPE").partition(" ")[0]
        findings.append(kind.lower() if kind in LESION_TYPES else OTHER)
    assessment = lines.number("ASSESSMENT", 0, 5)
    subtlety = lines.number("SUBTLETY", 0, 5)
    pathology = lines.word("PATHOLOGY", PATHOLOGIES)
    outlines = lines.number("TOTAL_OUTLINES", 1, MOST_OUTLINES)
    lines.take("BOUNDARY")
    boundary = lines.chain()
    cores = []
    for _ in range(outlines - 1):
        lines.take("CORE")
        cores.append(lines.chain())
    return Abnormality(tuple(findings), assessment, subtlety, pathology, boundary, tuple(cores))
