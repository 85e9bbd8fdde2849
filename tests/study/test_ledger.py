"""The ledger keeps what was written, forgives a torn end and nothing else, and has one writer."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diagram_ray.errors import DataError, UsageError
from diagram_ray.results import Measurement, TrialState
from diagram_ray.study.ledger import FILE, open_ledger, read_ledger

SCORE = Measurement(2, 1, (0.1 + 0.2, 0.75), (0.5, 2 / 3), 1.25, training_auc=0.875)


def write_some(folder: Path) -> None:
    with open_ledger(folder) as ledger:
        ledger.asked(0, {"training.k": 2, "model.norm": "batch", "training.weight_decay": 1e-5})
        ledger.asked(1, {"training.k": 1, "model.norm": None, "training.weight_decay": 0.1 + 0.2})
        ledger.measured(1, 0, SCORE, "goes on")
        ledger.ended(1, TrialState.PRUNED, "pruned: …")


def test_reads_what_was_written(tmp_path: Path) -> None:
    write_some(tmp_path)
    trials = read_ledger(tmp_path)
    assert list(trials) == [0, 1]
    assert trials[0].params == {"training.k": 2, "model.norm": "batch", "training.weight_decay": 1e-5}
    assert trials[0].state is TrialState.RUNNING
    assert (trials[1].state, trials[1].reason, trials[1].measurements) == (TrialState.PRUNED, "pruned: …", (SCORE,))


def test_what_older_versions_did_not_measure_is_missing(tmp_path: Path) -> None:
    write_some(tmp_path)
    assert read_ledger(tmp_path)[1].measurements[0].training_auc == 0.875
    path = tmp_path / FILE
    path.write_text(path.read_text(encoding="utf-8").replace(', "training_auc": 0.875', ""), encoding="utf-8")
    assert read_ledger(tmp_path)[1].measurements == (replace(SCORE, training_auc=None),)


def test_trials_share_the_names_of_their_parameters(tmp_path: Path) -> None:
    """A study may have thousands."""
    write_some(tmp_path)
    trials = read_ledger(tmp_path)
    first, second = (sorted(trials[number].params) for number in (0, 1))
    assert all(one is other for one, other in zip(first, second, strict=True))


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    write_some(tmp_path)
    with open_ledger(tmp_path) as ledger:
        ledger.measured(0, 0, SCORE, "")
        assert ledger.trials == read_ledger(tmp_path)
    assert read_ledger(tmp_path)[0].measurements == (SCORE,)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.floats(0, 1))
def test_cut_anywhere_it_is_a_beginning_of_itself(tmp_path: Path, part: float) -> None:
    (tmp_path / FILE).unlink(missing_ok=True)
    write_some(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    cut = round(part * len(whole))
    (tmp_path / FILE).write_bytes(whole[:cut])
    complete_lines = whole[:cut].count(b"\n")
    with open_ledger(tmp_path) as ledger:
        number = len(ledger.trials)
        ledger.asked(number, {"training.k": 9})
    lines = (tmp_path / FILE).read_bytes().splitlines()
    assert lines[:-1] == whole.splitlines()[: max(complete_lines, 1)]
    assert read_ledger(tmp_path)[number].params == {"training.k": 9}


@pytest.mark.parametrize("damage", [b"{", b"[]", b"\x00\x00\x00", b'{"event": "asked"}', b'{"event": "nonsense"}'])
def test_damage_elsewhere_is_refused_and_the_line_named(tmp_path: Path, damage: bytes) -> None:
    write_some(tmp_path)
    lines = (tmp_path / FILE).read_bytes().splitlines()
    lines[2] = damage
    (tmp_path / FILE).write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(DataError, match=r"ledger\.jsonl, line 3: "), open_ledger(tmp_path):
        pass
    assert (tmp_path / FILE).read_bytes().splitlines() == lines


def test_events_that_cannot_follow_are_not_written(tmp_path: Path) -> None:
    write_some(tmp_path)
    before = (tmp_path / FILE).read_bytes()
    with open_ledger(tmp_path) as ledger:
        for wrong in (
            lambda: ledger.asked(7, {}),
            lambda: ledger.asked(1, {}),
            lambda: ledger.measured(1, 1, SCORE, ""),
            lambda: ledger.measured(0, 1, SCORE, ""),
            lambda: ledger.measured(3, 0, SCORE, ""),
            lambda: ledger.ended(1, TrialState.FAIL, ""),
        ):
            with pytest.raises(DataError):
                wrong()
    assert (tmp_path / FILE).read_bytes() == before


def test_every_event_is_a_line_with_its_time(tmp_path: Path) -> None:
    write_some(tmp_path)
    events = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [event["event"] for event in events] == ["study", "asked", "asked", "measured", "ended"]
    assert all(event["time"] > 1.7e9 for event in events[1:])


def test_a_second_driver_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    with (
        open_ledger(tmp_path),
        pytest.raises(UsageError, match=f"is being run by process {os.getpid()} on "),
        open_ledger(tmp_path),
    ):
        pass
    with open_ledger(tmp_path):
        pass


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from diagram_ray.study.ledger import open_ledger\n"
        "with open_ledger(pathlib.Path(sys.argv[1])) as ledger: ledger.asked(0, {}); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    with open_ledger(tmp_path) as ledger:
        assert list(ledger.trials) == [0]
