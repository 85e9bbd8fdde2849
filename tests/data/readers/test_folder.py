"""Class folders and tables: who the patient is, which class is positive, and no way out of the folder."""

import datetime
import gzip
import random
from decimal import Decimal
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.readers.folder import _inside, index
from diagram_ray.data.readers.folder_table import read_rows
from diagram_ray.data.records import OWN_COLUMNS
from diagram_ray.errors import DataError
from tests.support.sources.dicom_files import GREY, as_bytes, dicom

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
    assert found.rejects[0].reason == "its rows disagree about its patient"


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
    (tmp_path / "bare" / "notes.yaml").touch()
    with pytest.raises(DataError, match=r"no image found.*; the first of 1 reasons: .*notes\.yaml: not an image"):
        index(str(tmp_path / "bare"))


def test_it_is_read_from_an_object_store(tree: Path) -> None:
    files = fsspec.filesystem("memory")
    for name in FILES:
        files.pipe_file(f"/store/{name}", (tree / name).read_bytes())
    found = index("memory://store")
    assert {record.image_id for record in found.records} == set(FILES)
    assert read_mammogram(found.records[0].path).pixels.shape == (64, 48)


def test_files_without_a_suffix_are_told_by_how_they_begin(tree: Path) -> None:
    picture = (tree / "in" / "8-1.png").read_bytes()
    for name, data in (
        ("in/1_IM0001", as_bytes(dicom())),
        ("in/2_1.2.840.113619.2", as_bytes(dicom())[132:]),
        ("in/3_picture", picture),
        ("in/4_films", b"P5 48 64 255\n" + bytes(48 * 64)),
        ("in/5_films.png.gz", gzip.compress(picture)),
        ("in/README", b"Dear colleague"),
        ("in/6_notes.doc", picture),
        ("in/empty", b""),
    ):
        (tree / name).write_bytes(data)
    found = index(str(tree), positive="in")
    assert {record.patient_id for record in found.records} == {"007", "8", "9.png", "1", "2", "3", "4", "5"}
    assert {Path(reject.path).name for reject in found.rejects} == {"README", "6_notes.doc", "empty"}
    shapes = {read_mammogram(one.path).pixels.shape for one in found.records if one.patient_id in ("1", "2", "3", "5")}
    assert shapes == {GREY.shape}


def test_links_that_leave_the_folder_are_not_followed(tree: Path) -> None:
    secret = tree.parent / "secret.png"
    secret.write_bytes((tree / "in" / "8-1.png").read_bytes())
    (tree.parent / "elsewhere").mkdir()
    (tree.parent / "elsewhere" / "3.png").write_bytes(secret.read_bytes())
    (tree / "in" / "1_link.png").symlink_to(secret)
    (tree / "in" / "2_within.png").symlink_to(tree / "out" / "9.png")
    (tree / "in" / "round").symlink_to(tree)
    (tree / "far").symlink_to(tree.parent / "elsewhere")
    found = index(str(tree), positive="in")
    assert {Path(record.path).name for record in found.records} == {Path(name).name for name in FILES} | {
        "2_within.png"
    }
    reasons = {Path(reject.path).name: reject.reason for reject in found.rejects}
    assert set(reasons) == {"1_link.png", "round", "far"}
    assert "leads outside the source folder" in reasons["1_link.png"]
    assert "leads outside the source folder" in reasons["far"]
    rows = ["path,patient,label", "in/1_link.png,1,a", "far/3.png,2,a", "out/9.png,3,b", "in/2_within.png,4,a"]
    listed = index(str(tree), table(tree, *rows))
    assert [record.patient_id for record in listed.records] == ["3", "4"]
    assert "leads outside the source folder" in listed.rejects[0].reason
    (tree.parent / "alias").symlink_to(tree)
    assert len(index(str(tree.parent / "alias"), positive="in").records) == 6, "the folder itself may be a link"


def test_only_documented_columns_and_those_asked_for_are_taken(tree: Path) -> None:
    head = "path,patient,label,name,Birth Date,density,Site,scanner,finding"
    path = table(
        tree, head, "in/8-1.png,1,a,Jane Doe,1943-11-07,b,Ward 7,X,mass", "out/9.png,2,b,Ann Roe,1950-01-01,,,,"
    )
    plain = index(str(tree), path)
    assert plain.records[0].columns == {"density": "b", "scanner": "X", "finding": "mass"}
    asked = index(str(tree), path, keep_columns=("Site",))
    assert asked.records[0].columns == {"site": "Ward 7", "density": "b", "scanner": "X", "finding": "mass"}
    assert "Doe" not in repr(plain) + repr(asked)
    with pytest.raises(DataError, match="no column 'ward'; of those that are read it has: path, patient, label"):
        index(str(tree), path, keep_columns=("ward",))
    for name in ("patient", "digest", "exam", "top", *OWN_COLUMNS):
        with pytest.raises(DataError, match=f"--keep-columns {name}: the dataset has a column of this name"):
            index(str(tree), path, keep_columns=(name,))


def test_nothing_of_a_table_is_quoted(tree: Path) -> None:
    """Every row is wrong in another way, and each says Doe somewhere."""
    head = "path,patient,label,spacing_mm,top,left,bottom,right,finding,view"
    bad = [
        "Doe/a.png,Doe,Doe,,,,,,,", "../Doe.png,Doe,Doe,,,,,,,", "in/8-1.png,Doe,Doe,Doe,,,,,,",
        "in/8-1.png,Doe,Doe,,Doe,1,2,3,,", f"in/8-1.png,Doe,Doe,,,,,,{'Doe ' * 20},", "in/8-1.png,Doe,Doe,,,,,,,,Doe",
        f"in/8-1.png,Doe,Doe,,,,,,,{'Doe ' * 20}", "in/007_1.png,Doe,Doe,,,,,,,", "in/007_1.png,Doe Jane,Doe,,,,,,,",
    ]  # fmt: skip
    found = index(str(tree), table(tree, head, *bad, "out/9.png,1,a,,,,,,,", "out/8_7.png,2,b,,,,,,,"))
    assert [record.patient_id for record in found.records] == ["1", "2"]
    assert len(found.rejects) == 8
    assert not [reject.reason for reject in found.rejects if "doe" in reject.reason.lower()]
    with pytest.raises(DataError) as caught:  # a table without a header
        index(str(tree), table(tree, "Doe Jane,in/8-1.png,a", "Roe,out/9.png,b"))
    assert "Doe" not in str(caught.value)
    assert "it has: none of its names" in str(caught.value)
    many = [f"in/{'x' * n}8-1.png,{n},Doe {n}" for n in range(40)]
    for n in range(40):
        (tree / "in" / f"{'x' * n}8-1.png").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        index(str(tree), table(tree, "path,patient,label", *many), positive="sick")
    assert str(caught.value).endswith("and 32 more")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_semicolons_and_encodings(tree: Path, encoding: str) -> None:
    path = tree.parent / "table.csv"
    path.write_bytes("Path;patient;label;density\r\nin/8-1.png;Zoë;krank;2,5\r\nout/9.png;1;gut;\r\n".encode(encoding))
    found = index(str(tree), str(path), positive="krank")
    assert [(one.patient_id, one.columns["density"]) for one in found.records] == [("Zoë", "2,5"), ("1", None)]


def test_parquet_of_every_type_is_read_as_its_csv_would_be(tree: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": pd.Categorical(["in/8-1.png", "out/9.png", "out/8_7.png"]),
            "patient": pd.array([2**60 + 1, 2**60, None], dtype="Int64"),
            "label": [True, False, True],
            "density": [1.0, None, 2.5],
            "birads": pd.array([4, None, 2], dtype="Int8"),
            "volume": [Decimal("1.50"), None, None],
            "split": [datetime.date(2011, 7, 1), None, None],
            "top": [1, None, None], "left": [2.5, None, None], "bottom": [30, None, None], "right": [40, None, None],
            "notes": [["Doe"], ["Doe"], []],
        }
    )  # fmt: skip
    frame.to_parquet(tree.parent / "t.parquet")
    found = index(str(tree), str(tree.parent / "t.parquet"))
    first, second = found.records
    assert (first.patient_id, second.patient_id) == (str(2**60 + 1), str(2**60)), "ids are not rounded"
    assert (found.classes, first.label) == (("False", "True"), "True")
    assert first.columns == {"density": "1", "birads": "4", "volume": "1.50", "split": "2011-07-01"}
    assert second.columns == dict.fromkeys(first.columns)
    assert first.regions[0].box == (1, 2.5, 30, 40)
    assert found.rejects[0].reason == "has no path or no patient"
    with pytest.raises(DataError, match=r"not a CSV or Parquet table \(TypeError\)"):
        index(str(tree), str(tree.parent / "t.parquet"), keep_columns=("notes",))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_damaged_tables_are_read_or_refused(tree: Path, kind: str) -> None:
    frame = pd.DataFrame({"path": list(FILES), "patient": range(5), "label": list("ababa"), "density": [1.5] * 5})
    place = tree.parent / f"t.{kind}"
    frame.to_csv(place, index=False) if kind == "csv" else frame.to_parquet(place)
    whole, choose = place.read_bytes(), random.Random(kind)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        at = choose.randrange(len(whole))
        damaged[at : at + choose.choice([0, 1, 1, 30])] = choose.choice(
            [b"\xff", b"", b'"', b"\0\0", b"\xff\xff\xff\x7f"]
        )
        place.write_bytes(damaged)
        try:
            index(str(tree), str(place))
        except DataError as error:
            refused += 1
            reason = str(error).replace(str(place), "")
        else:
            reason = ""
        assert len(reason) < 250
    assert refused > 20


def test_tables_too_large(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diagram_ray.data.readers import folder_table

    path = table(tree, "path,patient,label", *["in/8-1.png,1,a"] * 20)
    for name, limit, reason in (("LARGEST", 50, "more than"), ("MOST_ROWS", 19, "more than 19 rows")):
        with monkeypatch.context() as patched:
            patched.setattr(folder_table, name, limit)
            with pytest.raises(DataError, match=reason):
                index(str(tree), path)
    wide = table(tree, ",".join(f"c{n}" for n in range(2001)), "x")
    with pytest.raises(DataError, match="has 2001 columns"):
        read_rows(wide, ["path"], [])


def test_a_file_nobody_may_read_is_a_reject_when_its_content_decides(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("Doe")

    (tree / "in" / "7_dark").write_bytes(b"x")
    monkeypatch.setattr("diagram_ray.data.readers.source.Source.open", refuse)
    assert [Path(reject.path).name for reject in index(str(tree), positive="in").rejects] == ["7_dark"]


@pytest.mark.real
def test_real_class_folders(real_data: Path) -> None:
    found = index(str(real_data / "rsna-640"))
    assert found.classes == ("benign", "malignant")
    assert len(found.records) == 400
    assert all(record.patient_id.isdigit() for record in found.records)
    assert len({record.patient_id for record in found.records}) == 128
    assert [reject.path.rpartition("/")[2] for reject in found.rejects] == ["SOURCE.txt", "license.txt"]
