"""A ledger in an object store: one immutable object an event, numbered without gaps.

    STUDY/ledger/00000000.json, 00000001.json, …    one event each
    STUDY/.lock                                     who is at work, written again every few seconds

Objects cannot be appended to, so an event is written as the next number, on the condition that there is no object of
that number (`If-None-Match: *`). What that guarantees, on machines whose clocks may differ:

* Of two drivers that write number N the store takes one; the other gets an error and ends. Nothing is overwritten or
  lost.
* A driver first writes an event that says it is here. From then on no other driver that was at work before, however
  slow or cut off it was, can write another event: its next number is taken.
* A second driver is refused while the first is alive: the lock changes while it is watched. If the first has died, on
  whatever machine, the lock stays the same for `locks.SILENCE` seconds of the second one's own clock, and it goes on.
  Should it be wrong about that, because the first could not reach the store for so long, the rule above decides.
* Workers of a driver that was cut off may go on for a while and write files of their trials. These are what the new
  driver's workers write, to the byte but for times; a checkpoint may be lost to them and its work be done again.
"""

import json
import os
import re
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from diagram_ray.errors import DataError, DiagramError, UsageError
from diagram_ray.storage.locks import sole_use
from diagram_ray.storage.object_store import RETRY, StorePath

FOLDER = "ledger"
LOCK = ".lock"
NAME = "{:08d}.json"


class Journal:
    """The events in a study's place, open for writing. `count` are there; use inside of `sole_driver`."""

    def __init__(self, folder: StorePath, count: int) -> None:
        self._folder, self._count = folder, count

    def claim(self, event: dict[str, Any]) -> None:
        """Writes `event` with who writes from now on. Raises UsageError if another driver was faster, or if the store
        overwrites what is there: it could not keep two drivers apart."""
        place, data = self._next, _line(event | {"by": _me(), "driver": secrets.token_hex(8)})
        if not place.create(data) and place.read_bytes() != data:
            raise _busy(self._folder)
        if place.create(data):
            raise UsageError(
                f"{place}: this object store overwrites what is there although it was told not to (a conditional "
                "write, If-None-Match: *): two drivers could not be kept apart; choose another --out"
            )
        self._count += 1

    def append(self, event: dict[str, Any]) -> None:
        """Writes one event, durably. Raises DiagramError if another driver has written the one of this number."""
        place, data = self._next, _line(event)
        if not place.create(data) and place.read_bytes() != data:
            raise _taken_over(place)
        self._count += 1

    def check(self) -> None:
        """Raises DiagramError if another driver has taken the study over."""
        if self._next.exists():
            raise _taken_over(self._next)

    @property
    def _next(self) -> StorePath:
        return self._folder / FOLDER / NAME.format(self._count)


def read_events(folder: StorePath) -> list[tuple[str, bytes]]:
    """Place and content of all events of the study in `folder`, in order, also while a driver writes.

    Raises DataError if there is none, or one is missing before others.
    """
    place = folder / FOLDER
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    numbers = sorted(int(name[:8]) for name in names if re.fullmatch(r"[0-9]{8}\.json", name))
    if not numbers:
        raise DataError(f"{place}: no such ledger")
    for number, expected in zip(numbers, range(len(numbers)), strict=True):
        if number != expected:
            raise DataError(f"{place / NAME.format(expected)}: missing, and {NAME.format(number)} is there: damaged")
    objects = [NAME.format(number) for number in numbers]
    return [(f"{place / name}", content) for name, content in zip(objects, place.read_all(objects), strict=True)]


def has_events(folder: StorePath) -> bool:
    """Whether a study was begun in `folder`."""
    return (folder / FOLDER).exists()


@contextmanager
def sole_driver(folder: StorePath) -> Iterator[None]:
    """Holds the lock of the study in `folder`. Raises UsageError if another driver does."""
    with ExitStack() as stack:
        try:
            RETRY(str(folder), lambda: stack.enter_context(sole_use(folder / LOCK, str(folder))))
        except UsageError:
            raise _busy(folder) from None
        yield


def _busy(folder: StorePath) -> UsageError:
    try:
        holder = next(by for _, content in reversed(read_events(folder)) if (by := json.loads(content).get("by")))
    except (DataError, ValueError, StopIteration):
        holder = "another process"
    return UsageError(
        f"{folder}: this study is being run by {str(holder)[:200]}; wait for it or stop it, or write to another --out"
    )


def _taken_over(place: StorePath) -> DiagramError:
    return DiagramError(
        f"{place}: another driver has taken this study over and written this event; this one ends, and what it has "
        "written before stays"
    )


def _line(event: dict[str, Any]) -> bytes:
    return f"{json.dumps(event)}\n".encode()


def _me() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
