"""INbreast.xls: the same rows as the CSV, from Sheet1 alone, and no damage that does more than refuse the file."""

import csv
import io
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import xlrd

from diagram_ray.data.readers.inbreast import index
from diagram_ray.data.readers.inbreast_table import parse_table
from diagram_ray.data.readers.inbreast_xls import is_spreadsheet, read_sheet
from diagram_ray.data.records import Reject
from diagram_ray.errors import DataError
from tests.support.sources.xls_files import Cell, workbook

HEADER: list[Cell] = [
    "Patient ID", "Patient age", "Laterality", "View", "Acquisition date", "File Name", "ACR", "Bi-Rads",
    "Mass ", "Micros", "Distortion", "Asymmetry", "Findings Notes (in Portuguese)",
]  # fmt: skip
ANN, EVE = "aaaaaaaaaaaaaaaa", "eeeeeeeeeeeeeeee"
ROWS: list[list[Cell]] = [
    HEADER,
    ["removed", "removed", "R", "CC", 201001.0, 22678622.0, 4.0, 1.0, None, None, None, None, "normal"],
    ["removed", "removed", "L", "MLO", 201001.0, 22678646.0, "4", "4a", "X", "X", None, None, "nódulo"],
    ["removed", "removed", "L", "FB", "200802", "24055779", " " * 190, 3.0, None, None, "x", None, None],
    ["removed", "removed", "R", "CC", 200802.0, 24055806.0, 2.0, "6", None, None, None, "X", None],
    [None] * 13,
    [None, None, None, None, None, None, 28.0, 49.0, 108.0, 308.0, 3.0, 14.0],
]
SECRET: list[list[Cell]] = [["Patient number", "Age", "Date"], ["Doe-4711", 52.0, "1943-11-07"]]


def tree(root: Path, table: bytes, name: str = "INbreast.xls") -> Path:
    (root / "AllDICOMs").mkdir(parents=True)
    (root / name).write_bytes(table)
    for image in (
        f"22678622_{ANN}_MG_R_CC_ANON.dcm", f"22678646_{ANN}_MG_L_ML_ANON.dcm", f"24055779_{EVE}_MG_L_FB_ANON.dcm",
        f"24055806_{ANN}_MG_R_CC_ANON.dcm",
    ):  # fmt: skip
        (root / "AllDICOMs" / image).touch()
    return root


@pytest.mark.parametrize("contained", [True, False])
def test_the_spreadsheet_is_read(tmp_path: Path, contained: bool) -> None:
    data = workbook({"Sheet1": ROWS, "Sheet2": SECRET}, contained)
    assert is_spreadsheet(data)
    found = index(str(tree(tmp_path / "t", data)))
    assert found.rejects == []
    told = [(r.image_id, r.patient_id, r.laterality, r.view, r.label, *r.columns.values()) for r in found.records]
    assert told == [
        ("22678622", ANN, "R", "CC", "negative", "1", "4", "none"),
        ("22678646", ANN, "L", "MLO", "cancer", "4a", "4", "calcification + mass"),
        ("24055779", EVE, "L", "FB", None, "3", None, "distortion"),
        ("24055806", ANN, "R", "CC", "cancer", "6", "2", "asymmetry"),
    ]
    exams = [record.exam_id for record in found.records]
    assert exams == [f"{ANN}:201001", f"{ANN}:201001", f"{EVE}:200802", f"{ANN}:200802"], "one patient, two exams"


@pytest.mark.parametrize("order", [("Sheet1", "Sheet2"), ("Sheet2", "Sheet1")])
def test_the_second_sheet_is_never_read(monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]) -> None:
    """It has personal data. xlrd gives out sheets one by one; only one is asked for, whatever their order."""
    asked = []
    load = xlrd.book.Book.get_sheet

    def spy(book: xlrd.book.Book, number: int, *rest: object) -> object:
        asked.append(book.sheet_names()[number])
        return load(book, number, *rest)

    monkeypatch.setattr(xlrd.book.Book, "get_sheet", spy)
    sheets = {"Sheet1": ROWS, "Sheet2": SECRET}
    cells = read_sheet(workbook({name: sheets[name] for name in order}), "t.xls")
    assert asked == ["Sheet1"]
    assert "Doe" not in repr(cells)
    assert read_sheet(workbook({"Tabelle1": ROWS, "Sheet2": SECRET}), "t.xls") == cells


def test_the_csv_comes_first_and_xlsx_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", b"File Name;Bi-Rads\n22678622;2\n", "INbreast.csv")
    (root / "INbreast.xls").write_bytes(b"nonsense")
    assert [record.columns["birads"] for record in index(str(root)).records] == ["2"]
    (root / "INbreast.csv").unlink()
    with pytest.raises(DataError, match=r"INbreast\.xls: no column 'file name'"):
        index(str(root))
    (root / "INbreast.xls").rename(root / "INbreast.xlsx")
    with pytest.raises(DataError, match=r"xlsx is not read; save its first sheet beside it as INbreast\.csv"):
        index(str(root))


def test_damaged_spreadsheets_are_read_or_refused(capfd: pytest.CaptureFixture[str]) -> None:
    choose = random.Random(0)
    refused = 0
    for whole in (workbook({"Sheet1": ROWS, "Sheet2": SECRET}), workbook({"Sheet1": ROWS}, contained=False)):
        for _ in range(200):
            damaged = bytearray(whole)
            for _ in range(choose.choice([1, 1, 3])):
                at = choose.randrange(8, choose.choice([700, len(damaged)]))
                damaged[at : at + choose.choice([0, 1, 4, 50])] = choose.choice(
                    [b"\xff", b"\0", b"", b"\xff\xff\xff\x7f", b"\x06\0", bytes([choose.randrange(256)])]
                )
            rejects: list[Reject] = []
            try:
                parse_table(bytes(damaged), "t.xls", rejects)
            except DataError as error:
                refused += 1
                rejects = [Reject("t.xls", str(error))]
            assert all(len(reject.reason) < 120 for reject in rejects)
    assert refused > 100
    assert capfd.readouterr() == ("", "")


def test_what_xlrd_has_to_say_goes_nowhere(tmp_path: Path) -> None:
    """Left alone, it writes to standard output, where --json is."""
    odd = bytearray(workbook({"Sheet1": ROWS}))
    odd[60:68] = bytes([0, 0, 0, 0, 1, 0, 0, 0])  # a table of small pieces that there are none of
    said = io.StringIO()
    xlrd.open_workbook(file_contents=bytes(odd), logfile=said)
    assert "WARNING" in said.getvalue()
    (tmp_path / "odd.xls").write_bytes(odd)
    script = "import sys; from diagram_ray.data.readers.inbreast_xls import read_sheet\n"
    script += "sys.exit(len(read_sheet(open(sys.argv[1], 'rb').read(), 't.xls')))"
    command = [sys.executable, "-c", script, str(tmp_path / "odd.xls")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (len(ROWS), "", "")


def test_a_spreadsheet_of_too_many_rows() -> None:
    rows: list[list[Cell]] = [["File Name", "Bi-Rads"], *([float(n), 1.0] for n in range(10_001))]
    with pytest.raises(DataError, match="has 10002 rows; at most 10000"):
        read_sheet(workbook({"Sheet1": rows}), "t.xls")


@pytest.mark.real
def test_the_real_sheet_as_a_spreadsheet(real_data: Path, tmp_path: Path) -> None:
    """Sheet1 of the real file, numbers as numbers, written as the spreadsheet that it was."""
    with (real_data / "inbreast" / "INbreast_xls_Sheet1.csv").open(newline="") as file:
        cells = list(csv.reader(file))
    assert cells[0][8] == "Mass "
    rows: list[list[Cell]] = [[float(cell) if cell.isdigit() else cell or None for cell in row] for row in cells]
    root = tmp_path / "t"
    (root / "AllDICOMs").mkdir(parents=True)
    (root / "INbreast.xls").write_bytes(workbook({"Sheet1": rows, "Sheet2": SECRET}))
    for row in cells[1:]:
        if row[2]:
            name = f"{row[5]}_{int(row[5]):016x}_MG_{row[2]}_{row[3].replace('MLO', 'ML')}_ANON.dcm"
            (root / "AllDICOMs" / name).touch()
    found = index(str(root))
    assert found.rejects == []
    assert Counter(record.label for record in found.records) == {"negative": 287, "cancer": 100, None: 23}
    masses = Counter(r.columns["birads"] for r in found.records if "mass" in str(r.columns["finding"]))
    assert masses == {"5": 43, "2": 24, "3": 13, "4c": 11, "6": 8, "4a": 7, "4b": 2}
    marks = Counter(word for r in found.records for word in str(r.columns["finding"]).split(" + "))
    assert (marks["mass"], marks["calcification"], marks["distortion"], marks["asymmetry"]) == (108, 308, 3, 14)
