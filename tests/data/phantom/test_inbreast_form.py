import hashlib
import multiprocessing
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.phantom.anatomy import Grid, draw_body, draw_outline, draw_tissue, power_law_noise
from diagram_ray.data.phantom.patients import VIEWS, PatientPlan, plan_patient
from diagram_ray.data.phantom.render import render_view
from diagram_ray.data.readers.dicom_header import read_geometry
from diagram_ray.data.readers.inbreast import index
from diagram_ray.data.records import ImageRecord
from diagram_ray.errors import DataError

PATIENTS, SEED, HEIGHT = 15, 3, 208
CANCER = {"4a", "4b", "4c", "5", "6"}
GRID = Grid(HEIGHT)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "tree"
    make_phantom(out, PATIENTS, SEED, height=HEIGHT, workers=1)
    return out


@pytest.fixture(scope="module")
def records(tree: Path) -> list[ImageRecord]:
    found = index(str(tree))
    assert found.rejects == []
    return found.records


def digests(root: Path) -> dict[str, str]:
    files = [path for path in sorted(root.rglob("*")) if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pixels(record: ImageRecord) -> NDArray[np.uint16]:
    return pydicom.dcmread(record.path).pixel_array


def healthy(plan: PatientPlan) -> PatientPlan:
    return PatientPlan(plan.number, plan.key, plan.date, plan.density, {"L": "1", "R": "1"}, plan.inverted)


def test_reader_gets_back_what_was_planned(records: list[ImageRecord]) -> None:
    assert len(records) == 4 * PATIENTS
    by_id = {record.image_id: record for record in records}
    for number in range(PATIENTS):
        plan = plan_patient(SEED, number)
        for view, (side, projection) in enumerate(VIEWS):
            record, birads = by_id[plan.file_id(view)], plan.birads[side]
            assert (record.patient_id, record.laterality, record.view) == (plan.key, side, projection)
            assert record.exam_id == f"{plan.key}:{plan.date}"
            assert (record.columns["birads"], record.columns["density"]) == (birads, str(plan.density))
            assert record.label == ("cancer" if birads in CANCER else None if birads == "3" else "negative")
            assert record.regions, "every breast has a lesion"
            assert {region.label for region in record.regions} <= {record.label}
            assert ("spiculated region" in str(record.columns["finding"])) == (birads in CANCER)


def test_each_patient_has_one_id_and_both_classes_are_there(records: list[ImageRecord]) -> None:
    patients = defaultdict(set)
    for record in records:
        patients[record.patient_id].add((record.laterality, record.view))
    assert len(patients) == PATIENTS
    assert all(views == set(VIEWS) for views in patients.values())
    sick = Counter(record.patient_id for record in records if record.label == "cancer")
    assert len(sick) == round(0.6 * PATIENTS)
    assert set(sick.values()) == {2}, "one breast, both of its views"


def test_regions_lie_on_the_lesion(records: list[ImageRecord]) -> None:
    """The image differs from the same one without lesions there, and there only."""
    inside = outside = 0.0
    for record in records:
        plan = plan_patient(SEED, (int(record.image_id) - 20_000_000) // 120)
        view = VIEWS.index((str(record.laterality), str(record.view)))
        without = render_view(healthy(plan), SEED, view, 0.4, GRID).pixels
        difference = np.abs(pixels(record).astype(float) - without)
        near = np.zeros(GRID.shape, bool)
        for region in record.regions:
            top, left, bottom, right = np.array(region.box).round().astype(int)
            near[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = True
        inside += difference[near].sum()
        outside += difference[~near].sum()
        assert difference[near].max() > 300
    assert outside < 0.03 * inside


def test_equal_seeds_give_equal_bytes_whatever_the_workers(tree: Path, tmp_path: Path) -> None:
    """The second run works in new processes, on more patients; the shared patients' files are the same."""
    calls: list[tuple[int, int]] = []
    out = tmp_path / "deep" / "again"
    make_phantom(out, PATIENTS + 2, SEED, height=HEIGHT, workers=2, progress=lambda *call: calls.append(call))
    first, second = digests(tree), digests(out)
    for name in ("INbreast.csv", "phantom.json"):
        assert first.pop(name) != second.pop(name)
    assert first.items() <= second.items()
    assert (tree / "INbreast.csv").read_bytes() == (out / "INbreast.csv").read_bytes()[
        : len((tree / "INbreast.csv").read_bytes())
    ]
    assert calls == [(done, PATIENTS + 2) for done in range(1, PATIENTS + 3)]
    assert multiprocessing.active_children() == []


def test_other_seeds_give_other_patients(tree: Path, tmp_path: Path) -> None:
    make_phantom(tmp_path / "other", 1, SEED + 1, height=HEIGHT)
    assert not set(digests(tmp_path / "other").values()) & set(digests(tree).values())


def test_files_are_dicom_as_inbreast_has_it(records: list[ImageRecord]) -> None:
    uids = set()
    for record in records[:8]:
        image = pydicom.dcmread(record.path)
        uids.add(image.SOPInstanceUID)
        assert image.SOPClassUID.name == "Digital Mammography X-Ray Image Storage - For Presentation"
        assert (image.PhotometricInterpretation, image.BitsAllocated, image.BitsStored) == ("MONOCHROME2", 16, 14)
        assert (image.Rows, image.Columns) == (208, 160)
        assert (image.ImageLaterality, image.ViewPosition) == (record.laterality, record.view)
        assert (image.PatientIdentityRemoved, image.PatientID) == ("YES", record.patient_id)
        assert 0 < image.pixel_array.max() <= 16383
        with Path(record.path).open("rb") as file:
            assert read_geometry(file).spacing_mm == pytest.approx(233 / 208, abs=1e-5)
    assert len(uids) == 8


def test_table_has_the_real_header_and_line_ends(tree: Path) -> None:
    data = (tree / "INbreast.csv").read_bytes()
    assert data.startswith(b"Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads\r\n")
    assert data.count(b"\n") == data.count(b"\r\n") == 4 * PATIENTS + 1
    assert sorted(path.name for path in tree.iterdir()) == ["AllDICOMs", "AllXML", "INbreast.csv", "phantom.json"]


def test_left_breasts_have_the_chest_wall_on_the_left(records: list[ImageRecord]) -> None:
    for record in records:
        image = pixels(record).astype(float)
        if plan_patient(SEED, (int(record.image_id) - 20_000_000) // 120).inverted[
            VIEWS.index((str(record.laterality), str(record.view)))
        ]:
            image = 16383 - image
        halves = image[:, :40].mean(), image[:, -40:].mean()
        assert (halves[0] > halves[1]) == (record.laterality == "L")


def slope(image: NDArray[np.floating], low: float, high: float) -> float:
    """Exponent of the radial power spectrum between two frequencies (cycles per pixel)."""
    window = np.outer(np.hanning(image.shape[0]), np.hanning(image.shape[1]))
    power = np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2
    frequency = np.hypot(np.fft.fftfreq(image.shape[0])[:, None], np.fft.fftfreq(image.shape[1])[None, :])
    edges = np.geomspace(low, high, 10)
    rings = [(frequency >= a) & (frequency < b) for a, b in pairwise(edges)]
    centres = np.sqrt(edges[:-1] * edges[1:])
    return float(np.polyfit(np.log(centres), np.log([power[ring].mean() for ring in rings]), 1)[0])


def test_power_law_of_noise_and_parenchyma() -> None:
    noise = [slope(power_law_noise(np.random.default_rng(i), (256, 192)), 0.03, 0.35) for i in range(6)]
    assert np.mean(noise) == pytest.approx(-3.0, abs=0.2)
    grid, slopes = Grid(416), []
    for number in range(6):
        rng = np.random.default_rng(number)
        body = draw_body(rng)
        outline = draw_outline(rng, "CC", body, grid)
        tissue = draw_tissue(rng, outline, body, 3, grid)
        row, side = round(outline.nipple[0] / grid.spacing), 48
        slopes.append(slope(tissue[row - side : row + side, 8 : 8 + 2 * side], 0.03, 0.3))
    assert np.mean(slopes) == pytest.approx(-3.0, abs=0.4)


def test_density_is_visible() -> None:
    means = []
    for density in (1, 2, 3, 4):
        part = []
        for number in range(4):
            rng = np.random.default_rng(number)
            body = draw_body(rng)
            outline = draw_outline(rng, "CC", body, GRID)
            part.append(draw_tissue(rng, outline, body, density, GRID)[outline.to_skin > 10].mean())
        means.append(np.mean(part))
    assert np.all(np.diff(means) > 0.02)


def test_difficulty_makes_lesions_fainter_and_nothing_else() -> None:
    number = next(n for n in range(20) if plan_patient(SEED, n).birads["L"] in CANCER)
    plan = plan_patient(SEED, number)
    without = render_view(healthy(plan), SEED, 1, 0.0, GRID).pixels.astype(float)
    energies = [np.abs(render_view(plan, SEED, 1, d, GRID).pixels - without).sum() for d in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert np.all(np.diff(energies) < 0)
    assert energies[-1] > 0


def test_nothing_but_the_lesions_tells_the_diagnosis() -> None:
    """Density, polarity, names and dates are independent of it: 2500 patients, tested at p = 0.001."""
    plans = [plan_patient(11, number) for number in range(2500)]
    sick = [any(birads in CANCER for birads in plan.birads.values()) for plan in plans]
    assert np.mean(sick) == pytest.approx(0.6)
    properties = {
        "density": [plan.density for plan in plans],
        "polarity": [any(plan.inverted) for plan in plans],
        "date": [plan.date[:4] for plan in plans],
        "key": [plan.key[0] for plan in plans],
        "number": [plan.number // 500 for plan in plans],
    }
    for name, values in properties.items():
        counts = [
            [Counter(zip(values, sick, strict=True))[value, state] for value in sorted(set(values))] for state in (0, 1)
        ]
        assert chi2_contingency(counts).pvalue > 0.001, name
    sides = Counter(side for plan in plans for side, birads in plan.birads.items() if birads in CANCER)
    assert abs(sides["L"] - sides["R"]) < 4 * np.sqrt(1500)
    inverted = np.mean([plan.inverted for plan in plans])
    assert inverted == pytest.approx(0.02, abs=0.006)
    keys = [plan.key for plan in plans]
    assert len(set(keys)) == len(keys)
    ids = {plan.file_id(view) for plan in plans for view in range(4)}
    assert len(ids) == 4 * len(plans)


def test_the_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail(done: int, total: int) -> None:
        assert not (tmp_path / "out").exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_phantom(tmp_path / "out", 2, 0, height=64, progress=fail)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "out").mkdir()
    make_phantom(tmp_path / "out", 1, 0, height=64)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    make_phantom(tmp_path / "out", 1, 0, height=64)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before, "used again"
    with pytest.raises(DataError, match=r"holds other phantoms .seed 0 there, 1 now.; remove it or give a new folder"):
        make_phantom(tmp_path / "out", 1, 1, height=64)
    (tmp_path / "out" / "phantom.json").unlink()
    with pytest.raises(DataError, match="not empty"):
        make_phantom(tmp_path / "out", 1, 0, height=64)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "wrong", [{"patients": 0}, {"difficulty": 1.5}, {"difficulty": float("nan")}, {"height": 10}, {"workers": 0}]
)
def test_values_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=rf"{next(iter(wrong))} is .*; allowed are"):
        make_phantom(tmp_path / "out", **({"patients": 1, "seed": 0} | wrong))  # type: ignore[arg-type]
