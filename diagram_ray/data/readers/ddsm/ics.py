"""A case's .ics file: who digitised it, the breast's density, and the size of each of its films.

Lines begin with a keyword and come in no order that could be relied on; some files begin with an empty line. What is
not needed here (dates, age) is not looked at.
"""

import re
from dataclasses import dataclass

from diagram_ray.data.decoding.limits import LARGEST_IMAGE
from diagram_ray.errors import DataError

MAX_BYTES = 64 << 10
VIEWS = ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")
DENSITIES = ("1", "2", "3", "4")
NOT_GIVEN = "0"
"""The density of a case that has none."""

_NEEDED = ("filename", "DENSITY", "DIGITIZER", *VIEWS)


@dataclass(frozen=True)
class FilmLine:
    """What the .ics says of one film. It alone has the true size: the image's own header may exchange its sides."""

    shape: tuple[int, int]
    """The shape of the film, (LINES, PIXELS_PER_LINE)."""
    bits: int
    spacing_mm: float
    overlay: bool
    """Whether an .OVERLAY file describes abnormalities on it."""


@dataclass(frozen=True)
class Ics:
    """What an .ics file says of a case."""

    name: str
    """The name of the case, such as 'B-3024-1'."""
    density: str | None
    """The ACR density, '1' to '4'."""
    digitizer: str
    """The digitizer, the first word of its line: DBA, HOWTEK or LUMISYS."""
    films: dict[str, FilmLine]
    """The films by their VIEWS."""


def parse_ics(data: bytes) -> Ics:
    """Reads an .ics file. Raises DataError if a keyword that is needed is missing, doubled or has no proper value."""
    lines = _lines(data)
    return Ics(
        name=_word(lines, "filename"),
        density=_density(lines.get("DENSITY", [])),
        digitizer=_word(lines, "DIGITIZER"),
        films={view: _film(view, lines[view]) for view in VIEWS if view in lines},
    )


def _lines(data: bytes) -> dict[str, list[str]]:
    """Keyword -> the words after it, for the keywords that are needed."""
    if len(data) > MAX_BYTES:
        raise DataError(f"has more than {MAX_BYTES} bytes; an .ics has about 500")
    if not data.isascii():
        raise DataError("is not ASCII text")
    entries: dict[str, list[str]] = {}
    for line in data.decode("ascii").splitlines():
        words = line.split()
        if not words or words[0] not in _NEEDED:
            continue
        if words[0] in entries:
            raise DataError(f"{words[0]} stands twice")
        entries[words[0]] = words[1:]
    return entries


def _word(lines: dict[str, list[str]], keyword: str) -> str:
    words = lines.get(keyword)
    if not words:
        raise DataError(f"has no {keyword}" if words is None else f"{keyword} has no value")
    return words[0]


def _density(words: list[str]) -> str | None:
    if not words or words[0] == NOT_GIVEN:
        return None
    if words[0] not in DENSITIES:
        raise DataError(f"DENSITY is {words[0][:20]!r}; allowed are 1 to 4, and 0 for not given")
    return words[0]


def _film(view: str, words: list[str]) -> FilmLine:
    rows, columns = (int(_number(view, words, name, 1, 2**16)) for name in ("LINES", "PIXELS_PER_LINE"))
    if rows * columns > LARGEST_IMAGE:
        raise DataError(f"{view}: {rows} LINES of {columns} pixels; at most {LARGEST_IMAGE} pixels are read")
    flags = [word for word in words if word in ("OVERLAY", "NON_OVERLAY")]  # whole words: one is in the other
    if len(flags) != 1:
        raise DataError(f"{view}: expected OVERLAY or NON_OVERLAY, found {' and '.join(flags[:4]) or 'neither'}")
    return FilmLine(
        shape=(rows, columns),
        bits=int(_number(view, words, "BITS_PER_PIXEL", 1, 16)),
        spacing_mm=_number(view, words, "RESOLUTION", 10, 5000) / 1000,
        overlay=flags == ["OVERLAY"],
    )


def _number(view: str, words: list[str], name: str, low: int, high: int) -> float:
    """The number after the word `name`; whole, but for RESOLUTION (43.5 micrometres)."""
    text = words[words.index(name) + 1] if name in words[:-1] else ""
    pattern = r"\d{1,4}(\.\d{1,4})?" if name == "RESOLUTION" else r"\d{1,5}"
    if not re.fullmatch(pattern, text) or not low <= float(text) <= high:
        raise DataError(f"{view}: {name} is {text[:20]!r}; allowed are numbers from {low} to {high}")
    return float(text)
