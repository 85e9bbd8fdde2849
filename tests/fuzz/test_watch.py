"""The watch tells of every way to misbehave: without this, a fuzz test that finds nothing says nothing."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import watch
from tests.fuzz.watch import Watch

SECONDS = 5.0
"""For one planted case, so that those that never end cost little."""
FAULTS = {
    "planted/crashes": r"the process died: status -6",
    "planted/leaves": r"the process died: status 0",
    "planted/spins": r"took longer than 5 s",
    "planted/blocks": r"took longer than 5 s",
    "planted/eats": r"took 1\d\d\d MiB of memory",
    "planted/eats-without-end": r"took \d{4} MiB of memory",
    "planted/raises": r"ZeroDivisionError",
    "planted/recurses": r"RecursionError",
    "planted/says-nothing": r"no reason",
    "planted/says-much": r"a reason of 5000 characters",
    "planted/says-bytes": r"in the reason",
    "planted/says-escapes": r"control characters",
}
"""Case -> what must stand in its fault."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    monkeypatch.setattr(watch, "SECONDS", SECONDS)
    (tmp_path / "seeds" / "planted").mkdir(parents=True)
    made = Watch(tmp_path / "seeds", tmp_path, count=1, module="tests.fuzz.misbehaving")
    yield made
    made.close()


def test_every_way_to_misbehave_is_a_fault_and_the_next_case_is_judged_as_ever(planted: Watch) -> None:
    cases = [case for bad in FAULTS for case in (bad, "planted/reads", "planted/refuses")]
    verdicts = list(planted.judge(cases))
    assert [verdict.case for verdict in verdicts] == cases
    for verdict in verdicts:
        if verdict.case in FAULTS:
            assert verdict.fault is not None, verdict.case
            assert re.search(FAULTS[verdict.case], verdict.fault), verdict
        else:
            assert verdict.fault is None
            assert verdict.tally == ({"read": 1} if verdict.case == "planted/reads" else {"refused": 1})


def test_no_child_outlives_its_watch(planted: Watch) -> None:
    [verdict] = planted.judge(["planted/reads"])
    assert verdict.fault is None
    pid = planted._children[0]._process.pid
    planted.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
