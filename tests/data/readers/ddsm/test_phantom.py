"""The phantom in DDSM's form: what is read back is what was drawn, from names to pixels."""

import hashlib
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.data.decoding.mammogram import Mammogram, read_mammogram
from diagram_ray.data.decoding.optical_density import CURVES, DENSEST, to_optical_density
from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.render import WHITE, render_view
from diagram_ray.data.preprocessing.prepare_image import Options, Prepared, prepare_image
from diagram_ray.data.preprocessing.standardise import square_around, standardise
from diagram_ray.data.readers.ddsm import index
from diagram_ray.data.readers.ddsm.overlay import parse_chain
from diagram_ray.data.records import ImageRecord, Index
from diagram_ray.errors import DataError
from tests.support.phantoms.ddsm_case import PhantomCase, PhantomFilm, phantom_case
from tests.support.phantoms.ddsm_files import STRAYS, chain_code, make_ddsm_phantom

PATIENTS, SEED, DIFFICULTY, HEIGHT = 10, 10, 0.4, 208
GRID = Grid(HEIGHT)
LABELS = {"MALIGNANT": "cancer", "UNPROVEN": None, "BENIGN": "benign", "BENIGN_WITHOUT_CALLBACK": "benign"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "ddsm"
    make_ddsm_phantom(out, PATIENTS, SEED, DIFFICULTY, HEIGHT, workers=1)
    return out


@pytest.fixture(scope="module")
def found(tree: Path) -> Index:
    return index(str(tree))


@pytest.fixture(scope="module")
def cases() -> list[PhantomCase]:
    return [phantom_case(SEED, number, DIFFICULTY, GRID) for number in range(PATIENTS)]


@pytest.fixture(scope="module")
def drawn(cases: list[PhantomCase], found: Index) -> list[tuple[ImageRecord, PhantomCase, PhantomFilm]]:
    """Each record with what was drawn for it."""
    films = {f"{case.letter}_{case.number:04d}_1.{film.view}": (case, film) for case in cases for film in case.films}
    assert films.keys() == {record.image_id for record in found.records}
    return [(record, *films[record.image_id]) for record in found.records]


def box(film: PhantomFilm, number: int) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = (edge(film.abnormalities[number].outlines[0], axis=0) for edge in (np.min, np.max))
    return int(top), int(left), int(bottom) + 1, int(right) + 1


def test_what_was_drawn_is_what_is_read(drawn: list[tuple[ImageRecord, PhantomCase, PhantomFilm]]) -> None:
    for record, case, film in drawn:
        pathologies = [one.pathology for one in film.abnormalities]
        worst = next((name for name in LABELS if name in pathologies), None)
        unmarked = "normal" if case.kind == "normal" else "unmarked"
        assert record.label == LABELS.get(str(worst))
        assert record.columns["pathology"] == (worst.lower() if worst else unmarked)
        assert record.columns["density"] == str(case.plan.density)
        assert (record.laterality, record.view) == (film.view[0], film.view.split("_")[1])
        assert str(record.columns["volume"]).rpartition("_")[0] == case.kind
        assert [region.box for region in record.regions] == [box(film, n) for n in range(len(pathologies))]
        assert [region.label for region in record.regions] == [LABELS[name] for name in pathologies]
        assert record.spacing_mm == pytest.approx(GRID.spacing, abs=1e-4)
        assert record.film is not None
        assert record.film.shape == film.grey.shape


def test_the_phantom_holds_what_the_archive_holds(
    found: Index, cases: list[PhantomCase], drawn: list[tuple[ImageRecord, PhantomCase, PhantomFilm]]
) -> None:
    assert {record.columns["scanner"] for record in found.records} == set(CURVES)
    assert {case.kind for case in cases} == {"cancer", "benign", "benign_without_callback", "normal"}
    assert Counter(record.label for record in found.records)["cancer"] == 12, "two films each of 3 in 5 patients"
    assert {one.pathology for _, _, film in drawn for one in film.abnormalities} == set(LABELS)
    assert {len(one.outlines) for _, _, film in drawn for one in film.abnormalities} == {1, 2}
    assert max(len(film.abnormalities) for _, _, film in drawn) > 2
    assert len({case.number for case in cases}) < len(cases), "numbers are not unique"
    told = Counter(Path(reject.path).name[:4] for reject in found.rejects)
    assert len(found.rejects) == len(STRAYS) + 1
    assert told["case"] == 1, "the first patient stands in two folders"
    assert sum(record.path.endswith(".gz") for record in found.records) == 4


def test_pixels_are_the_densities_that_were_drawn(
    drawn: list[tuple[ImageRecord, PhantomCase, PhantomFilm]],
) -> None:
    """Exactly those of the grey levels written, which are those of the phantom within a step of the scanner's."""
    for record, case, film in drawn[::2]:
        scanner = record.film.scanner if record.film else ""
        image = read_mammogram(record.path, record.film)
        np.testing.assert_array_equal(image.pixels, np.float32(DENSEST) - to_optical_density(film.grey, scanner))
        bright = replace(case.plan, inverted=(False,) * 4)
        rendered = render_view(
            bright, SEED, [one.view for one in case.films].index(film.view), DIFFICULTY, GRID
        ).pixels[: film.grey.shape[0]]
        wanted = 0.6 + 3.2 * rendered / WHITE
        step = 0.05 if scanner == "dba" else 0.002
        np.testing.assert_allclose(image.pixels, wanted, atol=step)


def test_prepared_images_and_patches_follow(drawn: list[tuple[ImageRecord, PhantomCase, PhantomFilm]]) -> None:
    options = Options((96, 72), 32, 0, b"a key of 16 bytes", "benign")
    for record, _, film in drawn[:16]:
        assert record.film is not None
        made = prepare_image(record, options)
        assert isinstance(made, Prepared), made
        truth = Mammogram(np.float32(DENSEST) - to_optical_density(film.grey, record.film.scanner))
        np.testing.assert_array_equal(made.pixels, standardise(truth, (96, 72), film.view[0]).pixels)
        assert (made.manifest["label"], made.manifest["inverted"]) == (record.label, False)
        assert record.patient_id not in str(made.manifest), "the case's name is hashed"
        squares = [square_around(box(film, n), film.grey.shape) for n in range(len(film.abnormalities))]
        assert [patch["box"] for patch in made.patches] == [
            [top, left, top + side, left + side] for top, left, side in squares
        ]
        assert [patch["label"] for patch in made.patches] == [LABELS[one.pathology] for one in film.abnormalities]


def test_equal_seeds_give_equal_bytes_whatever_the_workers(tree: Path, tmp_path: Path) -> None:
    make_ddsm_phantom(tmp_path / "again", 9, SEED, DIFFICULTY, HEIGHT, workers=2)
    digests = [
        {
            str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*")
            if path.is_file()
        }
        for root in (tree, tmp_path / "again")
    ]
    assert digests[1].items() < digests[0].items()
    assert sum("case" in path for path in digests[1]) > 9 * 5


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), min_size=2, max_size=12))
def test_chains_pass_all_corners_and_close(corners: list[tuple[int, int]]) -> None:
    if len(set(corners)) < 2:
        return
    points = parse_chain(chain_code(np.array(corners)))
    assert points[0].tolist() == points[-1].tolist() == list(corners[0])
    assert (np.abs(np.diff(points, axis=0)).max(axis=1) == 1).all(), "each step leads to a neighbour"
    assert set(corners) <= {tuple(point) for point in points.tolist()}
    assert points.min(axis=0).tolist() == np.min(corners, axis=0).tolist()
    assert points.max(axis=0).tolist() == np.max(corners, axis=0).tolist()
    place = 0
    for here, there in pairwise([*corners, corners[0]]):
        way = max(abs(there[0] - here[0]), abs(there[1] - here[1]))
        straight = np.linspace(here, there, way + 1)
        assert np.abs(points[place : place + way + 1] - straight).max() < 0.501
        place += way
    assert place == len(points) - 1


def test_more_patients_than_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="patients is 20000; DDSM's names are enough for 19998"):
        make_ddsm_phantom(tmp_path / "out", 20_000, 0)
    with pytest.raises(DataError, match=r"difficulty is 2; allowed are"):
        make_ddsm_phantom(tmp_path / "out", 1, 0, difficulty=2)
