"""Class folders and tables: who the patient is, which class is positive, and no way out of the folder."""

from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diagram_ray.data.mammogram import read_mammogram
from diagram_ray.data.readers.folder import _inside, index
from diagram_ray.errors import DataError

FILES = ("in/007_1.png", "in/007_2.png", "in/8-1.png", "out/9.png", "out/8_7.png")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.arange(64 * 48, dtype=np.uint16).reshape(64, 48)).save(tmp_path / "tree" / name)
    return tmp_path / "tree"


def table(tree: Path, *lines: str) -> str:
    path = tree.parent / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_class_folders(tree: Path) -> None:
    (tree / "in" / "notes.txt").write_text("x")
    (tree / "stray.png").write_bytes(b"x")
    found = index(str(tree), positive="in")
    assert found.classes == ("out", "in")
    told = {record.image_id: (record.patient_id, record.label) for record in found.records}
    assert told == {
        "in/007_1.png": ("007", "in"), "in/007_2.png": ("007", "in"), "in/8-1.png": ("8", "in"),
        "out/9.png": ("9.png", "out"), "out/8_7.png": ("8", "out"),
    }  # fmt: skip
    assert {Path(reject.path).name for reject in found.rejects} == {"notes.txt", "stray.png"}


def test_the_patient_pattern(tree: Path) -> None:
    found = index(str(tree), patient_pattern=r"^(\d+)")
    assert {record.patient_id for record in found.records} == {"007", "8", "9"}
    for pattern, reason in ((r"(", "not a regular expression"), (r"\d+", "needs a group")):
        with pytest.raises(DataError, match=reason):
            index(str(tree), patient_pattern=pattern)
    unmatched = index(str(tree), patient_pattern=r"^(\d+)_")
    assert {Path(reject.path).name for reject in unmatched.rejects} == {"8-1.png", "9.png"}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("benign", "malignant"), ("benign", "malignant")),
        (("Cancer", "normal"), ("normal", "Cancer")),
        (("1", "0"), ("0", "1")),
        (("apple", "pear"), ("apple", "pear")),
    ],
)
def test_the_positive_class_is_told_by_its_name(tree: Path, names: tuple[str, str], classes: tuple[str, str]) -> None:
    (tree / "in").rename(tree / names[0])
    (tree / "out").rename(tree / names[1])
    assert index(str(tree)).classes == classes


def test_a_table(tree: Path) -> None:
    path = table(
        tree,
        "Path,PATIENT,Label,Laterality,view,exam,density,spacing_mm,top,left,bottom,right,finding",
        "in/007_1.png,007,1,left,mlo,a,2,0.07,1,2,30,40,Mass",
        "./in//007_1.png,007,0,left,mlo,a,2,0.07,5,6,7,8.5,",
        "out/9.png,7,0,R,,,,,,,,,",
        "out/8_7.png,12,NA,,,,,,,,,,",
    )
    found = index(str(tree), path)
    first, second, third = found.records
    assert (first.patient_id, second.patient_id) == ("007", "7"), "007 and 7 are two patients"
    assert found.classes == ("0", "NA", "1")
    assert (first.label, first.laterality, first.view, first.spacing_mm) == ("1", "L", "MLO", 0.07)
    assert [(region.box, region.finding, region.label) for region in first.regions] == [
        ((1, 2, 30, 40), "mass", "1"),
        ((5, 6, 7, 8.5), "lesion", "0"),
    ]
    assert first.columns == {"density": "2", "finding": "Mass"}
    assert (second.laterality, second.view, second.columns["density"], second.regions) == ("R", None, None, ())
    assert third.label == "NA"
    assert not found.rejects


def test_a_parquet_table_with_numbers(tree: Path) -> None:
    frame = pd.DataFrame({"path": ["in/8-1.png", "out/9.png"], "patient": [8, 9], "label": [1.0, 0.0]})
    frame.to_parquet(tree.parent / "t.parquet")
    found = index(str(tree), str(tree.parent / "t.parquet"))
    assert found.classes == ("0", "1")
    assert [record.patient_id for record in found.records] == ["8", "9"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("../secret.png,1,a,,,,", "leaves the source folder"),
        ("in/../../secret.png,1,a,,,,", "leaves the source folder"),
        ("/etc/passwd,1,a,,,,", "leaves the source folder"),
        ("in/missing.png,1,a,,,,", "no such file"),
        (",1,a,,,,", "no path or no patient"),
        ("in/8-1.png,,a,,,,", "no path or no patient"),
        ("in/8-1.png,1,a,x,2,3,4", "the box"),
        ("in/8-1.png,1,a,5,2,3,4", "the box"),
        ("in/8-1.png,1,a,1,2,3,", "the box"),
        ("in/8-1.png,1,a,1,2,inf,4", "the box"),
        ("in/8-1.png,1,a,nan,2,3,4", "the box"),
        ("in/8-1.png,1,a,-5,2,3,4", "the box"),
    ],
)
def test_rows_that_are_refused(tree: Path, row: str, reason: str) -> None:
    (tree.parent / "secret.png").write_bytes((tree / "out" / "9.png").read_bytes())
    header = "path,patient,label,top,left,bottom,right"
    found = index(str(tree), table(tree, header, row, "out/9.png,2,a,,,,", "out/8_7.png,3,b,,,,"))
    assert len(found.records) == 2
    (reject,) = found.rejects
    assert reason in reject.reason
    assert reject.path.endswith("table.csv: row 2")


@given(st.text(alphabet="./ab\\", max_size=12))
def test_no_path_leaves_its_folder(path: str) -> None:
    inside = _inside(path)
    if inside is not None:
        assert (Path("/data/source") / inside).resolve().is_relative_to("/data/source")


def test_one_file_cannot_be_two_patients(tree: Path) -> None:
    rows = ["path,patient,label", "in/8-1.png,1,a", "in/./8-1.png,2,b", "out/9.png,3,a"]
    found = index(str(tree), table(tree, *rows))
    assert [record.patient_id for record in found.records] == ["3"]
    assert "patient is 1 and 2" in found.rejects[0].reason


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["path,patient", "in/8-1.png,1"], "no column 'label'"),
        (["path,patient,label", "in/8-1.png,1,"], "found: no label"),
        (["path,patient,label", "in/8-1.png,1,a", "out/9.png,2,a"], "two classes or more are needed; found: a"),
        (["path,patient,label,Label", "in/8-1.png,1,a,b"], "column 'label' stands 2 times"),
        (["path,patient,label", "nothing.png,1,a"], "no such file"),
        ([""], "not a CSV or Parquet table"),
    ],
)
def test_tables_that_are_refused(tree: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        index(str(tree), table(tree, *lines))


def test_what_else_is_refused(tree: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        index(str(tmp_path / "missing"))
    with pytest.raises(DataError, match="no such file"):
        index(str(tree), str(tmp_path / "missing.csv"))
    with pytest.raises(DataError, match="--positive 'sick' is no class; found: in, out"):
        index(str(tree), positive="sick")
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="no image found"):
        index(str(tmp_path / "bare"))


def test_it_is_read_from_an_object_store(tree: Path) -> None:
    files = fsspec.filesystem("memory")
    for name in FILES:
        files.pipe_file(f"/store/{name}", (tree / name).read_bytes())
    found = index("memory://store")
    assert {record.image_id for record in found.records} == set(FILES)
    assert read_mammogram(found.records[0].path).pixels.shape == (64, 48)


@pytest.mark.real
def test_real_class_folders(real_data: Path) -> None:
    found = index(str(real_data / "rsna-640"))
    assert found.classes == ("benign", "malignant")
    assert len(found.records) == 400
    assert all(record.patient_id.isdigit() for record in found.records)
    assert len({record.patient_id for record in found.records}) == 128
    assert [reject.path.rpartition("/")[2] for reject in found.rejects] == ["SOURCE.txt", "license.txt"]
