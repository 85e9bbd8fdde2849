"""The tables of INbreast, CBIS-DDSM and mini-MIAS, and the files that they name."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.fuzz.handmade.registry import NO_FILES, add, handmade, no_file, sparse
from tests.fuzz.handmade.tables import PATHS
from tests.fuzz.seeds import breast, pgm
from tests.fuzz.spreadsheet import container, stream, workbook


def _inbreast(folder: Path, **files: bytes) -> None:
    for name in ("AllDICOMs", "AllXML"):
        (folder / name).mkdir()
    for name, data in files.items():
        (folder / name.replace("_", ".", 1)).write_bytes(data)


def _add_inbreast(name: str, **files: Callable[[], bytes]) -> None:
    add("inbreast", name, lambda folder: _inbreast(folder, **{file: data() for file, data in files.items()}))


_INBREAST = b"Laterality;View;File Name;ACR;Bi-Rads\r\n"
_ROW = ["L", "CC", 20588680.0, 2.0, "4a"]
_HEAD = ["Laterality", "View", "File Name", "ACR", "Bi-Rads"]


def _chain(change: Callable[[bytearray], None]) -> bytes:
    data = bytearray(workbook([[*_HEAD], _ROW] * 200))
    change(data)
    return bytes(data)


def _fat(data: bytearray, value: int, number: int) -> None:
    data[512 + 4 * number : 516 + 4 * number] = struct.pack("<I", value)


_add_inbreast("csv-long", INbreast_csv=lambda: _INBREAST + b"x" * 20_000_000)
_add_inbreast("csv-field", INbreast_csv=lambda: _INBREAST + b"L;CC;2;2;" + b"4" * 10_000_000)
_add_inbreast("csv-quote", INbreast_csv=lambda: _INBREAST + b'"L;CC;2;2;4a\r\n' * 100_000)
_add_inbreast("csv-nul", INbreast_csv=lambda: _INBREAST + b"\0" * 1_000_000)
_add_inbreast("csv-columns", INbreast_csv=lambda: b"File Name;Bi-Rads;" + b"x;" * 5_000_000)
_add_inbreast("csv-rows", INbreast_csv=lambda: _INBREAST + b"L;CC;20588680;2;4a\r\n" * 800_000)
_add_inbreast(
    "csv-many-images",
    INbreast_csv=lambda: _INBREAST + b"".join(b"L;CC;%d;2;4a\r\n" % number for number in range(700_000)),
)
_add_inbreast("csv-bad-rows", INbreast_csv=lambda: _INBREAST + b"L;CC;x;2;4a\r\n" * 1_000_000)
_add_inbreast("xls-fat-loop", INbreast_xls=lambda: _chain(lambda data: _fat(data, 2, 2)))
_add_inbreast("xls-fat-far", INbreast_xls=lambda: _chain(lambda data: _fat(data, 0x7FFFFFFF, 2)))
_add_inbreast("xls-fat-short", INbreast_xls=lambda: _chain(lambda data: _fat(data, 0xFFFFFFFE, 2)))
_add_inbreast("xls-fat-of-itself", INbreast_xls=lambda: _chain(lambda data: _fat(data, 0, 0)))
_add_inbreast(
    "xls-huge-fat", INbreast_xls=lambda: _chain(lambda data: data.__setitem__(slice(44, 48), b"\xff\xff\xff\x7f"))
)
_add_inbreast(
    "xls-more-fat",
    INbreast_xls=lambda: _chain(lambda data: data.__setitem__(slice(68, 76), struct.pack("<II", 0, 2**31 - 1))),
)
_add_inbreast("xls-sector-size", INbreast_xls=lambda: _chain(lambda data: data.__setitem__(slice(30, 32), b"\x3f\0")))
_add_inbreast("xls-small-sectors", INbreast_xls=lambda: _chain(lambda data: data.__setitem__(slice(32, 34), b"\x1f\0")))
_add_inbreast(
    "xls-stream-size",
    INbreast_xls=lambda: _chain(
        lambda data: data.__setitem__(slice(1024 + 128 + 120, 1024 + 128 + 124), b"\xff\xff\xff\x7f")
    ),
)
_add_inbreast("xls-folder-loop", INbreast_xls=lambda: _chain(lambda data: _fat(data, 1, 1)))
_add_inbreast("xls-rows", INbreast_xls=lambda: workbook([[*_HEAD], *[_ROW] * 800]))
_add_inbreast("xls-row-numbers", INbreast_xls=lambda: _far_cells(65_535, 255))
_add_inbreast("xls-bare-endless", INbreast_xls=lambda: stream([[*_HEAD], _ROW]) * 2000)
_add_inbreast("xls-one-record", INbreast_xls=lambda: stream([])[:20] + b"\x3c\0\xff\xff" + bytes(10_000_000))
_add_inbreast("xls-strings", INbreast_xls=lambda: _shared_strings())
_add_inbreast("xls-empty-container", INbreast_xls=lambda: container(b""))
_add_inbreast("xls-zip", INbreast_xls=lambda: b"PK\3\4" + bytes(1000))
_add_inbreast("xls-of-100-mb", INbreast_xls=lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100_000_000))


def _far_cells(row: int, column: int) -> bytes:
    """One cell in each of many rows, in their last column."""
    rows: list[list[str | float]] = [[*_HEAD], _ROW]
    data = stream(rows)
    cells = b"".join(struct.pack("<HHHHHd", 0x0203, 14, number, column, 0, 1.0) for number in range(2, row, 1))
    return data[:-4] + cells + data[-4:]


def _shared_strings() -> bytes:
    """A table of strings that says it has four billion."""
    data = stream([[*_HEAD], _ROW])
    place = data.index(b"\x85\0") - 0
    return data[:place] + struct.pack("<HHII", 0x00FC, 8, 2**32 - 1, 2**32 - 1) + data[place:]


_CBIS = (
    "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,mass shape,mass margins,"
    "assessment,pathology,subtlety,image file path,cropped image file path,ROI mask file path\n"
)


def _cbis_row(number: int = 1, **changed: str) -> str:
    patient = f"P_{number:05d}"
    folder = f"Mass-Training_{patient}_LEFT_CC"
    cells = {
        "patient": patient, "image": f"{folder}/1.2/1.3.{number}/000000.dcm", "crop": f"{folder}_1/1.2/1.4.{number}/000000.dcm",
        "mask": f"{folder}_1/1.2/1.4.{number}/000001.dcm",
    } | changed  # fmt: skip
    return f"{cells['patient']},2,LEFT,CC,1,mass,OVAL,NA,4,BENIGN,3,{cells['image']},{cells['crop']},{cells['mask']}\n"


def _cbis(folder: Path, rows: str) -> None:
    (folder / "mass_case_description_train_set.csv").write_text(_CBIS + rows, errors="surrogateescape")
    inside = folder / "Mass-Training_P_00001_LEFT_CC" / "1.2" / "1.3.1"
    inside.mkdir(parents=True)
    (inside / "1-1.dcm").write_bytes(pgm(breast()))


for _number, _path in enumerate(PATHS):
    for _place in ("image", "mask"):
        add("cbis", f"{_place}-path-{_number}", lambda folder, path=_path, place=_place: _cbis(
            folder, _cbis_row() + _cbis_row(2, **{place: '"' + path.replace("\0", "") + '"'})))  # fmt: skip
add("cbis", "many-rows", lambda folder: _cbis(folder, "".join(_cbis_row(number % 99_999) for number in range(60_000))))
add("cbis", "same-rows", lambda folder: _cbis(folder, _cbis_row() * 60_000))
add("cbis", "bad-rows", lambda folder: _cbis(folder, _cbis_row(1) + "P_1,2\n" * 1_000_000))
add("cbis", "quote", lambda folder: _cbis(folder, _cbis_row() + '"' + "x,\n" * 1_000_000))
add("cbis", "field", lambda folder: _cbis(folder, _cbis_row(2, image="x" * 10_000_000)))
add("cbis", "columns", lambda folder: _cbis(folder, _cbis_row() + "," * 10_000_000))
add("cbis", "nuls", lambda folder: _cbis(folder, _cbis_row() + "\0" * 1_000_000))


@handmade("cbis")
def many_tables(folder: Path) -> None:
    for number in range(300):
        (folder / f"mass_case_description_train_set{number}.csv").write_text(_CBIS + _cbis_row())


@handmade("cbis")
def sparse_tables(folder: Path) -> None:
    for number in range(40):
        sparse(folder / f"{number}.csv", 2**34, _CBIS.encode())


def _cbis_masks(kind: str) -> Callable[[Path], None]:
    """A good image, and a mask that is none."""

    def case(folder: Path) -> None:
        from tests.support.sources.dicom_files import as_bytes, dicom

        _cbis(folder, _cbis_row())
        (folder / "Mass-Training_P_00001_LEFT_CC" / "1.2" / "1.3.1" / "1-1.dcm").write_bytes(as_bytes(dicom(breast())))
        inside = folder / "Mass-Training_P_00001_LEFT_CC_1" / "1.2" / "1.4.1"
        inside.mkdir(parents=True)
        mask = np.zeros(breast().shape, np.uint8)
        mask[20:30, 5:15] = 255
        if kind == "many":
            for number in range(50):
                (inside / f"1-{number}.dcm").write_bytes(as_bytes(dicom(mask, 8)))
        elif kind == "good":
            (inside / "1-1.dcm").write_bytes(as_bytes(dicom(mask, 8)))
        else:
            no_file(inside / "1-1.dcm", kind)

    return case


for _kind in ("good", "many", *NO_FILES):
    add("cbis", f"mask-{_kind.strip('/').replace('/', '-').replace(' ', '-')}", _cbis_masks(_kind))


def _mias(folder: Path, table: bytes) -> None:
    for number in (1, 2):
        (folder / f"mdb{number:03d}.pgm").write_bytes(pgm(np.pad(breast(), ((0, 0), (0, 64 - 49)))))
    (folder / "Info.txt").write_bytes(table)


_LINE = b"mdb001 G CIRC B 300 500 90\n"
for _name, _data in (
    ("many-lines", _LINE * 40_000), ("one-line", _LINE[:-1] * 40_000), ("long-line", b"mdb001 G CIRC" + b" " * 1_000_000), ("nul", bytes(10**6)),
    ("huge-numbers", b"mdb001 G CIRC B " + b"9" * 5000 + b" 1 1\n"), ("far", b"mdb001 G CIRC B 99999 99999 9999999\nmdb002 G CIRC M 1 1 0\n"),
    ("long", _LINE + b"\n" * 5_000_000), ("digits", b"mdb\xd9\xa3\xd9\xa3\xd9\xa3 G CIRC B 1 2 3\n" + _LINE), ("utf-16", _LINE.decode().encode("utf-16")),
    ("no-lines", b""), ("far-inside", b"mdb001 G CIRC B 1023 1023 1\nmdb002 F NORM\n"), ("lines-of-others", _LINE.replace(b"001", b"002") + b"\x0b\x0c\x1c\x85" * 9),
):  # fmt: skip
    add("mias", _name, lambda folder, data=_data: _mias(folder, data))


def _mias_with(kind: str, name: str) -> Callable[[Path], None]:
    def case(folder: Path) -> None:
        _mias(folder, _LINE + b"mdb002 F NORM\n")
        no_file(folder / name, kind)

    return case


for _kind in NO_FILES:
    for _file in ("Info.txt", "mdb001.pgm"):
        add("mias", f"{_file}-is-{_kind.strip('/').replace('/', '-').replace(' ', '-')}", _mias_with(_kind, _file))


@handmade("mias")
def sparse_table_of_mias(folder: Path) -> None:
    _mias(folder, b"")
    sparse(folder / "Info.txt", 2**40, _LINE)


@handmade("mias")
def huge_pictures(folder: Path) -> None:
    _mias(folder, _LINE)
    (folder / "mdb001.pgm").write_bytes(b"P5\n60000 60000\n255\n" + bytes(1000))
