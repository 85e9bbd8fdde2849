import csv
import hashlib
import multiprocessing
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.phantom.anatomy import Grid
from diagram_ray.data.phantom.patients import VIEWS
from diagram_ray.data.phantom.render import render_view
from diagram_ray.data.preprocessing import lesion_masks
from diagram_ray.data.preprocessing.prepare_image import Options, Prepared, prepare_image
from diagram_ray.data.preprocessing.standardise import square_around
from diagram_ray.data.readers import cbis
from diagram_ray.data.readers.cbis.descriptions import PATHOLOGIES
from diagram_ray.data.records import ROI, Index, Mask, Reject
from diagram_ray.errors import DataError
from tests.support.phantoms.cbis_case import CbisFilm, phantom_films, split
from tests.support.phantoms.cbis_files import make_cbis_phantom

PATIENTS, SEED, DIFFICULTY, HEIGHT = 20, 3, 0.4, 208


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cbis") / "tree"
    make_cbis_phantom(out, PATIENTS, SEED, DIFFICULTY, HEIGHT, workers=1)
    return out


@pytest.fixture(scope="module")
def found(tree: Path) -> Index:
    return cbis.index(str(tree))


@pytest.fixture(scope="module")
def truth() -> dict[str, CbisFilm]:
    films = (film for number in range(PATIENTS) for film in phantom_films(SEED, number, DIFFICULTY, Grid(HEIGHT)))
    return {f"{film.patient}_{film.side}_{film.view}": film for film in films}


def test_labels_and_columns_come_back(found: Index, truth: dict[str, CbisFilm]) -> None:
    assert found.rejects == []
    assert {record.image_id for record in found.records} == truth.keys()
    for record in found.records:
        film = truth[record.image_id]
        assert (record.patient_id, record.laterality, record.view) == (film.patient, film.side[0], film.view)
        assert record.label == film.label
        worst = max((one.pathology for one in film.abnormalities), key=PATHOLOGIES.index)
        parts = {split(film.plan.number, one.finding) for one in film.abnormalities}
        assert record.columns == {
            "density": str(film.plan.density),
            "finding": " + ".join(sorted({one.finding for one in film.abnormalities})),
            "pathology": worst.lower(),
            "assessment": film.plan.birads[film.side[0]][0].replace("6", "5"),
            "subtlety": "3",
            "split": "both" if len(parts) > 1 else parts.pop(),
        }


def test_pixels_and_boxes_come_back(found: Index, truth: dict[str, CbisFilm]) -> None:
    for record in found.records:
        film = truth[record.image_id]
        mammogram = read_mammogram(record.path)
        np.testing.assert_array_equal(mammogram.pixels, film.pixels)
        assert mammogram.laterality == film.side[0]
        regions = lesion_masks.regions(record.masks, film.pixels.shape)
        assert [(region.box, region.finding, region.label) for region in regions] == [
            (one.box, one.finding, "cancer" if one.pathology == "MALIGNANT" else "benign") for one in film.abnormalities
        ]


def test_its_oddities_are_all_there(tree: Path, found: Index, truth: dict[str, CbisFilm]) -> None:
    """Else the round trip would prove nothing."""
    rows = {}
    for path in sorted(tree.glob("*.csv")):
        with path.open(newline="") as file:
            rows[path.name[:4], path.name.split("_")[3]] = list(csv.DictReader(file))
    assert set(rows) == {(kind, part) for kind in ("mass", "calc") for part in ("train", "test")}
    assert all(one["ROI mask file path"].endswith("\n") for one in rows["mass", "train"])
    assert all(one["cropped image file path"].endswith("\n") for one in rows["calc", "train"])
    assert "breast_density" in rows["mass", "train"][0]
    assert "breast density" in rows["calc", "train"][0]
    odd = Counter[str]()
    for record in found.records:
        film = truth[record.image_id]
        odd["doubled"] += len({one.finding for one in film.abnormalities}) > 1
        odd["mixed"] += len({one.pathology for one in film.abnormalities}) > 1
        for mask in record.masks:
            pictures = [pydicom.dcmread(path) for path in mask.paths]
            kinds = ["mask" if set(np.unique(one.pixel_array)) == {0, 255} else "crop" for one in pictures]
            assert sorted(kinds) == ["crop", "mask"]
            wrong = [
                one for one, kind in zip(pictures, kinds, strict=True) if kind not in one.SeriesDescription.lower()
            ]
            odd["newer layout" if "DDSM-NA" in mask.paths[0] else "older layout"] += 1
            odd["two series" if len({one.SeriesInstanceUID for one in pictures}) > 1 else "one series"] += 1
            odd["described wrongly"] += bool(wrong)
            odd["mask first" if kinds[0] == "mask" and mask.finding == "mass" else "crop first"] += 1
            odd["other scale"] += pictures[kinds.index("mask")].Rows != HEIGHT
    assert all(odd[what] for what in (
        "doubled", "mixed", "newer layout", "older layout", "two series", "one series", "described wrongly",
        "mask first", "crop first", "other scale",
    )), odd  # fmt: skip
    leaking, stored_twice, _ = found.notes
    parts: dict[str, set[str]] = {}
    for film in truth.values():
        parts.setdefault(film.patient, set()).update(split(film.plan.number, one.finding) for one in film.abnormalities)
    both = sum(len(sides) > 1 for sides in parts.values())
    assert both
    assert leaking.startswith(f"{both} of {len(parts)} patients")
    assert stored_twice.startswith(f"{odd['doubled']} films are stored twice")


def test_equal_arguments_give_equal_bytes_whatever_the_workers(tree: Path, tmp_path: Path) -> None:
    """The second run works in new processes and on fewer patients; theirs are the same files."""
    calls: list[tuple[int, int]] = []
    make_cbis_phantom(
        tmp_path / "again", 9, SEED, DIFFICULTY, HEIGHT, workers=2, progress=lambda *call: calls.append(call)
    )
    first, second = (
        {
            path.relative_to(root): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in root.rglob("*.dcm")
            if int(path.relative_to(root).parts[1].split("_")[2]) <= 9
        }
        for root in (tree, tmp_path / "again")
    )
    assert first == second
    assert len(first) > 50
    for table in tree.glob("*.csv"):
        assert table.read_bytes().startswith((tmp_path / "again" / table.name).read_bytes())
    assert calls == [(done, 9) for done in range(1, 10)]
    assert multiprocessing.active_children() == []
    assert sorted(path.name for path in tree.iterdir() if path.is_dir()) == ["CBIS-DDSM"]


def test_files_are_as_the_archive_has_them(found: Index) -> None:
    image = pydicom.dcmread(found.records[0].path)
    assert image.SOPClassUID.name == "Secondary Capture Image Storage"
    assert (image.Modality, image.BitsAllocated, image.BitsStored) == ("MG", 16, 16)
    assert (image.PhotometricInterpretation, image.SeriesDescription) == ("MONOCHROME2", "full mammogram images")
    assert "PixelSpacing" not in image
    assert "ViewPosition" not in image
    assert image.PatientID in found.records[0].path


def test_values_out_of_range_are_refused(tmp_path: Path) -> None:
    for wrong in ({"patients": 0}, {"patients": 100_000}, {"difficulty": 2.0}, {"height": 1}):
        with pytest.raises(DataError, match=rf"phantom: {next(iter(wrong))} is"):
            make_cbis_phantom(tmp_path / "out", **({"patients": 1, "seed": 0} | wrong))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_masks_lie_on_the_lesions(truth: dict[str, CbisFilm]) -> None:
    """A film differs from the same one of a healthy breast within the masks of its benign lesions, and there only."""
    inside = outside = 0.0
    for film in (film for film in truth.values() if film.label == "benign"):
        healthy = replace(film.plan, birads={"L": "1", "R": "1"})
        view = VIEWS.index((film.side[0], film.view))
        without = 4.0 * render_view(healthy, SEED, view, DIFFICULTY, Grid(HEIGHT)).pixels
        difference = np.abs(film.pixels - without)
        masked = np.any([one.mask for one in film.abnormalities], axis=0)
        near = ndimage.binary_dilation(masked, iterations=2)
        inside += difference[near].sum()
        outside += difference[~near].sum()
        for one in film.abnormalities:
            assert difference[one.mask].max() > 1000
    assert outside < 0.05 * inside


def test_patches_of_prepared_images_come_from_the_masks(found: Index, truth: dict[str, CbisFilm]) -> None:
    options = Options((96, 72), 16, 2, b"0123456789abcdef", "benign")
    for record in found.records[:12]:
        prepared = prepare_image(record, options)
        assert isinstance(prepared, Prepared)
        film = truth[record.image_id]
        assert prepared.manifest["label"] == film.label
        lesions = [patch for patch in prepared.patches if patch["kind"] == ROI]
        assert len(lesions) == len(film.abnormalities)
        for patch, one in zip(lesions, film.abnormalities, strict=True):
            assert patch["label"] == ("cancer" if one.pathology == "MALIGNANT" else "benign")
            top, left, side = square_around(one.box, film.pixels.shape)
            assert patch["box"] == [top, left, top + side, left + side]


def test_an_image_with_an_unusable_mask_is_a_reject(found: Index) -> None:
    record = found.records[0]
    image_only = replace(record, masks=(Mask((record.path,), "mass", "benign"),))
    rejected = prepare_image(image_only, Options((96, 72), 16, 2, b"0123456789abcdef", "benign"))
    assert isinstance(rejected, Reject)
    assert "mask 1 of 1 (mass): none of 1 files is a mask" in rejected.reason
