import plistlib
import re
from collections import Counter
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.data.readers.inbreast import index
from diagram_ray.data.readers.inbreast_table import BIRADS, parse_table
from diagram_ray.data.readers.inbreast_xml import (
    Outline,
    check_scale,
    implied_spacing,
    parse_annotation,
    parse_point,
    regions,
)
from diagram_ray.data.records import Index, Reject
from diagram_ray.errors import DataError

HEADER = "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads"
ANN, EVE = "aaaaaaaaaaaaaaaa", "eeeeeeeeeeeeeeee"


def roi(points: list[str], name: object = "Mass", kind: int = 15, **more: object) -> dict[str, object]:
    return {"Name": name, "Type": kind, "Area": 0.0, "NumberOfPoints": len(points), "Point_px": points, **more}


def plist(*rois: object) -> bytes:
    return plistlib.dumps({"Images": [{"ImageIndex": 0, "NumberOfROIs": len(rois), "ROIs": list(rois)}]})


def square(left: float, top: float, side: float) -> list[str]:
    corners = ((left, top), (left + side, top), (left + side, top + side), (left, top + side))
    return [f"({x:f}, {y:f})" for x, y in corners]


def write_tree(
    root: Path, rows: list[str], images: list[str], xmls: dict[str, bytes] | None = None, header: str = HEADER
) -> Path:
    (root / "AllDICOMs").mkdir(parents=True)
    (root / "INbreast.csv").write_bytes("".join(f"{line}\r\n" for line in [header, *rows]).encode())
    for name in images:
        (root / "AllDICOMs" / name).touch()
    if xmls is not None:
        (root / "AllXML").mkdir()
        for name, data in xmls.items():
            (root / "AllXML" / name).write_bytes(data)
    return root


def two_images(tmp_path: Path, xmls: dict[str, bytes] | None = None) -> Index:
    rows = ["removed;removed;L;MLO;201001;101;2;4a", "removed;removed;R;CC;201001;102;2;1"]
    return index(
        str(write_tree(tmp_path / "tree", rows, [f"101_{ANN}_MG_L_ML_ANON.dcm", f"102_{EVE}_MG_R_CC_ANON.dcm"], xmls))
    )


def test_row_name_and_annotation_become_one_record(tmp_path: Path) -> None:
    found = two_images(tmp_path, {"101.xml": plist(roi(square(100, 200, 300), "  MASS "))})
    first, second = found.records
    assert (found.classes, found.name, found.rejects) == (("negative", "cancer"), "INbreast", [])
    assert (first.image_id, first.patient_id, first.exam_id) == ("101", ANN, f"{ANN}:201001")
    assert (first.laterality, first.view, first.label) == ("L", "MLO", "cancer")
    assert first.columns == {"birads": "4a", "density": "2", "finding": "mass"}
    assert [(region.box, region.finding, region.label) for region in first.regions] == [
        ((200.0, 100.0, 500.0, 400.0), "mass", "cancer")
    ]
    assert (second.label, second.regions, second.columns["finding"]) == ("negative", (), "none")
    assert Path(first.path).is_file()


def test_without_annotations_findings_are_unknown(tmp_path: Path) -> None:
    assert [record.columns["finding"] for record in two_images(tmp_path).records] == [None, None]


def test_short_header_takes_the_rest_from_the_name(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "t", ["7;3;2.0"], [f"7_{ANN}_MG_R_ML_ANON.dcm"], header="File Name;Bi-Rads;ACR")
    (record,) = index(str(tree)).records
    assert (record.laterality, record.view, record.label, record.exam_id) == ("R", "MLO", None, f"{ANN}:")
    assert (record.columns["birads"], record.columns["density"]) == ("3", "2")


def test_files_beside_the_table_and_other_cases_of_names(tmp_path: Path) -> None:
    (tmp_path / "inbreast.CSV").write_text("file name;BI-RADS\n7;6\n")
    (tmp_path / f"7_{ANN.upper()}_MG_R_FB_ANON.DCM").touch()
    (tmp_path / f"._7_{ANN}_MG_R_FB_ANON.dcm").touch()
    (tmp_path / "7.xml").write_bytes(plist())
    found = index(str(tmp_path))
    assert [(record.patient_id, record.view) for record in found.records] == [(ANN, "FB")]
    assert found.rejects == []


def test_reads_any_fsspec_file_system(tmp_path: Path) -> None:
    two_images(tmp_path, {"101.xml": plist(roi(square(100, 200, 300)))})
    remote = fsspec.filesystem("memory")
    remote.put(str(tmp_path / "tree"), "/inbreast", recursive=True)
    found = index("memory://inbreast")
    assert [record.image_id for record in found.records] == ["101", "102"]
    with fsspec.open(found.records[0].path) as file:
        assert file.read() == b""
    assert len(found.records[0].regions) == 1


def test_what_does_not_fit_together_is_rejected_with_a_reason(tmp_path: Path) -> None:
    rows = [
        "removed;removed;L;CC;201001;1;2;1",
        "removed;removed;L;CC;201001;2;2;1",  # no file
        "removed;removed;L;CC;201001;3;2;1",  # the file says R
        "removed;removed;L;CC;201001;4;2;1",  # twice in the table
        "removed;removed;L;CC;201001;4;2;5",
        "removed;removed;L;CC;201001;5;2;1",  # two files
        "removed;removed;L;CC;201001;6;2;0",
        "removed;removed;L;CC;201001;7;9;1",
        "removed;removed;X;CC;201001;8;2;1",
        "removed;removed;L;CC;201001;none;2;1",
        ";;;;;;28;49",
    ]
    names = [f"{n}_{ANN}_MG_L_CC_ANON.dcm" for n in (1, 4, 5, 9)]
    names += [f"3_{ANN}_MG_R_CC_ANON.dcm", f"5_{EVE}_MG_L_CC_ANON.dcm", "IM0001.dcm"]
    found = index(str(write_tree(tmp_path / "t", rows, names, {"77.xml": plist()})))
    assert [record.image_id for record in found.records] == ["1"]
    reasons = "\n".join(reject.reason for reject in found.rejects)
    for pattern in (
        "row 3: no DICOM file of image 2",
        "file name says R, row 4 of the table says L",
        "rows 5, 6 are all about image 4",
        "2 files have the id 5",
        "row 8: Bi-Rads of image 6 is not one of 1, 2, 3, 4",
        "row 9: ACR of image 7",
        "row 10: Laterality of image 8 is not one of L, R",
        "row 11: File Name does not begin with a number",
        "no usable row of image 9",
        "not of the form <file id>",
        "an annotation of an image that is not there",
    ):
        assert re.search(pattern, reasons), pattern
    assert "row 12" not in reasons


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "no INbreast.csv"),
        (lambda root: (root / "AllDICOMs").mkdir(parents=True), "no INbreast.csv"),
        (lambda root: write_tree(root, ["removed;removed;L;CC;201001;1;2;1"], []), "none of the 1 images"),
        (lambda root: write_tree(root, [], [], header="a;b"), "no column 'file name'"),
        (lambda root: write_tree(root, [], [], header=""), "no column 'file name'"),
        (lambda root: (write_tree(root, [], []) / "INbreast.csv").write_bytes(b""), "not a table"),
    ],
)
def test_a_source_that_is_none_is_one_sentence(tmp_path: Path, make: object, message: str) -> None:
    make(tmp_path / "source")  # type: ignore[operator]
    with pytest.raises(DataError, match=message):
        index(str(tmp_path / "source"))


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">
<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;"><!ENTITY d "&c;&c;&c;&c;&c;&c;&c;&c;&c;&c;">]>
<plist version="1.0"><dict><key>Images</key><string>&d;</string></dict></plist>"""
WHOLE = plist(roi(square(10, 10, 50)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (LAUGHS, "not an XML property list"),
        (WHOLE[: len(WHOLE) // 2], "not an XML property list"),
        (b"", "not an XML property list"),
        (b"bplist00\x00\xff" * 9, "not an XML property list"),
        (plistlib.dumps({"Images": 1}, fmt=plistlib.FMT_BINARY), "not an XML property list"),
        (b"<plist>" + b"<array>" * 20_000, "not an XML property list"),
        (b"<plist><date>yesterday</date></plist>", "not an XML property list"),
        (b"<plist><integer>" + b"9" * 10_000 + b"</integer></plist>", "not an XML property list"),
        (plistlib.dumps([]), "no list 'Images'"),
        (plistlib.dumps({"Images": [{}]}), "no list 'ROIs'"),
        (plist(*[roi(["(1, 1)"])] * 2001), "more than 2000 ROIs"),
        (b" " * ((8 << 20) + 1), "bytes"),
        (plist(roi(["(90000, 1)"])), None),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else str(value),
)
def test_a_hostile_annotation_costs_its_regions_only(tmp_path: Path, data: bytes, reason: str | None) -> None:
    found = two_images(tmp_path, {"101.xml": data})
    assert len(found.records) == 2
    if reason:
        assert (found.records[0].regions, found.records[0].columns["finding"]) == ((), None)
        (reject,) = found.rejects
        assert reject.path.endswith("101.xml")
        assert re.search(reason, reject.reason)
        assert len(reject.reason) < 300


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (roi(["(1, 2, 3)"]), "point of 9 characters is not of the form"),
        (roi(["(nan, 2)"]), "not of the form"),
        (roi([]), "no points"),
        (roi(["(1, 2)"], NumberOfPoints=5), "NumberOfPoints is 5, but 1 points follow"),
        (roi(["(1, 2)"], kind=13), "Type 13"),
        (roi(["(1, 2)"], Area="big"), "Area of 3 characters is not a number"),
        (roi(["(1e9, 2)"]), "farther than"),
        (roi([7]), "point 7"),  # type: ignore[list-item]
        ("text", "not a dictionary"),
    ],
)
def test_one_bad_roi_does_not_cost_the_others(bad: object, problem: str) -> None:
    annotation = parse_annotation(plist(bad, roi(["(5, 6)", "(7, 8)"], "Point 1")))
    assert [outline.finding for outline in annotation.outlines] == ["unnamed"]
    assert len(annotation.problems) == 1
    assert annotation.problems[0].startswith("ROI 1: ")
    assert problem in annotation.problems[0]


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5), st.sampled_from(["({x}, {y})", " ( {x},{y} )\n", "({x:e} , {y:e})"]))
def test_points_are_read_as_written(x: float, y: float, form: str) -> None:
    assert parse_point(form.format(x=x, y=y)) == pytest.approx((x, y), rel=1e-6)


@given(st.one_of(st.text("()0123456789.,-+einfa ", max_size=24), st.text(max_size=12), st.none(), st.integers()))
def test_any_other_point_is_refused_or_finite(text: object) -> None:
    try:
        x, y = parse_point(text)
    except DataError:
        return
    assert np.isfinite([x, y]).all()
    assert max(abs(x), abs(y)) <= 1e5


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_refused(data: bytes) -> None:
    rejects: list[Reject] = []
    try:
        rows = parse_table(b"File Name;Bi-Rads;ACR;Laterality\n" + data, "t.csv", rejects)
    except DataError:
        return
    assert all(row.birads in BIRADS for row in rows.values())


def outline(finding: str, *points: tuple[float, float], area: float = 0.0) -> Outline:
    return Outline(finding, np.array(points, dtype=np.float64), area)


def test_specks_become_groups_of_one_centimetre() -> None:
    line = [outline("calcification", (x, 500.0)) for x in np.arange(500.0, 2500.0, 40.0)]
    found = regions((*line, outline("mass", (100, 100), (300, 400))), "negative", 0.07, (3328, 2560))
    assert found[0].finding == "mass"
    groups = found[1:]
    assert 13 <= len(groups) <= 25
    centimetre = 10 / 0.07
    for region in groups:
        top, left, bottom, right = region.box
        assert bottom - top == pytest.approx(centimetre)
        assert centimetre - 1e-6 <= right - left <= centimetre + 1
    assert all(any(r.box[1] <= o.points[0, 0] <= r.box[3] for r in groups) for o in line)


def test_regions_stay_within_the_image() -> None:
    (region,) = regions((outline("calcification", (2.0, 98.0)),), None, 0.5, (100, 80))
    assert region.box == (88.0, 0.0, 100.0, 12.0)
    with pytest.raises(DataError, match="outside of the image"):
        regions((outline("mass", (200.0, 10.0)),), None, 0.5, (100, 80))


def test_areas_that_contradict_the_pixel_size_are_noticed(tmp_path: Path) -> None:
    big = outline("mass", (0, 0), (100, 0), (100, 100), (0, 100), area=0.49)
    assert implied_spacing((big,)) == pytest.approx(0.07)
    check_scale((big,), 0.07)
    check_scale((big,), 0.075)
    with pytest.raises(DataError, match=r"fit pixels of 0\.070 mm, but the image has 0\.140 mm"):
        check_scale((big,), 0.14)
    found = two_images(tmp_path, {"101.xml": plist(roi(square(0, 0, 100), Area=2.0))})
    assert "annotation is not used: its areas" in found.rejects[0].reason


def test_names_are_mapped() -> None:
    names = ["Espiculated  Region", "Assymetry", "CALCIFICATIONS ", "cluster", "Distortion", "", 5]
    annotation = parse_annotation(plist(*[roi(["(1, 1)"], name) for name in names]))
    assert [one.finding for one in annotation.outlines] == [
        "spiculated region", "asymmetry", "calcification", "cluster", "distortion", "unnamed", "unnamed",
    ]  # fmt: skip


@pytest.mark.real
def test_real_outlines(real_data: Path) -> None:
    folder = real_data / "inbreast" / "AllXML"
    mass = parse_annotation((folder / "20588680.xml").read_bytes())
    assert [(one.finding, one.points.shape) for one in mass.outlines] == [("mass", (206, 2))]
    assert mass.outlines[0].area_cm2 == pytest.approx(21.83, abs=0.01)
    assert implied_spacing(mass.outlines) == pytest.approx(0.07, rel=1e-3)
    specks = parse_annotation((folder / "22579754.xml").read_bytes())
    assert [len(one.points) for one in specks.outlines] == [1, 1, 1, 1, 1, 6]
    assert {one.finding for one in specks.outlines} == {"calcification"}
    assert (mass.problems, specks.problems) == ((), ())


@pytest.mark.real
def test_real_table(real_data: Path, tmp_path: Path) -> None:
    """The real table and outlines with empty files in place of the images, named as the real ones."""
    source = real_data / "inbreast"
    lines = (source / "INbreast.csv").read_text().splitlines()[1:]
    cells = [line.split(";") for line in lines]
    names = [f"{c[5].strip()}_{int(c[5]):016x}_MG_{c[2]}_{c[3].replace('MLO', 'ML')}_ANON.dcm" for c in cells]
    xmls = {path.name: path.read_bytes() for path in (source / "AllXML").glob("*.xml")}
    found = index(str(write_tree(tmp_path / "t", lines, names, xmls)))
    assert found.rejects == []
    assert len(found.records) == 410
    assert Counter(record.label for record in found.records) == {"negative": 287, "cancer": 100, None: 23}
    assert Counter(record.view for record in found.records) == {"CC": 203, "MLO": 206, "FB": 1}
    densities = Counter(record.columns["density"] for record in found.records)
    assert densities == {"1": 136, "2": 146, "3": 99, "4": 28, None: 1}
    by_id = {record.image_id: record for record in found.records}
    assert by_id["53582540"].columns["density"] is None
    assert [region.label for region in by_id["20588680"].regions] == [None]
    assert 1 < len(by_id["22579754"].regions) <= 6


@pytest.mark.real
def test_real_spreadsheet_saved_as_csv(real_data: Path) -> None:
    rejects: list[Reject] = []
    rows = parse_table((real_data / "inbreast" / "INbreast_xls_Sheet1.csv").read_bytes(), "sheet", rejects)
    assert (len(rows), rejects) == (410, [])
    assert Counter(row.birads for row in rows.values())["3"] == 23
