"""The child with readers that misbehave, for the watch to tell of. `python -m tests.fuzz.misbehaving SEEDS FOLDER`."""

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from diagram_ray.errors import DataError
from tests.fuzz import child
from tests.fuzz.handmade.registry import add
from tests.fuzz.targets import PreparationProgress, Run

EATEN = 1200 * 2**20
"""Bytes: more than is allowed, less than makes the watch end the child at once."""


def _refuse(reason: str) -> PreparationProgress:
    raise DataError(reason)


def _spin() -> PreparationProgress:
    while True:
        pass


def _block() -> PreparationProgress:
    threading.Event().wait()
    return {}


def _eat() -> PreparationProgress:
    return {"read": len(bytearray(b"x") * EATEN) // EATEN}


def _eat_without_end() -> PreparationProgress:
    eaten = []
    while True:
        eaten.append(bytearray(b"x") * 2**26)


READERS: dict[str, Callable[[], PreparationProgress]] = {
    "reads": lambda: {"read": 1},
    "refuses": lambda: _refuse("images.csv: has no column 'path'"),
    "crashes": os.abort,
    "leaves": lambda: os._exit(0),
    "spins": _spin,
    "blocks": _block,
    "eats": _eat,
    "eats-without-end": _eat_without_end,
    "raises": lambda: {"read": 1 // 0},
    "recurses": lambda: READERS["recurses"](),
    "says-nothing": lambda: _refuse(" "),
    "says-much": lambda: _refuse("x" * 5000),
    "says-bytes": lambda: _refuse("unexpected b'\\x89PNG'"),
    "says-escapes": lambda: _refuse("the name is \x1b[2J"),
}


def _reading(reader: Callable[[], PreparationProgress]) -> Callable[[Path], Run]:
    return lambda folder: lambda source, changed: reader()


for _name, _reader in READERS.items():
    add("planted", _name, _reading(_reader))


if __name__ == "__main__":
    child.main(Path(sys.argv[1]), Path(sys.argv[2]))
