"""DDSM's .ics and .OVERLAY files: the real ones, the chains against a slow reference, and whatever else may come."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.data.decoding.limits import LARGEST_IMAGE
from diagram_ray.data.readers.ddsm.ics import FilmLine, parse_ics
from diagram_ray.data.readers.ddsm.overlay import box_of, parse_chain, parse_overlay
from diagram_ray.errors import DataError

ICS = """
ics_version 1.0
filename A-1465-1
DATE_OF_STUDY 2 7 1995
PATIENT_AGE
FILM 
FILM_TYPE REGULAR
DENSITY 0
DATE_DIGITIZED 7 22 1997 
DIGITIZER HOWTEK 960
SEQUENCE
RIGHT_CC LINES 5491 PIXELS_PER_LINE 2776 BITS_PER_PIXEL 12 RESOLUTION 43.5 NON_OVERLAY
LEFT_MLO  OVERLAY RESOLUTION 43.5  BITS_PER_PIXEL 12 PIXELS_PER_LINE 2777 LINES 5492 
"""  # noqa: W291 - trailing blanks as in the archive
OVERLAY = """TOTAL_ABNORMALITIES 2
ABNORMALITY 1
LESION_TYPE CALCIFICATION TYPE FINE_LINEAR_BRANCHING DISTRIBUTION LINEAR
LESION_TYPE MASS SHAPE ARCHITECTURAL_DISTORTION MARGINS N/A
ASSESSMENT 4
SUBTLETY 5
PATHOLOGY MALIGNANT
TOTAL_OUTLINES 3
BOUNDARY
10 20 2 2 2 4 4 4 6 6 6 0 0 0 #
\tCORE
11 21 2 4 6 0 #
\tCORE
12 21 3 5 7 1 #
ABNORMALITY 2
ASSESSMENT 2
SUBTLETY 3
PATHOLOGY BENIGN_WITHOUT_CALLBACK
TOTAL_OUTLINES 1
BOUNDARY
50 60 3 5 7 1 #
"""


def refusal(parse, text: str | bytes) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError) as caught:
        parse(text.encode() if isinstance(text, str) and parse is not parse_chain else text)
    return str(caught.value)


# ---- .ics


def test_ics_is_read_by_keyword() -> None:
    case = parse_ics(ICS.encode())
    assert (case.name, case.density, case.digitizer) == ("A-1465-1", None, "HOWTEK")
    assert case.films == {
        "RIGHT_CC": FilmLine((5491, 2776), 12, 0.0435, overlay=False),
        "LEFT_MLO": FilmLine((5492, 2777), 12, 0.0435, overlay=True),
    }
    shuffled = ICS.splitlines()
    random.Random(0).shuffle(shuffled)
    assert parse_ics("\r\n".join(shuffled).encode()) == case


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "density", "shapes", "overlays", "spacing"),
    [
        ("B-3024-1", "4", [(4696, 3024), (4688, 3048), (4624, 3056), (4664, 3120)], [1, 1, 1, 1], 0.05),
        ("B-3027-1", "2", [(4720, 3128), (4696, 3184), (4680, 3112), (4720, 3120)], [1, 1, 0, 0], 0.05),
        ("B-3159-1", "2", [(4544, 3120), (4536, 3112), (4616, 3088), (4616, 3088)], [1, 1, 0, 0], 0.05),
        ("B-9018-1", None, [(2300, 1544), (2240, 1536), (2237, 1545), (2225, 1547)], [1, 1, 1, 1], 0.1),
        ("C-0234-1", "2", [(4736, 2240), (4760, 2680), (4760, 2512), (4688, 2608)], [0, 0, 1, 1], 0.05),
        ("C-0419-1", "3", [(4544, 2936), (4576, 2904), (4552, 2912), (4560, 2888)], [1, 1, 0, 0], 0.05),
    ],
)
def test_the_real_ics_files(
    real_data: Path, name: str, density: str | None, shapes: list[tuple[int, int]], overlays: list[int], spacing: float
) -> None:
    case = parse_ics((real_data / "ddsm-text" / f"{name}.ics").read_bytes())
    assert (case.name, case.density, case.digitizer) == (name, density, "LUMISYS")
    assert list(case.films) == ["LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"]
    assert [film.shape for film in case.films.values()] == shapes
    assert [film.overlay for film in case.films.values()] == [bool(flag) for flag in overlays]
    assert {(film.bits, film.spacing_mm) for film in case.films.values()} == {(12, spacing)}


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("filename A-1465-1\n", "", "has no filename"),
        ("DIGITIZER HOWTEK 960", "DIGITIZER ", "DIGITIZER has no value"),
        ("DENSITY 0", "DENSITY 5", "DENSITY is '5'; allowed are 1 to 4, and 0"),
        ("SEQUENCE", "DENSITY 3", "DENSITY stands twice"),
        ("LINES 5491", "LINES -1", "RIGHT_CC: LINES is '-1'; allowed are numbers from 1 to 65536"),
        ("LINES 5491", "LINES 99999999999999999999", "RIGHT_CC: LINES is '99999999999999999999'"),
        ("LINES 5491", "LINES", "RIGHT_CC: LINES is 'PIXELS_PER_LINE'"),
        (
            "LINES 5491 PIXELS_PER_LINE 2776",
            "LINES 65535 PIXELS_PER_LINE 65535",
            "RIGHT_CC: 65535 LINES of 65535 pixels; at most",
        ),
        ("BITS_PER_PIXEL 12 RESOLUTION 43.5 NON", "RESOLUTION 43.5 BITS_PER_PIXEL 32 NON", "BITS_PER_PIXEL is '32'"),
        ("RESOLUTION 43.5 NON_OVERLAY", "RESOLUTION nan NON_OVERLAY", "RESOLUTION is 'nan'"),
        ("43.5 NON_OVERLAY", "43.5 NON_OVERLAYS", "RIGHT_CC: expected OVERLAY or NON_OVERLAY, found neither"),
        ("43.5 NON_OVERLAY", "43.5 NON_OVERLAY OVERLAY", "found NON_OVERLAY and OVERLAY"),
        ("SEQUENCE", "SÉQUENCE", "is not ASCII text"),
        ("SEQUENCE", "x" * 70000, "has more than 65536 bytes"),
    ],
)
def test_ics_files_that_are_refused(old: str, new: str, reason: str) -> None:
    assert old in ICS
    assert reason in refusal(parse_ics, ICS.replace(old, new, 1))


# ---- .OVERLAY


def test_overlay_with_several_abnormalities_and_cores() -> None:
    first, second = parse_overlay(OVERLAY.encode())
    assert first.findings == ("calcification", "mass")
    assert (first.assessment, first.subtlety, first.pathology) == (4, 5, "MALIGNANT")
    assert first.boundary.tolist()[:5] == [[10, 20], [11, 20], [12, 20], [13, 20], [13, 21]]
    assert [core.tolist() for core in first.cores] == [
        [[11, 21], [12, 21], [12, 22], [11, 22], [11, 21]],
        [[12, 21], [13, 22], [12, 23], [11, 22], [12, 21]],
    ]
    assert (second.findings, second.pathology, second.cores) == ((), "BENIGN_WITHOUT_CALLBACK", ())
    assert parse_overlay(OVERLAY.replace("\n", " \r\n\n").encode())[1].pathology == second.pathology
    (other, _) = parse_overlay(OVERLAY.replace("LESION_TYPE MASS SHAPE", "LESION_TYPE OTHER").encode())
    assert other.findings == ("calcification", "other")


@pytest.mark.real
def test_the_real_overlay(real_data: Path) -> None:
    """FORMATS: 1,632 steps that close on their start; columns 1200 to 1824, rows 1536 to 2048."""
    path = real_data / "ddsm-text" / "B_3013_1.RIGHT_MLO.abnormality2.OVERLAY"
    (found,) = parse_overlay(path.read_bytes())
    assert (found.findings, found.assessment, found.subtlety, found.pathology) == (("mass",), 5, 5, "MALIGNANT")
    assert found.boundary.shape == (1633, 2)
    assert found.boundary[0].tolist() == found.boundary[-1].tolist() == [1752, 1536]
    assert found.boundary.min(axis=0).tolist() == [1200, 1536]
    assert found.boundary.max(axis=0).tolist() == [1824, 2048]
    assert box_of(found.boundary, (4664, 3120)) == ((1536, 1200, 2049, 1825), 0)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ABNORMALITIES 2", "ABNORMALITIES 3", "the end: expected ABNORMALITY"),
        ("ABNORMALITIES 2", "ABNORMALITIES 1", "line 15: something follows the 1 of TOTAL_ABNORMALITIES"),
        ("ABNORMALITIES 2", "ABNORMALITIES 999999999999", "TOTAL_ABNORMALITIES is '999999999999'; allowed are 1 to 50"),
        ("ABNORMALITIES 2", "ABNORMALITIES 0", "line 1: TOTAL_ABNORMALITIES is '0'; allowed are 1 to 50"),
        ("OUTLINES 3", "OUTLINES 2", "line 13: expected ABNORMALITY"),
        ("OUTLINES 3", "OUTLINES 4", "line 15: expected CORE"),
        ("OUTLINES 3", "OUTLINES x", "TOTAL_OUTLINES is 'x'; allowed are 1 to 200"),
        ("ABNORMALITY 2", "ABNORMALITY 3", "line 15: ABNORMALITY is '3'; allowed are 2 to 2"),
        ("MALIGNANT", "MALIGN", "PATHOLOGY is 'MALIGN'; allowed are MALIGNANT, UNPROVEN, BENIGN"),
        ("ASSESSMENT 4\n", "", "line 5: expected ASSESSMENT"),
        ("ASSESSMENT 4", "ASSESSMENT 6", "ASSESSMENT is '6'; allowed are 0 to 5"),
        ("0 0 0 #", "0 0 0", "line 10: the chain does not end with '#'"),
        ("0 0 0 #", "0 8 0 #", "the chain has the step '8'; allowed are 0 to 7"),
        ("0 0 0 #", "0 00 0 #", "the chain has the step '00'"),
        ("10 20 2", "10 # 2", "not a chain: expected a column, a row and at least one step"),
        ("10 20 2", "10 1e3 2", "line 10: not a chain"),
        ("MASS", "MÄSS", "is not ASCII text"),
        ("TOTAL_ABNORMALITIES 2", "\0", "expected TOTAL_ABNORMALITIES"),
        ("TOTAL", " " * (4 << 20) + "TOTAL", "has more than 4194304 bytes"),
    ],
)
def test_overlays_that_are_refused(old: str, new: str, reason: str) -> None:
    assert old in OVERLAY
    assert reason in refusal(parse_overlay, OVERLAY.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "#", "1 #", "1 2 #", "1 2 3", "1 2 3 4", "- 2 3 #", "1 9999999 3 #"])
def test_chains_that_are_none(text: str) -> None:
    refusal(parse_chain, text)


def walk(x: int, y: int, codes: list[int]) -> list[tuple[int, int]]:
    """The way of a chain, step by step, on the compass of the format's description."""
    compass = ((7, 0, 1), (6, -1, 2), (5, 4, 3))
    way = [(x, y)]
    for code in codes:
        for down, line in enumerate(compass):
            if code in line:
                x, y = x + line.index(code) - 1, y + down - 1
        way.append((x, y))
    return way


starts = st.integers(-50, 400)
chains = st.lists(st.integers(0, 7), min_size=1, max_size=300)


@given(starts, starts, chains)
def test_chains_lead_where_a_walker_goes(x: int, y: int, codes: list[int]) -> None:
    found = parse_chain(f"{x} {y} " + " ".join(map(str, codes)) + " #")
    assert [tuple(point) for point in found.tolist()] == walk(x, y, codes)


@given(starts, starts, chains)
def test_boxes_hold_the_outline_and_end_with_the_image(x: int, y: int, codes: list[int]) -> None:
    """A box holds each pixel of the outline that lies in the image, and is as small as the clipped outline allows."""
    shape = (300, 200)
    way = walk(x, y, codes)
    beyond = max(max(0, -x, -y, x - 199, y - 299) for x, y in way)
    clipped = [(min(max(x, 0), 199), min(max(y, 0), 299)) for x, y in way]
    missed = all(x < 0 for x, _ in way) or all(y < 0 for _, y in way)
    missed |= all(x > 199 for x, _ in way) or all(y > 299 for _, y in way)
    points = np.array(way)
    if beyond > 64 or missed:
        with pytest.raises(DataError, match="lies outside of its image of 300 x 200 pixels"):
            box_of(points, shape)
        return
    columns, rows = zip(*clipped, strict=True)
    expected = (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
    assert box_of(points, shape) == (expected, beyond)


# ---- what may come


@st.composite
def mutations(draw: st.DrawFn, text: str) -> bytes:
    """The text, cut off, with bytes changed, lines moved or doubled, or numbers blown up."""
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        kind = draw(st.sampled_from(["cut", "byte", "line", "number", "insert"]))
        if kind == "cut":
            del data[place:]
        elif kind == "byte" and data:
            data[place] = draw(st.integers(0, 255))
        elif kind == "line":
            lines = bytes(data).split(b"\n")
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(lines)))
            data = bytearray(b"\n".join(lines))
        elif kind == "number":
            data[place:place] = b"9" * draw(st.integers(1, 30))
        else:
            data[place:place] = draw(st.binary(max_size=20))
    return bytes(data)


def result_or_reason(parse, data: bytes):  # type: ignore[no-untyped-def]
    """What the bytes say, or a short reason why they cannot be read; no other error."""
    try:
        return parse(data)
    except DataError as error:
        reason = str(error)
    assert 0 < len(reason) < 300
    return reason


@settings(max_examples=600, deadline=5000)
@given(mutations(ICS))
def test_damaged_ics_files_are_read_or_refused(data: bytes) -> None:
    case = result_or_reason(parse_ics, data)
    if not isinstance(case, str):
        assert all(film.shape[0] * film.shape[1] <= LARGEST_IMAGE for film in case.films.values())


@settings(max_examples=600, deadline=5000)
@given(mutations(OVERLAY))
def test_damaged_overlays_are_read_or_refused(data: bytes) -> None:
    found = result_or_reason(parse_overlay, data)
    if not isinstance(found, str):
        assert all(len(one.boundary) > 1 for one in found)


def test_an_overlay_of_the_largest_size_is_read() -> None:
    steps = "2 6 " * 1_000_000
    found = parse_overlay(OVERLAY.replace("12 21 3 5 7 1 #", f"12 21 {steps}#").encode())
    assert found[0].cores[1].shape == (2_000_001, 2)
