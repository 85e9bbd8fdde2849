"""A ledger in an object store: numbered objects, one driver, and nothing twice whatever the store does."""

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagram_ray.errors import DataError, DiagramError, StoreError, UsageError
from diagram_ray.results import Measurement, TrialState
from diagram_ray.storage import locks, object_store
from diagram_ray.storage.object_store import StorePath
from diagram_ray.study.ledger import open_ledger, read_ledger

SCORE = Measurement(2, 1, (0.1 + 0.2, 0.75), (0.5, 2 / 3), 1.25)
PLACE = StorePath("faulty://bucket/study")


class FaultyFiles(MemoryFileSystem):
    """`faulty://`: writing does what the next of `faults` says: "before" fails, "after" has written when it fails."""

    protocol = "faulty"
    object_store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    faults: ClassVar[list[str]] = []
    conditional = True

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        fault = self.faults.pop(0) if self.faults and "/ledger/" in path else ""
        if fault == "before":
            raise ConnectionError("the store is busy")
        super().pipe_file(path, value, mode if self.conditional else "overwrite", **kwargs)
        if fault == "after":
            raise TimeoutError("no answer")


fsspec.register_implementation("faulty", FaultyFiles, clobber=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store; pauses take no time, and drivers beat fast."""
    FaultyFiles.store.clear()
    FaultyFiles.faults.clear()
    monkeypatch.setattr(FaultyFiles, "conditional", True)
    monkeypatch.setattr(object_store, "RETRY", replace(object_store.RETRY, attempts=4, wait=lambda _: None))
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "SILENCE", 0.8)
    yield
    FaultyFiles.store.clear()


def write_some() -> None:
    with open_ledger(PLACE) as ledger:
        ledger.asked(0, {"training.k": 2, "model.norm": "batch"})
        ledger.asked(1, {"training.k": 1, "model.norm": None})
        ledger.measured(1, 0, SCORE, "goes on")
        ledger.ended(1, TrialState.PRUNED, "pruned: …")


def objects() -> dict[str, dict[str, Any]]:
    folder = PLACE / "ledger"
    return {path.name: json.loads(path.read_bytes()) for path in folder.iterdir()}


def test_reads_what_was_written_and_goes_on() -> None:
    write_some()
    trials = read_ledger(PLACE)
    assert (trials[1].state, trials[1].reason, trials[1].measurements) == (TrialState.PRUNED, "pruned: …", (SCORE,))
    with open_ledger(PLACE) as ledger:
        ledger.measured(0, 0, SCORE, "")
        assert ledger.trials == read_ledger(PLACE)
    found = objects()
    assert list(found) == [f"{number:08d}.json" for number in range(7)]
    kinds = [event["event"] for event in found.values()]
    assert kinds == ["study", "asked", "asked", "measured", "ended", "opened", "measured"]
    assert not (PLACE / ".lock").exists()


def test_a_second_driver_is_refused_and_told_by_whom() -> None:
    with (
        open_ledger(PLACE) as ledger,
        pytest.raises(UsageError, match=f"study: this study is being run by process {os.getpid()} on "),
        open_ledger(PLACE),
    ):
        pass
    assert len(objects()) == 1
    ledger.check()


def test_a_driver_that_was_cut_off_cannot_write_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine stood still for long enough to be thought dead; then it comes back."""
    monkeypatch.setattr(locks, "BEAT", 1000.0)
    with open_ledger(PLACE) as first:
        first.asked(0, {"k": 1})
        first.check()
        with open_ledger(PLACE) as second:
            for late in (first.check, lambda: first.asked(1, {"k": 2}), lambda: first.ended(0, TrialState.FAIL, "")):
                with pytest.raises(DiagramError, match=r"ledger/00000002\.json: another driver has taken this study"):
                    late()
            second.asked(1, {"k": 3})
            second.ended(0, TrialState.COMPLETE, "")
    trials = read_ledger(PLACE)
    assert [trial.params for trial in trials.values()] == [{"k": 1}, {"k": 3}]
    assert trials[0].state is TrialState.COMPLETE


def test_of_two_that_think_the_first_is_dead_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the lock does not keep them apart."""
    write_some()
    monkeypatch.setattr(locks._Lease, "_claim", lambda lease: lease._write("overwrite"))
    with open_ledger(PLACE) as one, open_ledger(PLACE) as other:
        other.asked(2, {"k": 7})
        with pytest.raises(DiagramError, match="another driver has taken"):
            one.asked(2, {"k": 8})
    assert read_ledger(PLACE)[2].params == {"k": 7}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["", "before", "after"]), max_size=30))
def test_whatever_fails_on_the_way_every_event_is_there_once(faults: list[str]) -> None:
    """Also one whose answer was lost; where the store keeps failing, the rest is missing and nothing else."""
    FaultyFiles.store.clear()
    FaultyFiles.faults[:] = faults
    done = 0
    try:
        with open_ledger(PLACE) as ledger:
            for number in range(4):
                ledger.asked(number, {"k": number})
                done = number + 1
    except StoreError as error:
        assert "faulty://bucket/study/ledger/" in str(error)  # noqa: PT017
    FaultyFiles.faults.clear()
    with open_ledger(PLACE) as ledger:
        assert len(ledger.trials) >= done
        for number in range(len(ledger.trials), 6):
            ledger.asked(number, {"k": number})
    events = [event for event in objects().values() if event["event"] == "asked"]
    assert [event["trial"] for event in events] == list(range(6))
    assert {number: trial.params["k"] for number, trial in read_ledger(PLACE).items()} == {n: n for n in range(6)}


def test_a_store_that_overwrites_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FaultyFiles, "conditional", False)
    with pytest.raises(UsageError, match=r"overwrites what is there .* If-None-Match"), open_ledger(PLACE):
        pass


def test_a_store_that_has_another_word_for_it_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not say which condition it was that failed."""
    before = FaultyFiles.pipe_file

    def pipe(self: FaultyFiles, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        try:
            before(self, path, value, mode, **kwargs)
        except FileExistsError:
            raise OSError(errno.EINVAL, "PreconditionFailed") from None

    monkeypatch.setattr(FaultyFiles, "pipe_file", pipe)
    monkeypatch.setattr(locks, "BEAT", 1000.0)
    with open_ledger(PLACE) as first, open_ledger(PLACE) as second:
        second.asked(0, {"k": 1})
        with pytest.raises(DiagramError, match="another driver has taken this study over"):
            first.asked(0, {"k": 2})
    assert read_ledger(PLACE)[0].params == {"k": 1}


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\x00\x00", b'{"event": "asked"}', b'{"event": "nonsense"}'])
def test_damage_is_refused_and_the_object_named(damage: bytes) -> None:
    write_some()
    (PLACE / "ledger" / "00000004.json").write_bytes(damage)
    with pytest.raises(DataError, match=r"study/ledger/00000004\.json: "), open_ledger(PLACE):
        pass
    assert len(FaultyFiles.store) == 5, "nothing is written, the lock is gone"


def test_a_missing_event_is_refused_and_named() -> None:
    write_some()
    (PLACE / "ledger" / "00000002.json").unlink()
    for reader in (read_ledger, lambda place: open_ledger(place).__enter__()):
        with pytest.raises(DataError, match=r"00000002\.json: missing, and 00000003\.json is there: damaged"):
            reader(PLACE)


def test_no_ledger_is_said() -> None:
    with pytest.raises(DataError, match="study/ledger: no such ledger"):
        read_ledger(PLACE)


def test_a_store_that_does_not_answer_is_not_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsspec's own isfile() would say that the file is not there."""
    write_some()
    asked: list[str] = []

    def down(self: FaultyFiles, path: str, **_: Any) -> None:
        asked.append(path)
        raise ConnectionError("connection refused")

    monkeypatch.setattr(FaultyFiles, "info", down)
    with pytest.raises(StoreError, match=r"faulty://bucket/study/study\.yaml: .*connection refused"):
        (PLACE / "study.yaml").is_file()
    assert len(asked) == 4
