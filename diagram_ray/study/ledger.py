"""What happened in a study, in order: the only truth about it. Tables, Optuna's and Tune's state are made from it.

`ledger.jsonl` holds one JSON object a line and only grows. A line counts once its newline is on the disk, so a crash
in the middle of a write costs that event and nothing else.

    {"event": "study", "version": 1, ...}
    {"event": "asked", "trial": 0, "params": {...}, "time": ...}
    {"event": "asked", "trial": 1, "params": {...}, "sizes": {...}, "time": ...}       # where the study asks for them
    {"event": "measured", "trial": 0, "rung": 0, "measurement": {...}, "why": "...", "time": ...}
    {"event": "ended", "trial": 0, "state": "PRUNED", "reason": "...", "time": ...}

In an object store it is a folder of such lines, each an object of its own (`study.ledger_objects`).

The files of a trial (`trials/0007/`) are complete on the disk, or in the store, before its measurement is written here.
"""

import dataclasses
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from diagram_ray.errors import DataError, UsageError
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place
from diagram_ray.study.ledger_objects import FOLDER, Journal, has_events, read_events, sole_driver

FILE = "ledger.jsonl"
LOCK = ".lock"
VERSION = 1
BEGINNING = {"event": "study", "version": VERSION}
Append = Callable[[dict[str, Any]], None]


class Ledger:
    """A study's ledger, open for writing. Use `open_ledger`."""

    def __init__(self, path: Place, append: Append, check: Callable[[], None], trials: dict[int, Trial]) -> None:
        self.path = path
        self.trials = trials
        """The trials recorded so far, by number."""
        self.check = check
        """Raises DiagramError if another driver has taken the study over, which can happen in an object store only."""
        self._append = append

    def asked(self, number: int, params: dict[str, Any], sizes: dict[str, float] | None = None) -> None:
        """Records the proposal for trial `number`; `sizes` are its model's, where the study needs them."""
        optional = {"sizes": sizes} if sizes is not None else {}
        self._write({"event": "asked", "trial": number, "params": params, **optional})

    def measured(self, number: int, rung: int, measurement: Measurement, why: str) -> None:
        """Records that trial `number` reached a rung; `why` explains what follows from it."""
        values = dataclasses.asdict(measurement)
        self._write({"event": "measured", "trial": number, "rung": rung, "measurement": values, "why": why})

    def ended(self, number: int, state: TrialState, reason: str) -> None:
        """Records that trial `number` will not go on."""
        self._write({"event": "ended", "trial": number, "state": state.value, "reason": reason})

    def _write(self, event: dict[str, Any]) -> None:
        """Appends one event, durably. The event is applied first: one that cannot follow is never written."""
        event = _dated(event)
        apply(self.trials, json.loads(json.dumps(event)), str(self.path))
        self._append(event)


@contextmanager
def open_ledger(folder: Place) -> Iterator[Ledger]:
    """The ledger of the study in `folder`, made if there is none, locked against a second driver.

    Raises UsageError if another process has it, DataError (naming the line) if it is damaged.
    """
    if isinstance(folder, StorePath):
        with sole_driver(folder):
            events = read_events(folder) if has_events(folder) else []
            trials, journal = _replay(events), Journal(folder, len(events))
            journal.claim(_dated({"event": "opened"} if events else BEGINNING))
            yield Ledger(folder / FOLDER, journal.append, journal.check, trials)
        return
    with _locked(folder / LOCK):
        path = folder / FILE
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = _whole_lines(path.read_bytes())
            os.ftruncate(descriptor, size)  # a torn last line would swallow the next event
            if size == 0:
                _append(descriptor, BEGINNING)
            yield Ledger(path, partial(_append, descriptor), lambda: None, read_ledger(folder))
        finally:
            os.close(descriptor)


def read_ledger(folder: Place) -> dict[int, Trial]:
    """Number -> trial, from the ledger in `folder`, also while a driver writes it.

    Raises DataError naming the line, or if there is no ledger.
    """
    return _replay(read_events(folder) if isinstance(folder, StorePath) else _read_lines(folder / FILE))


def has_ledger(folder: Place) -> bool:
    """Whether a study was begun in `folder`."""
    return has_events(folder) if isinstance(folder, StorePath) else (folder / FILE).exists()


def _replay(events: Iterable[tuple[str, bytes]]) -> dict[int, Trial]:
    trials: dict[int, Trial] = {}
    for where, line in events:
        apply(trials, _parse(line, where), where)
    return trials


def _read_lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """The lines that are whole, and where each is. Raises DataError if there is no such file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    content = path.read_bytes()
    for number, line in enumerate(content[: _whole_lines(content)].splitlines(), start=1):
        yield f"{path}, line {number}", line


def torn(folder: Place) -> int:
    """The length of a write at the ledger's end that was cut off, in bytes. Raises DataError: no ledger.

    0 in an object store, where an event is there or is not.
    """
    if isinstance(folder, StorePath):
        return 0
    if not (folder / FILE).is_file():
        raise DataError(f"{folder / FILE}: no such file")
    content = (folder / FILE).read_bytes()
    return len(content) - _whole_lines(content)


def apply(trials: dict[int, Trial], event: dict[str, Any], where: str) -> None:
    """Changes `trials` as `event` says. Raises DataError if the event cannot follow those before it."""
    try:
        _APPLY[event["event"]](trials, event)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: this event cannot be understood or cannot stand here: {error!r}: {str(event)[:500]}"
        ) from None


def _study(trials: dict[int, Trial], event: dict[str, Any]) -> None:
    if event["version"] != VERSION or trials:
        raise ValueError(f"expected version {VERSION} of the ledger, at its beginning")


def _opened(trials: dict[int, Trial], event: dict[str, Any]) -> None:
    """Another driver goes on from here: nothing changes."""


def _asked(trials: dict[int, Trial], event: dict[str, Any]) -> None:
    if event["trial"] != len(trials):
        raise ValueError(f"trial {event['trial']} is asked after {len(trials)} trials")
    sizes = {str(name): float(size) for name, size in event.get("sizes", {}).items()}
    params = {sys.intern(key): value for key, value in event["params"].items()}  # the same names in every trial
    trials[event["trial"]] = Trial(event["trial"], params, sizes=sizes)


def _measured(trials: dict[int, Trial], event: dict[str, Any]) -> None:
    trial = _running(trials, event)
    if event["rung"] != len(trial.measurements):
        raise ValueError(f"rung {event['rung']} after {len(trial.measurements)} rungs")
    values = event["measurement"]
    fitted = values.get("training_auc")
    measurement = Measurement(
        folds=int(values["folds"]),
        epochs=int(values["epochs"]),
        fold_auc=tuple(map(float, values["fold_auc"])),
        fold_accuracy=tuple(map(float, values["fold_accuracy"])),
        seconds=float(values["seconds"]),
        worker_seconds=values.get("worker_seconds"),
        training_auc=None if fitted is None else float(fitted),
    )
    trials[trial.number] = dataclasses.replace(trial, measurements=(*trial.measurements, measurement))


def _ended(trials: dict[int, Trial], event: dict[str, Any]) -> None:
    trial = _running(trials, event)
    state = TrialState(event["state"])
    trials[trial.number] = dataclasses.replace(trial, state=state, reason=str(event["reason"]))


def _running(trials: dict[int, Trial], event: dict[str, Any]) -> Trial:
    trial = trials[event["trial"]]
    if trial.state is not TrialState.RUNNING:
        raise ValueError(f"trial {trial.number} has ended before: {trial.state}")
    return trial


_APPLY: dict[str, Callable[[dict[int, Trial], dict[str, Any]], None]] = {
    "study": _study,
    "opened": _opened,
    "asked": _asked,
    "measured": _measured,
    "ended": _ended,
}


def _dated(event: dict[str, Any]) -> dict[str, Any]:
    return {**event, "time": round(time.time(), 3)}


def _append(descriptor: int, event: dict[str, Any]) -> None:
    data = memoryview(f"{json.dumps(event)}\n".encode())
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _whole_lines(content: bytes) -> int:
    """Length of `content` up to and with its last newline; what follows is a write that was cut off."""
    return content.rfind(b"\n") + 1


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: damaged: {error}; restore the file, or delete the lines from here on") from None
    if not isinstance(event, dict):
        raise DataError(f"{where}: damaged: expected a JSON object, found {str(event)[:100]!r}")
    return event


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock. The system frees it when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
            raise UsageError(
                f"{path.parent}: this study is being run by {holder}; wait for it or stop it, or write to another --out"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(descriptor)
