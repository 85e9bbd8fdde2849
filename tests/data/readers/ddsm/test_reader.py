"""The archive of DDSM: its real list of files, labels, doubled cases, leftovers, and damaged or hostile files."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from diagram_ray.data.readers.ddsm import index
from diagram_ray.data.readers.ddsm.case_folders import find_cases
from diagram_ray.data.records import Film, ImageRecord, Index
from diagram_ray.errors import DataError

VIEWS = ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO")
ROOT = "/pub/DDSM/cases"

Overlays = dict[str, str | list[str]]


def overlay(pathologies: str | list[str], x: int = 10) -> str:
    """An overlay with one abnormality for each pathology; the k-th has its outline k x 20 columns to the right."""
    kinds = [pathologies] if isinstance(pathologies, str) else pathologies
    lines = [f"TOTAL_ABNORMALITIES {len(kinds)}"]
    for number, pathology in enumerate(kinds):
        lines += [f"ABNORMALITY {number + 1}", "LESION_TYPE MASS SHAPE OVAL MARGINS CIRCUMSCRIBED"]
        lines += [f"ASSESSMENT {4 - number}", f"SUBTLETY {5 - number}", f"PATHOLOGY {pathology}", "TOTAL_OUTLINES 1"]
        lines += ["BOUNDARY", f"{x + 20 * number} 30 2 2 2 4 4 6 6 6 0 0 #"]
    return "\n".join(lines) + "\n"


def ics(name: str, overlays: Overlays, digitizer: str = "LUMISYS LASER", bits: int = 12, rows: int = 300) -> str:
    lines = [f"filename {name.replace('_', '-')}-1", "DENSITY 3", f"DIGITIZER {digitizer}"]
    for number, view in enumerate(VIEWS):
        flag = "OVERLAY" if view in overlays else "NON_OVERLAY"
        size = f"LINES {rows + number} PIXELS_PER_LINE 200"
        lines.append(f"{view} {size} BITS_PER_PIXEL {bits} RESOLUTION 50 {flag}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def add_case(tmp_path: Path) -> Callable[..., Path]:
    def add(volume: str, name: str, overlays: Overlays | None = None, **changes: object) -> Path:
        overlays = overlays or {}
        folder = tmp_path / f"{volume.rpartition('_')[0]}s" / volume / f"case{name[2:]}"
        folder.mkdir(parents=True)
        (folder / f"{name.replace('_', '-')}-1.ics").write_text(ics(name, overlays, **changes))  # type: ignore[arg-type]
        for view in VIEWS:
            (folder / f"{name}_1.{view}.LJPEG").write_bytes(b"a film")
        for view, pathologies in overlays.items():
            (folder / f"{name}_1.{view}.OVERLAY").write_text(overlay(pathologies))
        return folder

    return add


def by_id(found: Index) -> dict[str, ImageRecord]:
    return {record.image_id: record for record in found.records}


def reasons(found: Index) -> dict[str, str]:
    assert len({reject.path for reject in found.rejects}) == len(found.rejects)
    return {Path(reject.path).name: reject.reason for reject in found.rejects}


# ---- the archive's own list of files


@pytest.fixture(scope="module")
def listing(real_data: Path) -> list[str]:
    lines = (real_data / "ddsm-text" / "ftp-tree-info-file.txt").read_text().splitlines()
    return [line.removeprefix(f"{ROOT}/") for line in lines if line.startswith("/")]


@pytest.mark.real
def test_the_real_archive_by_its_names(listing: list[str]) -> None:
    """FORMATS: 2,604 folders of 2,586 cases, 18 in two folders; 22 leftovers, two overlays in foreign folders."""
    cases, rejects = find_cases(listing, lambda path: f"{ROOT}/{path}")
    folders = [folder for case in cases for folder in (case.chosen, *case.others)]
    assert (len(cases), len(folders)) == (2586, 2604)
    doubled = {case.chosen.key: case for case in cases if case.others}
    assert len(doubled) == 18
    assert {len(case.others) for case in doubled.values()} == {1}
    assert sum(len(folder.films) for folder in folders) == 10416
    assert all(len(case.chosen.films) == 4 and case.chosen.ics for case in cases)
    assert sum(len(folder.overlays) for folder in folders) == 4029 - 2
    assert Counter(folder.kind for folder in folders) == {
        "cancer": 913, "benign": 855, "benign_without_callback": 141, "normal": 695
    }  # fmt: skip
    assert not any(case.chosen.overlays for case in cases if case.chosen.kind == "normal")
    together = {key for key, case in doubled.items() if case.chosen.kind == "cancer"}
    assert together == {"A_1500", "A_1511", "A_1632", "B_3497"}
    assert Counter(case.others[0].kind for case in doubled.values()) == {"benign": 8, "benign_without_callback": 10}

    assert len({reject.path for reject in rejects}) == len(rejects) == 2604 + 22 + 2
    counts = Counter(reject.reason.split(":")[0] for reject in rejects)
    assert counts == {
        "a thumbnail of a case's films, not needed": 2604,
        "not a file of DDSM's own form": 22,
        "a file of another case than its folder": 2,
    }
    strays = {reject.path.rpartition("/")[2] for reject in rejects if reject.reason.startswith("not a file")}
    assert {"C_0286_1.LEFT_CC.LJPEG.1", "D_4009_1.RIGHT_MLO.OVERLAYu", "#mv.sh#", "B-3643-1.ics~", "jpeg"} <= strays


@pytest.mark.real
def test_the_order_of_the_list_does_not_matter(listing: list[str]) -> None:
    some = [path for path in listing if path.startswith(("cancers/cancer_08", "benigns/benign_05"))]
    assert find_cases(some, str) == find_cases(some[::-1], str)
    assert find_cases(some, str)[0][0].chosen.volume in ("cancer_08", "benign_05")


@pytest.mark.parametrize(
    "name",
    [
        "E_0001_1.LEFT_CC.LJPEG", "A_001_1.LEFT_CC.LJPEG", "A_0001_2.LEFT_CC.LJPEG", "A_0001_1.LEFT_CC.LJPEG\n",
        "A_0001_1.LEFT_CC.ljpeg", "A_0001_1.LEFT_LM.LJPEG", "xA_0001_1.LEFT_CC.LJPEG", "A_٠٠٠١_1.LEFT_CC.LJPEG",
        "A_0001_1.LEFT_CC.OVERLAY.bz2", "A-0001-1.ics.gz.gz", "A_0001_1.ics", "A-0001-1.LEFT_CC.LJPEG", "",
    ],
)  # fmt: skip
def test_names_are_matched_strictly(name: str) -> None:
    cases, (reject,) = find_cases([f"normals/normal_01/case0001/{name}"], str)
    assert (cases, reject.reason) == ([], "not a file of DDSM's own form")


def test_files_outside_of_their_case() -> None:
    name = "A_0001_1.LEFT_CC.LJPEG"
    for folder, reason in (
        ("", "not in a folder of the name case<number>"),
        ("case0001/deeper/", "not in a folder of the name case<number>"),
        ("case0002/", "a file of another case than its folder"),
    ):
        cases, (reject,) = find_cases([f"{folder}{name}"], lambda path: f"/data/{path}")
        assert cases == []
        assert reason in reject.reason


# ---- labels and what else is told


def test_labels_follow_the_worst_abnormality(add_case: Callable[..., Path], tmp_path: Path) -> None:
    add_case(
        "cancer_01",
        "B_0001",
        {
            "LEFT_CC": ["BENIGN", "MALIGNANT", "UNPROVEN"],
            "LEFT_MLO": ["BENIGN_WITHOUT_CALLBACK", "BENIGN"],
            "RIGHT_CC": ["BENIGN", "UNPROVEN"],
        },
    )
    found = index(str(tmp_path))
    records = by_id(found)
    left = records["B_0001_1.LEFT_CC"]
    assert (left.label, left.laterality, left.view, left.spacing_mm) == ("cancer", "L", "CC", 0.05)
    assert (left.patient_id, left.exam_id, left.film) == ("B_0001", "B_0001_1", Film((300, 200), "lumisys"))
    assert left.columns == {
        "pathology": "malignant", "density": "3", "finding": "mass", "assessment": "3", "subtlety": "4",
        "scanner": "lumisys", "volume": "cancer_01",
    }  # fmt: skip
    assert [region.label for region in left.regions] == ["benign", "cancer", None]
    assert [region.box for region in left.regions] == [(30.0, x, 33.0, x + 4) for x in (10.0, 30.0, 50.0)]
    assert [(r.label, r.columns["pathology"], r.columns["finding"]) for r in found.records[1:]] == [
        ("benign", "benign", "mass"),
        (None, "unproven", "mass"),
        (None, "unmarked", "none"),
    ]
    assert found.classes == ("benign", "cancer")
    assert found.rejects == []
    assert left.path == str(tmp_path / "cancers/cancer_01/case0001/B_0001_1.LEFT_CC.LJPEG")


def test_normals_are_excluded_unless_asked_for(add_case: Callable[..., Path], tmp_path: Path) -> None:
    add_case("normal_01", "A_0001", digitizer="DBA", bits=16)
    add_case("benign_without_callback_01", "A_0002", {"LEFT_CC": "BENIGN_WITHOUT_CALLBACK"}, digitizer="HOWTEK")
    add_case("cancer_01", "D_0002", {"LEFT_CC": "MALIGNANT"}, digitizer="HOWTEK")
    plain, wide = index(str(tmp_path)), index(str(tmp_path), normals=True)
    assert Counter(record.label for record in plain.records) == {None: 10, "benign": 1, "cancer": 1}
    assert Counter(record.label for record in wide.records) == {None: 6, "negative": 5, "cancer": 1}
    assert (plain.classes, wide.classes) == (("benign", "cancer"), ("negative", "cancer"))
    for found in (plain, wide):
        pathologies = Counter(record.columns["pathology"] for record in found.records)
        assert pathologies == {"normal": 4, "unmarked": 6, "benign_without_callback": 1, "malignant": 1}
    assert {region.label for record in wide.records for region in record.regions} == {"negative", "cancer"}
    assert {record.columns["scanner"] for record in plain.records} == {"dba", "howtek-mgh", "howtek-ismd"}
    assert len({record.patient_id for record in plain.records}) == 3, "A-0002 and D-0002 are two patients"
    assert plain.notes == (
        "films without an outlined abnormality in cases that have one elsewhere, without label: 6",
        "films of normal cases, without label unless --normals is given: 4",
    )


def test_an_outline_that_leaves_the_image_is_cut_off(add_case: Callable[..., Path], tmp_path: Path) -> None:
    folder = add_case("cancer_01", "B_0001", {"LEFT_CC": "MALIGNANT", "LEFT_MLO": "MALIGNANT"})
    (folder / "B_0001_1.LEFT_CC.OVERLAY").write_text(overlay("MALIGNANT", x=198))
    (folder / "B_0001_1.LEFT_MLO.OVERLAY").write_text(overlay("MALIGNANT", x=300))
    found = index(str(tmp_path))
    assert by_id(found)["B_0001_1.LEFT_CC"].regions[0].box == (30, 198, 33, 200)
    assert by_id(found)["B_0001_1.LEFT_MLO"].label is None
    told = reasons(found)
    assert told["B_0001_1.LEFT_CC.OVERLAY"] == "abnormality 1 leaves the image by 2 pixels and is cut off there"
    assert "columns 300 to 303) lies outside of its image of 301 x 200 pixels" in told["B_0001_1.LEFT_MLO.OVERLAY"]


# ---- cases in two folders


def test_a_case_in_two_folders_is_read_once(add_case: Callable[..., Path], tmp_path: Path) -> None:
    """From the cancers; what only the other folder describes (there, another lesion) is used as well."""
    add_case("benign_05", "B_1500", {"LEFT_MLO": "BENIGN", "RIGHT_CC": "BENIGN"})
    add_case("cancer_08", "B_1500", {"RIGHT_CC": "MALIGNANT", "RIGHT_MLO": "MALIGNANT"})
    found = index(str(tmp_path))
    assert [(record.image_id[9:], record.label) for record in found.records] == [
        ("LEFT_CC", None), ("LEFT_MLO", "benign"), ("RIGHT_CC", "cancer"), ("RIGHT_MLO", "cancer")
    ]  # fmt: skip
    assert all("cancer_08" in record.path for record in found.records)
    (reject,) = found.rejects
    assert reject.path == str(tmp_path / "benigns/benign_05/case1500")
    assert reject.reason == "the same case stands in cancer_08 and is read there; its overlays of LEFT_MLO are used"
    assert "cases that stand in two folders and are read once: 1" in found.notes


def test_of_two_folders_of_a_kind_the_first_volume_is_read(add_case: Callable[..., Path], tmp_path: Path) -> None:
    add_case("benign_14", "B_3470", {"LEFT_CC": "BENIGN"}, rows=310)
    add_case("benign_13", "B_3470", {"RIGHT_CC": "BENIGN"})
    found = index(str(tmp_path))
    assert {record.columns["volume"] for record in found.records} == {"benign_13"}
    assert [record.label for record in found.records] == [None, None, "benign", None]
    told = reasons(found)
    assert told["B_3470_1.LEFT_CC.OVERLAY"] == "is not used: the film that is read has another size"
    assert told["case3470"] == "the same case stands in benign_13 and is read there"


# ---- compressed, foreign, damaged


def test_compressed_copies_are_read(add_case: Callable[..., Path], tmp_path: Path) -> None:
    folder = add_case("cancer_01", "B_0001", {"LEFT_CC": "MALIGNANT"})
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (folder / "B_0001_1.LEFT_CC.LJPEG").write_bytes(b"a film")
    found = index(str(tmp_path))
    assert found.records[0].label == "cancer"
    assert found.records[0].path.endswith("B_0001_1.LEFT_CC.LJPEG")
    assert found.records[1].path.endswith("B_0001_1.LEFT_MLO.LJPEG.gz")
    assert reasons(found) == {"B_0001_1.LEFT_CC.LJPEG.gz": "a second copy: the file of this name without .gz is read"}


def test_it_is_read_from_an_object_store(add_case: Callable[..., Path], tmp_path: Path) -> None:
    folder = add_case("cancer_01", "B_0001", {"LEFT_CC": "MALIGNANT"})
    files = fsspec.filesystem("memory")
    for path in folder.iterdir():
        files.pipe_file(f"/ddsm/cancer_01/case0001/{path.name}", path.read_bytes())
    for source in ("memory://ddsm", "memory://ddsm/cancer_01", "memory://ddsm/cancer_01/case0001"):
        found = index(source)
        assert [record.label for record in found.records] == ["cancer", None, None, None]
        assert found.records[0].path == "memory:///ddsm/cancer_01/case0001/B_0001_1.LEFT_CC.LJPEG"
        assert found.records[0].columns["volume"] == "cancer_01"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("A-1738-1.ics", b"", "has no filename; none of the case's films is used"),
        ("A-1738-1.ics", None, "has no .ics, which alone tells the size of films"),
        ("A-1738-1.ics", ics("A_1737", {}).encode(), "is of another case by its line 'filename'"),
        ("A-1738-1.ics", b"filename ../../../etc/passwd\nDIGITIZER DBA\n", "is of another case"),
        ("A-1738-1.ics", gzip.compress(bytes(32 << 20), mtime=0), "unpacks to more than 65536 bytes"),
        ("A-1738-1.ics", gzip.compress(b"filename A-1738-1", mtime=0)[:-3], "not readable as gzip"),
    ],
)
def test_a_case_without_a_usable_ics(
    add_case: Callable[..., Path], tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    add_case("benign_01", "B_0001", {"LEFT_CC": "BENIGN"})
    path = add_case("benign_08", "A_1738", {"LEFT_CC": "BENIGN"}, digitizer="HOWTEK") / name
    path.unlink() if content is None else path.write_bytes(content)
    found = index(str(tmp_path))
    assert {record.patient_id for record in found.records} == {"B_0001"}
    (reject,) = found.rejects
    assert reason in reject.reason
    assert "case1738" in reject.path


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"digitizer": "LUMISYS"}, "DIGITIZER 'LUMISYS' of a case 'A' has no known curve; allowed: A with DBA"),
        ({"digitizer": "HOWTEK", "bits": 16}, "has 16 bits by its .ics; films of the scanner howtek-mgh have 12"),
    ],
)
def test_films_of_an_unknown_scanner(
    add_case: Callable[..., Path], tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    add_case("benign_08", "A_1738", {"LEFT_CC": "BENIGN"}, **changes)
    with pytest.raises(DataError, match="no film of DDSM that can be used") as caught:
        index(str(tmp_path))
    assert reason in str(caught.value)


def test_overlays_that_cannot_be_used_leave_their_film_without_label(
    add_case: Callable[..., Path], tmp_path: Path
) -> None:
    """Nothing is known of such a film: it is neither unmarked nor normal."""
    marked = dict.fromkeys(VIEWS, "MALIGNANT")
    folder = add_case("cancer_01", "A_1738", marked, digitizer="DBA", bits=16)
    (folder / "A_1738_1.LEFT_CC.OVERLAY").write_text(overlay("MALIGNANT")[:-20])
    (folder / "A_1738_1.LEFT_MLO.OVERLAY").unlink()
    other = add_case("cancer_02", "B_0002", {"LEFT_CC": "BENIGN"})
    (other / "B_0002_1.RIGHT_CC.OVERLAY").write_text(overlay("MALIGNANT"))
    (other / "B_0002_1.LEFT_MLO.LJPEG").unlink()
    (other / "B_0002_1.LEFT_MLO.OVERLAY").write_text(overlay("MALIGNANT"))
    found = index(str(tmp_path))
    labelled = {record.image_id for record in found.records if record.label or record.regions}
    assert labelled == {"B_0002_1.LEFT_CC"}
    assert Counter(record.columns["pathology"] for record in found.records) == {None: 5, "benign": 1, "unmarked": 1}
    assert {record.columns["finding"] for record in found.records} == {None, "mass", "none"}
    told = reasons(found)
    assert "does not end with '#'" in told["A_1738_1.LEFT_CC.OVERLAY"]
    assert told["A_1738_1.LEFT_MLO.LJPEG"] == "has an overlay by its .ics, but there is none: no label"
    assert "known to belong to another film" in told["A_1738_1.RIGHT_CC.OVERLAY"]
    assert "known to belong to another film" in told["A_1738_1.RIGHT_MLO.OVERLAY"]
    assert "the .ics beside it says that the film has none" in told["B_0002_1.RIGHT_CC.OVERLAY"]
    assert told["B_0002_1.LEFT_MLO.OVERLAY"] == "is an overlay of a film that is not there"
    assert told["B-0002-1.ics"] == "lists LEFT_MLO, of which there is no film"
    assert "films whose overlay cannot be used, without label: 5" in found.notes


def test_a_folder_that_is_not_ddsm(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no film of DDSM that can be used"):
        index(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: not a file of DDSM's own form"):
        index(str(tmp_path))
    with pytest.raises(DataError, match="no such folder"):
        index(str(tmp_path / "missing"))
