import csv
import io
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.data.readers.cbis.descriptions import Film, Place, Table, is_table, parse_table
from diagram_ray.errors import DataError
from tests.support.sources.cbis_tree import Row, columns, row, table

HEADER = ",".join(columns("mass")).encode()
GOOD = table([row()])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no column 'patient id', 'abnormality id'"),
        (GOOD.replace(b"pathology", b"outcome", 1), "no column 'pathology'; it has patient id, abnormality id, "),
        (GOOD.replace(b"subtlety", b"pathology", 1), "no column 'subtlety'"),
        (GOOD.replace(b"mass shape", b"pathology", 1), "column 'pathology' stands 2 times"),
        (b"a," * 200 + GOOD, "more than 100 columns"),
        (b"," * (2 << 20), "more than 100 columns"),
        (HEADER + b"\nP_00001," + b"x" * (2 << 20), "row after row 1 is not CSV: field larger than field limit"),
        (HEADER + b'\n"P_00001,2,LEFT', "row after row 1 is not CSV: unexpected end of data"),
        (GOOD + b'P_00002,"2"3,LEFT\n', "row after row 2 is not CSV"),
        (b"\0" * 100, "no column 'patient id'"),
        (b"\xff\xfe" + GOOD.decode().encode("utf-16-le"), "no column"),
        (b"PK\x03\x04" + bytes(range(256)) * 40, "no column"),
        (b"a" * ((4 << 20) + 1), "longer than 4194304 bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_one_sentence(data: bytes, message: str) -> None:
    started = time.process_time()
    with pytest.raises(DataError) as caught:
        parse_table(data, "mass_case_description_train_set.csv")
    assert str(caught.value).startswith("mass_case_description_train_set.csv: ")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.process_time() - started < 5


def test_nul_bytes_and_short_rows_cost_their_row() -> None:
    data = GOOD + b"\0\nP_00003\n,,,\n\n" + GOOD.split(b"\n", 1)[1].replace(b"LEFT,", b"LE\0FT,")
    found = parse_table(data, "t.csv")
    assert [one.number for one in found.rows] == [2]
    assert [flaw.number for flaw in found.flaws] == [3, 4, 7]


PATHOLOGIES = ["BENIGN", "MALIGNANT", "BENIGN_WITHOUT_CALLBACK"]
PARTS = {"Training": "train", "Test": "test"}
FILMS = st.builds(
    Film,
    st.integers(0, 99999).map("P_{:05d}".format),
    st.sampled_from(["LEFT", "RIGHT"]),
    st.sampled_from(["CC", "MLO"]),
)
ROWS = st.lists(
    st.tuples(FILMS, st.integers(1, 999), st.sampled_from(PATHOLOGIES), st.sampled_from(sorted(PARTS))), max_size=6
)


def written(rows: list[Row], kind: str, random: Random) -> bytes:
    """A table as any spreadsheet may write it: order and case of columns, quotes, blanks, line ends."""
    names = columns(kind)
    random.shuffle(names)
    text = io.StringIO(newline="")
    quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
    writer = csv.writer(text, quoting=quoting, lineterminator=random.choice(["\n", "\r\n"]))
    writer.writerow(
        [random.choice([str.upper, str.title, str])(name.replace("_", random.choice("_ "))) for name in names]
    )
    for one in rows:
        writer.writerow(
            [random.choice(["", " ", "\n"]) + one[name] + random.choice(["", "\n", "\r\n"]) for name in names]
        )
    return random.choice([b"", b"\xef\xbb\xbf"]) + text.getvalue().encode()


@given(ROWS, st.sampled_from(["mass", "calc"]), st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_however_a_table_is_written_its_rows_come_back(
    rows: list[tuple[Film, int, str, str]], kind: str, random: Random
) -> None:
    made = [row(film.patient, film.side, film.view, *rest[:2], kind, rest[2]) for film, *rest in rows]
    data = written(made, kind, random)
    found = parse_table(data, "any.csv")
    assert found.flaws == []
    assert [(one.film, one.abnormality, one.pathology, one.split) for one in found.rows] == [
        (film, number, pathology, PARTS[part]) for film, number, pathology, part in rows
    ]
    assert [one.image.series for one in found.rows] == [one["image file path"].split("/")[2] for one in made]
    assert is_table(data[:4096])


TEXT = table([row(), row(number=2), row("P_00002", pathology="MALIGNANT")])


@given(
    st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.binary(max_size=3)), min_size=1, max_size=8),
    st.integers(0, len(TEXT)),
)
@settings(max_examples=400, deadline=None)
def test_damaged_tables_never_give_a_wrong_patient(changes: list[tuple[int, bytes]], length: int) -> None:
    """Whatever bytes are changed or cut off: a DataError, a flaw, or rows whose folder and columns agree."""
    data = bytearray(TEXT)
    for place, new in changes:
        data[place : place + 1] = new
    try:
        found = parse_table(bytes(data[: max(length, 400)]), "mass_case_description_train_set.csv")
    except DataError:
        return
    assert isinstance(found, Table)
    for one in found.rows:
        assert one.image.folder == f"Mass-Training_{one.film.patient}_{one.film.side}_{one.film.view}"
        assert one.mask.folder == one.crop.folder == f"{one.image.folder}_{one.abnormality}"


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_told_from_a_table(data: bytes) -> None:
    assert not is_table(data)
    with pytest.raises(DataError):
        parse_table(data, "x.csv")


@pytest.mark.real
def test_the_real_tables_say_what_is_known_of_them(real_data: Path) -> None:
    counts = {}
    rows = []
    for path in sorted((real_data / "cbis-ddsm-csv").glob("*.csv")):
        found = parse_table(path.read_bytes(), str(path))
        assert found.flaws == []
        pathologies = Counter(one.pathology for one in found.rows)
        counts[path.name[:4], "train" if "train" in path.name else "test"] = (
            len(found.rows),
            len({one.film.patient for one in found.rows}),
            len({one.image for one in found.rows}),
            *(pathologies[name] for name in ("MALIGNANT", "BENIGN", "BENIGN_WITHOUT_CALLBACK")),
        )
        rows += found.rows
    assert counts == {
        ("mass", "train"): (1318, 691, 1231, 637, 577, 104),
        ("mass", "test"): (378, 201, 361, 147, 194, 37),
        ("calc", "train"): (1546, 602, 1227, 544, 528, 474),
        ("calc", "test"): (326, 151, 284, 129, 130, 67),
    }
    assert (len(rows), len({one.film.patient for one in rows}), len({one.image for one in rows})) == (3568, 1566, 3103)
    mixed: dict[Place, set[str]] = {}
    for one in rows:
        mixed.setdefault(one.image, set()).add(one.pathology)
    assert sum(len(pathologies) > 1 for pathologies in mixed.values()) == 19
    numbered = {(one.film, one.abnormality) for one in rows}
    assert len(numbered) == 3568, "numbers of abnormalities go on from a film's mass rows to its calc rows"
