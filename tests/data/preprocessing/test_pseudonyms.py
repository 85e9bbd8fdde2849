"""A patient's key does not get out: not by an id, a folder, a reject's path, in any case or punctuation."""

import re

from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.data.preprocessing.pseudonyms import (
    anonymous,
    anonymous_rejects,
    common_root,
    hidden,
    keyed_hash,
    names,
    source_folder,
)
from diagram_ray.data.records import ImageRecord, Index, Reject

KEY = b"0123456789abcdef"
PATIENTS = st.from_regex(r"[A-Za-z0-9]{1,6}([_ .-][A-Za-z0-9]{1,4}){0,2}", fullmatch=True)


def record(path: str, patient: str) -> ImageRecord:
    return ImageRecord(path, path, patient, patient, None, None, None)


def test_hashes_depend_on_key_and_text() -> None:
    assert re.fullmatch("[0-9a-f]{16}", keyed_hash(KEY, "Doe"))
    assert len({keyed_hash(KEY, "Doe"), keyed_hash(KEY, "doe"), keyed_hash(b"another key 1234", "Doe")}) == 3


@given(patient=PATIENTS, before=st.text("abc/_-", max_size=8), after=st.text("abc/_-.", max_size=8))
def test_a_key_is_found_whatever_is_around_it(patient: str, before: str, after: str) -> None:
    for form in (
        patient,
        patient.upper(),
        patient.lower(),
        re.sub(r"[\W_]", "", patient),
        re.sub(r"[\W_]", "_", patient),
    ):
        text = before + form + after
        assert names(text, patient)
        assert not names(hidden(text, patient, "~"), patient)


def test_paths_of_rejects() -> None:
    stand_in = keyed_hash(KEY, "P-7")
    told = anonymous(Reject("/data/x/p7/P_7_a.png", "row 3: no such file", "P-7"), "/data/x", KEY)
    assert told == Reject(f"/data/x/{stand_in}/{stand_in}_a.png", "row 3: no such file", None)
    of_row = anonymous(Reject("/data/2011/7/table.csv: row 7", "row 7: no path", "7"), "/data/x", KEY)
    assert of_row == Reject(f"/data/2011/{keyed_hash(KEY, '7')}/table.csv: row 7", "row 7: no path", None)
    in_reason = anonymous(Reject("t.csv: row 3", "twice: Doe-1 and doe1", "Doe-1"), "", KEY)
    assert "doe" not in in_reason.reason.lower()


def test_a_short_key_does_not_garble_folders_of_the_data_set() -> None:
    stand_in = keyed_hash(KEY, "1")
    told = anonymous(Reject("/data/2011/set/a1.png", "has 1 page", "1"), "/data/2011/set", KEY)
    assert told == Reject(f"/data/2011/set/a{stand_in}.png", "has 1 page", None)
    alone = anonymous(Reject("/data/1/b.png", "is empty", "1"), "/data/1", KEY)
    assert alone.path == f"/data/{stand_in}/b.png"


def test_a_reject_without_a_patient_may_name_one_of_the_index() -> None:
    records = [record("/data/2/Doe-1/a.png", "Doe-1"), record("/data/2/roe/2.png", "2")]
    rejects = [
        Reject("/data/2/DOE_1/notes.txt", "not an image"),
        Reject("/data/2/Doe-17/notes.txt", "not an image"),
        Reject("/data/2/table.csv: row 2", "no such file"),
        Reject("/data/2/x/poe.png", "not an image", "poe"),
    ]
    found = anonymous_rejects(Index(records, rejects, ("a", "b"), "x"), KEY)
    assert [one.path for one in found] == [
        f"/data/2/{keyed_hash(KEY, 'Doe-1')}/notes.txt",
        "/data/2/Doe-17/notes.txt",
        "/data/2/table.csv: row 2",
        f"/data/2/x/{keyed_hash(KEY, 'poe')}.png",
    ]
    assert all(one.patient_id is None for one in found)


def test_the_common_root() -> None:
    assert common_root([]) == ""
    assert common_root([record("/data/x/a.png", "1")]) == "/data/x"
    assert common_root([record("/data/x/a.png", "1"), record("/data/xy/b.png", "1")]) == "/data"
    assert common_root([record("s3://b/x/y/a.png", "1"), record("s3://b/x/z/a.png", "1")]) == "s3://b/x"
    assert common_root([record("s3://b/a.png", "1"), record("gs://b/a.png", "1")]) == ""


def test_the_folder_of_a_file() -> None:
    image = record("/data/site/doe_1/cc/a.png", "Doe-1")
    assert source_folder(image, "/data", KEY) == f"site/{keyed_hash(KEY, 'Doe-1')}/cc"
    assert source_folder(image, "/data/site/doe_1/cc", KEY) == ""
    assert source_folder(image, "/elsewhere", KEY) == ""
    assert source_folder(image, "", KEY) == ""
