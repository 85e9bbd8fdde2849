"""Names, dates and ids are planted wherever a DICOM file or a table can hold them; nothing that prepare writes has one.

Every tag of DICOM's dictionary is filled, in sequences too, and private tags, the file meta information and the
preamble. What is searched: every byte of the datasets, the cells of their Parquet files, standard output and error, and
all logs of Ray.
"""

import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DigitalMammographyXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.support.repository import ROOT

WORD = re.compile(rb"QZ\d{6}XW|Q\0Z\0(?:\d\0){6}X\0W\0", re.IGNORECASE)
"""What every planted text, id and patient's key has in it; in UTF-16 as well."""
DATE, TIME, NUMBER = "18431107", "014327.815926", "-815926535"
REAL, UID, HEX = 8159265.358979, "2.25.81592653589793238462643", "815926535897932e"
PLAIN = (DATE, "1843-11-07", "07.11.1843", TIME, NUMBER[1:], "8159265.35", UID, HEX, HEX.upper(), "3815926535")
KEPT = {
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel",
    "PhotometricInterpretation", "NumberOfFrames", "PixelData", "FloatPixelData", "DoubleFloatPixelData",
    "SOPClassUID", "SharedFunctionalGroupsSequence", "SpecificCharacterSet",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction",
    "ExtendedOffsetTable", "ExtendedOffsetTableLengths",
}  # fmt: skip
"""What a file must have right, or must not have, to be read. All else is planted, what prepare looks at included."""


def word(number: int) -> str:
    return f"QZ{number:06d}XW"


def secret(vr: str, tag: int, number: int) -> object:
    """A value for a tag of this kind; None for kinds that can tell nobody."""
    texts = dict.fromkeys(("AE", "CS", "SH", "LO", "PN", "ST", "LT", "UT", "UC", "UR"), word(number))
    numbers = {"IS": NUMBER, "DS": NUMBER, "FL": REAL, "FD": REAL, "UL": 3815926535, "SL": -815926535}
    numbers |= {"SV": -815926535, "UV": 3815926535, "US": 48159, "SS": -8159}
    others: dict[str, object] = {"DA": DATE, "TM": TIME, "DT": DATE + TIME, "AS": "077Y", "UI": UID}
    others |= dict.fromkeys(("OB", "UN", "OW", "OD", "OF", "OL", "OV"), (word(number) * 4).encode())
    return (texts | numbers | others).get(vr)


def plant(dataset: Dataset, depth: int = 2) -> int:
    """Fills every tag of the dictionary that is free; returns how many."""
    count = 0
    for number, (tag, (vr, _, _, _, keyword)) in enumerate(DicomDictionary.items()):
        group = tag >> 16
        if keyword in KEPT or group in (0x0000, 0x0002, 0xFFFE) or tag & 0xFFFF == 0 or tag in dataset:
            continue
        if vr == "SQ" and depth:
            item = Dataset()
            item.PatientName, item.PatientID = word(number), word(number)
            item.add(DataElement(0x00291001, "LO", word(number)))
            dataset.add(DataElement(tag, "SQ", Sequence([item])))
        elif (value := secret(vr, tag, number)) is not None:
            dataset.add(DataElement(tag, vr, value, validation_mode=pydicom.config.IGNORE))
        count += 1
    return count


def private(dataset: Dataset) -> None:
    for group in (0x0009, 0x0019, 0x0029, 0x0051):
        block = dataset.private_block(group, word(900_000 + group), create=True)
        inner = Dataset()
        inner.PatientName = word(910_000 + group)
        for offset, vr in enumerate(("LO", "PN", "DA", "UN", "IS", "UT")):
            block.add_new(offset, vr, secret(vr, 0, 920_000 + 10 * group + offset))
        block.add_new(0x20, "SQ", [inner])


def film(number: int) -> np.ndarray:
    y, x = np.mgrid[:260, :190]
    noise = np.random.default_rng(number).normal(2000, 300, y.shape)
    return np.where(((y - 130) / 100) ** 2 + (x / 120) ** 2 < 1, noise, 50).clip(0, 4095).astype(np.uint16)


def write_dicom(path: Path, number: int, **changes: object) -> None:
    """A mammogram with a secret in every other place."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.ImplementationVersionName = word(930_001)
    header.file_meta.SourceApplicationEntityTitle = word(930_002)
    header.file_meta.PrivateInformationCreatorUID = UID
    header.file_meta.PrivateInformation = word(930_003).encode()
    header.file_meta.MediaStorageSOPInstanceUID = UID
    header.preamble = (word(930_004) * 13).encode()[:128]
    pixels = film(number)
    header.SOPClassUID = DigitalMammographyXRayImageStorageForPresentation
    header.Rows, header.Columns, header.SamplesPerPixel = *pixels.shape, 1
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.PhotometricInterpretation = "MONOCHROME2"
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    for name, value in changes.items():
        header.add(
            DataElement(name, pydicom.datadict.dictionary_VR(name), value, validation_mode=pydicom.config.IGNORE)
        )
    assert plant(header) > 4000
    private(header)
    header.save_as(path, enforce_file_format=True)


def folder_source(root: Path) -> list[str]:
    """Images whose paths have their patients' keys; a table with columns that are nobody's business; what fails."""
    head = ["path", "patient", "label", "exam", "density", "name", "Birth Date", "notes", word(940_000)]
    rows = [head]
    for number in range(6):
        patient = word(950_000 + number // 2)
        place = root / "site" / patient / f"{patient}_{number}.dcm"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(place, number)
        label = ("negative", "cancer")[number % 2]
        path = str(place.relative_to(root))
        rows.append([path, patient, label, word(960_000), "b", word(960_001), "1843-11-07", f"a {word(960_002)}", DATE])
    lost = word(950_009)
    bad: dict[str, dict[str, object]] = {
        "slope": {"RescaleSlope": "1234567890"}, "frames": {"NumberOfFrames": NUMBER}, "rows": {"Rows": 3},
        "table": {"VOILUTFunction": "SIGMOID", "WindowCenter": "1234567890"},
        "colour": {"PhotometricInterpretation": word(970_001)}, "count": {"NumberOfFrames": "1234567890"},
    }  # fmt: skip
    for name, changes in bad.items():
        write_dicom(place := root / "site" / f"{lost}_{name}.dcm", 9, **changes)
        place.write_bytes(place.read_bytes().replace(b"1234567890", word(970_000).encode()))
    whole = (root / "site" / word(950_000) / f"{word(950_000)}_0.dcm").read_bytes()
    (root / "site" / f"{lost}_cut.dcm").write_bytes(whole[:-50_000])
    (root / "site" / f"{lost}_early.dcm").write_bytes(whole[:5000])
    (root / "site" / f"{lost}_text.png").write_text(word(970_002))
    names = [*bad, "cut", "early"]
    rows += [[f"site/{lost}_{name}.dcm", lost, "cancer"] for name in names]
    rows += [
        [f"site/{lost}_text.png", lost, "cancer"],
        [f"site/{lost}_missing.dcm", lost, "cancer"],
        [f"../{lost}.dcm", lost, "cancer"],
        ["", lost, "cancer"],
        [rows[1][0], lost, "cancer"],
        [
            rows[2][0],
            rows[2][1],
            f"free text about {word(970_003)} and others that goes on for far longer than a label",
        ],
        [*rows[3], "one", "cell", word(970_004)],
    ]
    (root.parent / "table.csv").write_text("\n".join(",".join(row) for row in rows))
    (root.parent / "headless.csv").write_text(f"{word(970_005)},{word(970_006)}\n{word(970_007)},{DATE}\n")
    (root.parent / "useless.csv").write_text(
        "\n".join(",".join(row) for row in [head, *rows[7:12], [*rows[12][:2], "b"]])
    )
    return ["folder", "--source", str(root), "--table", str(root.parent / "table.csv")]


def inbreast_source(root: Path) -> list[str]:
    """The patient's key is the hash in the names; the table's further columns and the outlines have secrets."""
    (root / "AllDICOMs").mkdir(parents=True)
    (root / "AllXML").mkdir()
    lines = ["Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads;Notes"]
    for number in range(5):
        name = f"{number + 1}_{HEX}_MG_L_CC_ANON.dcm"
        write_dicom(root / "AllDICOMs" / name, number, **({"NumberOfFrames": NUMBER} if number == 4 else {}))
        lines.append(f"{word(980_000)};077Y;L;CC;{DATE};{number + 1};2;{1 + 4 * (number % 2)};{word(980_001)}")
    lines.append(f";;R;CC;{DATE};{word(980_002)};2;1;")
    lines.append(f";;R;CC;{DATE};17;{word(980_003)};1;")
    (root / "INbreast.csv").write_text("\n".join(lines))
    (root / "AllDICOMs" / f"99_{HEX.upper()}_MG_L_CC_ANON.dcm").write_bytes(b"")
    (root / "AllDICOMs" / f"{HEX}.dcm").write_bytes(word(980_004).encode())
    roi = "<dict><key>Name</key><string>{}</string><key>Point_px</key><array><string>{}</string></array></dict>"
    plist = "<plist><dict><key>Images</key><array><dict><key>ROIs</key><array>{}</array></dict></array></dict></plist>"
    marks = [roi.format(word(980_005), "(40, 130)"), roi.format("Mass", f"({word(980_006)}, 1)")]
    (root / "AllXML" / "1.xml").write_text(plist.format("".join(marks)))
    (root / "AllXML" / "2.xml").write_text(f"<plist><integer>{word(980_007)}</integer></plist>")
    return ["inbreast", "--source", str(root)]


SCRIPT = """
import json, sys
from diagram_ray.distributed.session import ray_session
from diagram_ray.prepare import app
with ray_session():
    for arguments in json.loads(sys.argv[1]):
        try:
            app(arguments)
        except SystemExit as end:
            print("exit", end.code, flush=True)
"""


@pytest.fixture
def logs() -> Iterator[Path]:
    """Where Ray writes its logs: a short path, because its sockets' names have to fit."""
    folder = Path(tempfile.mkdtemp(prefix="pr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def leaks(data: bytes) -> list[str]:
    found = [match.group().decode() for match in WORD.finditer(data)]
    return found + [plain for plain in PLAIN if plain.encode() in data]


def cells(path: Path) -> bytes:
    """All of a Parquet file but its pixels, as text; its schema and metadata too."""
    table = pq.read_table(path)
    told = [str(table.schema), str(table.schema.metadata)]
    told += [str(table[name].to_pylist()) for name in table.column_names if name != "pixels"]
    return "\n".join(told).encode()


@pytest.mark.ray
def test_nothing_planted_comes_out(tmp_path: Path, logs: Path) -> None:
    own = folder_source(tmp_path / "own")
    films = inbreast_source(tmp_path / "inbreast")
    assert len(leaks((tmp_path / "inbreast" / "AllDICOMs" / f"1_{HEX}_MG_L_CC_ANON.dcm").read_bytes())) > 4000
    options = ["--image-size", "64x48", "--key", str(tmp_path / "key"), "--json"]
    (tmp_path / "key").write_text("0123456789abcdef")
    (tmp_path / "key").chmod(0o600)
    elsewhere = [*own[:-1], str(tmp_path / "headless.csv")], [*own[:-1], str(tmp_path / "useless.csv")]
    runs = [
        [*arguments, "--out", str(tmp_path / "out" / str(number)), *options]
        for number, arguments in enumerate((own, films, *elsewhere))
    ]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(logs), "HOME": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(runs)],
        cwd=ROOT, env=environment, capture_output=True, timeout=300,
    )  # fmt: skip
    shown = result.stdout + result.stderr
    assert re.findall(rb"exit (\d)", result.stdout) == [b"0", b"0", b"2", b"2"], shown.decode()[-4000:]
    counts = [json.loads(path.read_text())["counts"] for path in sorted((tmp_path / "out").glob("*/dataset.json"))]
    assert [(one["images"], one["patients"]) for one in counts] == [(5, 3), (4, 1)]
    assert min(one["rejects"] for one in counts) >= 7
    rejects = pq.read_table(tmp_path / "out" / "0" / "rejects.parquet").to_pylist()
    assert any("_slope.dcm" in reject["path"] and "RescaleSlope" in reject["reason"] for reject in rejects)
    written = [path for top in (tmp_path / "out", logs) for path in top.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".parquet" for path in written) >= 8
    assert any("raylet" in path.name for path in written), "Ray's logs are not where they were looked for"
    found = {str(path): leaks(path.read_bytes()) + leaks(str(path).encode()) for path in written}
    found |= {f"{path}, decoded": leaks(cells(path)) for path in written if path.suffix == ".parquet"}
    found["standard output and error"] = leaks(shown)
    assert not {place: what[:5] for place, what in found.items() if what}
    ages = [path for path in written if path.suffix == ".parquet" and b"077Y" in cells(path)]
    assert not ages
    assert datetime.date(1843, 11, 7).isoformat() in PLAIN
