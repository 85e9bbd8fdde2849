import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from diagram_ray.data.preprocessing.prepare_image import check_distinct
from diagram_ray.data.readers import cbis
from diagram_ray.data.readers.cbis.descriptions import parse_table
from diagram_ray.data.records import Index
from diagram_ray.errors import DataError
from tests.support.sources.cbis_tree import Row, flat_paths, new_paths, old_paths, row, table, touch, uid, write_tree


def reasons(found: Index) -> str:
    return "\n".join(f"{Path(reject.path).name}: {reject.reason}" for reject in found.rejects)


def test_rows_of_one_film_become_one_record(tmp_path: Path) -> None:
    rows = [
        row(number=2, pathology="MALIGNANT", assessment="5", subtlety="1"),
        row(number=1, assessment="4", subtlety="5"),
        row(view="MLO", pathology="BENIGN_WITHOUT_CALLBACK", breast_density="0"),
    ]
    found = cbis.index(str(write_tree(tmp_path / "tree", rows)))
    assert (found.classes, found.name, found.rejects) == (("benign", "cancer"), "CBIS-DDSM", [])
    first, second = found.records
    assert (first.image_id, first.patient_id, first.exam_id) == ("P_00001_LEFT_CC", "P_00001", "P_00001")
    assert (first.laterality, first.view, first.label) == ("L", "CC", "cancer")
    told = {"density": "2", "finding": "mass", "pathology": "malignant", "assessment": "5", "subtlety": "1"}
    assert first.columns == told | {"split": "train"}
    assert [(mask.finding, mask.label) for mask in first.masks] == [("mass", "benign"), ("mass", "cancer")]
    assert [[Path(path).name for path in mask.paths] for mask in first.masks] == [["1-1.dcm", "1-2.dcm"]] * 2
    assert Path(first.path).is_file()
    assert (second.label, second.columns["density"]) == ("benign", None)
    assert "no table of Mass-Test, Calc-Training, Calc-Test" in found.notes[-1]


def test_a_film_in_mass_and_calc_tables_is_one_image(tmp_path: Path) -> None:
    """Both tables count its abnormalities on, and its file is stored twice. A patient on both sides is told."""
    mass = [row(), row("P_00002", part="Training")]
    calc = [row(number=2, kind="calc", part="Test", pathology="MALIGNANT")]
    tree = write_tree(tmp_path / "tree", mass)
    (tree / "calc_case_description_test_set.csv").write_bytes(table(calc, "calc"))
    touch(tree, old_paths(calc[0]))
    found = cbis.index(str(tree))
    first, _ = found.records
    assert (first.label, first.columns["finding"], first.columns["split"]) == ("cancer", "calcification + mass", "both")
    assert [(mask.finding, mask.label) for mask in first.masks] == [("mass", "benign"), ("calcification", "cancer")]
    assert "Mass-Training_P_00001_LEFT_CC/" in first.path
    assert found.rejects == []
    assert found.notes[0].startswith("1 of 2 patients stand on both sides")
    assert found.notes[1].startswith("1 films are stored twice")
    assert found.notes[2].startswith("1 images have abnormalities of different pathology")
    Path(first.path).unlink()
    other = cbis.index(str(tree)).records[0]
    assert "Calc-Test_P_00001_LEFT_CC/" in other.path, "the other copy serves as well"
    assert (other.label, other.masks) == (first.label, first.masks)
    Path(first.path).touch()
    Path(first.path).with_name("1-9.dcm").touch()
    assert cbis.index(str(tree)).records[0].path == other.path
    Path(other.path).unlink()
    Path(first.path).unlink()
    Path(first.path).with_name("1-9.dcm").unlink()
    assert "rows 2, 2 of calc_case_description_test_set.csv: no DICOM" in reasons(cbis.index(str(tree)))


@pytest.mark.parametrize("paths", [old_paths, new_paths, flat_paths])
@pytest.mark.parametrize("above", ["", "manifest-ZkhPvrLo/CBIS-DDSM"])
def test_files_are_found_in_every_layout(tmp_path: Path, paths: Callable[[Row], dict[str, str]], above: str) -> None:
    films = [[row(), row(number=2)], [row("P_00002", side="RIGHT", view="MLO")]]
    for one in [*films[0], *films[1]]:
        touch(tmp_path / above, paths(one))
    (tmp_path / "renamed.csv").write_bytes(table([*films[0], *films[1]]))
    (tmp_path / "metadata.csv").write_text("Series UID,Collection\n1.2.3,CBIS-DDSM\n")
    found = cbis.index(str(tmp_path))
    assert found.rejects == []
    for record, rows in zip(found.records, films, strict=True):
        assert record.path == str(tmp_path / above / paths(rows[0])["image"])
        for mask, one in zip(record.masks, rows, strict=True):
            assert mask.paths == tuple(str(tmp_path / above / paths(one)[what]) for what in ("crop", "mask"))


def test_mask_and_crop_in_two_series_are_both_candidates(tmp_path: Path) -> None:
    one = row()
    series = one["cropped image file path"].split("/")[2]
    one["cropped image file path"] = one["cropped image file path"].replace(series, uid("another"))
    (record,) = cbis.index(str(write_tree(tmp_path / "tree", [one]))).records
    assert len({Path(path).parent.name for path in record.masks[0].paths}) == len(record.masks[0].paths) == 2


def test_an_extra_series_in_the_folder_of_an_image_is_told_from_it(tmp_path: Path) -> None:
    one = row()
    touch(tmp_path, new_paths(one))
    touch(tmp_path, {"extra": new_paths(one)["image"].replace("full mammogram", "cropped")})
    (tmp_path / "mass.csv").write_bytes(table([one]))
    (record,) = cbis.index(str(tmp_path)).records
    assert "full mammogram" in record.path


def test_reads_any_fsspec_file_system(tmp_path: Path) -> None:
    remote = fsspec.filesystem("memory")
    remote.put(str(write_tree(tmp_path / "tree", [row()], [row(number=2, kind="calc")])), "/cbis", recursive=True)
    found = cbis.index("memory://cbis")
    assert found.records[0].path.startswith("memory://")
    with fsspec.open(found.records[0].masks[1].paths[0]) as file:
        assert file.read() == b""


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("left or right breast", "DOE", "left or right breast is not one of LEFT, RIGHT"),
        ("image view", "ML", "image view is not one of CC, MLO"),
        ("breast_density", "5", "breast density is not one of 0, 1, 2, 3, 4"),
        ("abnormality type", "", "abnormality type is not one of MASS, CALCIFICATION"),
        ("assessment", "4a", "assessment is not one of 0, 1"),
        ("pathology", "UNPROVEN", "pathology is not one of BENIGN_WITHOUT_CALLBACK, BENIGN, MALIGNANT"),
        ("subtlety", "9", "subtlety is not one of 0, 1"),
        ("patient_id", "DOE^JANE", "patient id is not P_ and five digits"),
        ("patient_id", "P_00007", "image file path is of another patient id than its row"),
        ("abnormality id", "0", "abnormality id is not a number from 1 to 999"),
        ("abnormality id", "7", "cropped image file path is of another abnormality id than its row"),
        ("abnormality type", "calcification", "image file path is of another abnormality type than its row"),
        ("image file path", "../../etc/passwd", "image file path is not of the form {Mass,Calc}-{Training,Test}_"),
        ("image file path", "Mass-Training_P_00001_LEFT_CC/../1.2/000000.dcm", "is not of the form"),
        ("ROI mask file path", "/Mass-Training_P_00001_LEFT_CC_1/1.2/1.3/000000.dcm", "roi mask file path is not of"),
        ("image file path", row(part="Test")["image file path"], "is not of mass train, which the table's name says"),
    ],
)  # fmt: skip
def test_a_bad_row_costs_its_film_and_no_other(tmp_path: Path, column: str, value: str, message: str) -> None:
    """Not even the film's other rows are used: its label would be a guess."""
    rows = [row(number=2), row() | {column: value}, row("P_00002")]
    found = cbis.index(str(write_tree(tmp_path / "tree", [rows[0], row(), rows[2]])))
    assert len(found.records) == 2
    (tmp_path / "tree" / "mass_case_description_train_set.csv").write_bytes(table(rows))
    found = cbis.index(str(tmp_path / "tree"))
    assert [record.patient_id for record in found.records] == ["P_00002"]
    assert re.search(rf"^mass_case_description_train_set.csv: row 3: .*{re.escape(message)}", reasons(found), re.M)
    assert "row 2: row 3 of mass_case_description_train_set.csv may be about the same film" in reasons(found)
    assert not re.search(r"P_\d{5}|DOE", "".join(reject.reason for reject in found.rejects)), "reasons tell no patient"


def test_rows_that_disagree_cost_their_film(tmp_path: Path) -> None:
    shared = row("P_00005")
    foreign = row("P_00006")
    foreign["image file path"] = foreign["image file path"].replace(
        foreign["image file path"].split("/")[2], shared["image file path"].split("/")[2]
    )
    other_series = row("P_00004", number=2)
    other_series["image file path"] = other_series["image file path"].replace(
        other_series["image file path"].split("/")[2], uid("other")
    )
    rows = [
        row("P_00001"), row("P_00001"),  # the same row twice says nothing new
        row("P_00002"), row("P_00002", pathology="MALIGNANT"),
        row("P_00003"), row("P_00003", number=2, breast_density="4"),
        row("P_00004"), other_series,
        shared, foreign,
    ]  # fmt: skip
    found = cbis.index(str(write_tree(tmp_path / "tree", rows)))
    assert [record.patient_id for record in found.records] == ["P_00001"]
    assert len(found.records[0].masks) == 1
    for message in (
        "rows 4, 5: one abnormality id is described in two ways; the film is left out",
        "rows 6, 7: breast density is not the same",
        "rows 8, 9: image file path names two series in one folder",
        "row 10: image file path names a series that is another film's as well",
        "row 11: image file path names a series that is another film's as well",
    ):
        assert message in reasons(found)


def test_two_copies_of_a_table_count_once(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "tree", [row(), row(number=2)])
    (tree / "mass_case_description_train_set (1).csv").write_bytes(table([row(), row(number=2)]))
    found = cbis.index(str(tree))
    assert (len(found.records), len(found.records[0].masks), found.rejects) == (1, 2, [])


def test_files_and_rows_without_each_other_are_rejects(tmp_path: Path) -> None:
    rows = [row(f"P_0000{n}") for n in range(1, 5)]
    tree = write_tree(tmp_path / "tree", rows)
    folder = tree / "CBIS-DDSM"
    (folder / old_paths(rows[1])["image"]).unlink()
    (folder / old_paths(rows[2])["image"]).with_name("1-7.dcm").touch()
    for what in ("crop", "mask"):
        (folder / old_paths(rows[3])[what]).unlink()
    for number in range(300):
        touch(folder, old_paths(row(f"P_{number:05d}", part="Test")))
    touch(tree / "spam", {str(number): f"{number}/{number}.dcm" for number in range(50)})
    found = cbis.index(str(tree))
    assert [record.patient_id for record in found.records] == ["P_00001", "P_00004"]
    assert found.records[1].masks == ()
    assert len(found.rejects) == 5
    for message in (
        "mass_case_description_train_set.csv: row 3: no DICOM file of the image, neither",
        "1-1.dcm: 2 files for one image, the other",
        "mass_case_description_train_set.csv: row 5: no DICOM file of the mask",
        "Mass-Test_*: 900 .dcm files that no usable row of a table names",
        "spam: 50 .dcm files that no usable row of a table names",
    ):
        assert message in reasons(found)


def test_images_without_any_masks_are_one_line(tmp_path: Path) -> None:
    """The archive lets one fetch images without their masks."""
    tree = tmp_path / "tree"
    rows = [row(f"P_{number:05d}") for number in range(40)]
    for one in rows:
        touch(tree, {"image": old_paths(one)["image"]})
    (tree / "mass_case_description_train_set.csv").write_bytes(table(rows))
    found = cbis.index(str(tree))
    assert (len(found.records), len(found.rejects)) == (40, 1)
    assert "none of the masks of the 40 abnormalities is there" in found.rejects[0].reason


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda tree: None, "no such folder"),
        (lambda tree: tree.mkdir(), "no description table in it, such as mass_case_description_train_set.csv"),
        (lambda tree: write_tree(tree, []), "none of the 0 usable films"),
        (lambda tree: write_tree(tree, [row() | {"pathology": "?"}]), "the first of 2 reasons: .*: row 2: pathology"),
        (lambda tree: (write_tree(tree, []) / "mass_case_description_test_set.csv").write_text("a,b"), "no column"),
    ],
)  # fmt: skip
def test_a_source_that_is_none_is_one_sentence(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    make(tmp_path / "source")
    with pytest.raises(DataError, match=message):
        cbis.index(str(tmp_path / "source"))


@pytest.mark.real
def test_the_real_tables_join_to_3032_films_of_3103_files(real_data: Path, tmp_path: Path) -> None:
    """71 films are stored with their masses and with their calcifications; 31 patients are in training and test."""
    for path in sorted((real_data / "cbis-ddsm-csv").glob("*.csv")):
        (tmp_path / path.name).symlink_to(path)
        for one in parse_table(path.read_bytes(), str(path)).rows:
            for place, leaf in ((one.image, "1-1.dcm"), (one.crop, "1-1.dcm"), (one.mask, "1-2.dcm")):
                touch(tmp_path, {leaf: f"{place.folder}/1.2/{place.series}/{leaf}"})
    found = cbis.index(str(tmp_path))
    check_distinct(found.records)
    assert found.rejects == []
    assert (len(found.records), len({record.patient_id for record in found.records})) == (3032, 1566)
    assert sum(len(record.masks) for record in found.records) == 3568
    assert {len(mask.paths) for record in found.records for mask in record.masks} == {2}
    assert Counter(record.label for record in found.records) == {"benign": 1685, "cancer": 1347}
    assert Counter(record.columns["split"] for record in found.records) == {"train": 2391, "test": 612, "both": 29}
    for note, start in zip(
        found.notes,
        ("31 of 1566 patients stand on both sides", "71 films are stored twice", "39 images have abnormalities"),
        strict=True,
    ):
        assert note.startswith(start)
