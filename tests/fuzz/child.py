"""A process that reads hostile sources one after the other. `watch` starts it and ends it if it does not behave.

    python -m tests.fuzz.child SEEDS FOLDER

A request is a line of JSON with a case's name. The answers are a line when its source is written, and a line with what
became of it, the fault if there was one, and the most memory that this process and its own children had meanwhile.
"""

import ctypes
import json
import os
import resource
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from diagram_ray.errors import UsageError
from tests.fuzz.allcases import HANDMADE
from tests.fuzz.cases import build, seeds_of
from tests.fuzz.judging import check_reason
from tests.fuzz.targets import TARGETS, PreparationProgress

ADDRESSES = 6 * 2**30
"""Bytes of address space: so that what asks for all memory fails here, and not the machine."""


def main(seeds: Path, folder: Path) -> None:
    """Answers until standard input ends, or the process that asks does."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not stand among the answers
    for line in sys.stdin:
        asked = json.loads(line)
        for answer in _warm(seeds, asked["warm"], folder) if "warm" in asked else _case(seeds, asked["case"], folder):
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def _end_with(parent: int) -> None:
    """A case may block for ever, and nobody would be left to kill this process."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _case(seeds: Path, case: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Two answers: when the source is written, which may take long, and when it was read."""
    run = written(seeds, case, folder)
    _forget_peaks()
    yield {}
    tally, fault = judged(run)
    yield {"tally": tally, "fault": fault, "peak": _peak()}


def written(seeds: Path, case: str, folder: Path) -> Callable[[], PreparationProgress]:
    """Writes a case's source in `folder`; returns what reads it."""
    name, _, which = case.partition("/")
    place = _fresh(folder)
    if which.isdigit():
        changed = build(seeds, case, place)
        return lambda: TARGETS[name].run(place, changed)
    run = HANDMADE[case](place) or TARGETS[name].run
    return lambda: run(place, "")


def judged(run: Callable[[], PreparationProgress]) -> tuple[PreparationProgress, str | None]:
    """What became of a case, and the fault if there was one."""
    try:
        try:
            return run(), None
        except UsageError as error:
            check_reason(str(error))
            return {"refused": 1}, None
    except Exception:
        return {}, traceback.format_exc()


def _fresh(folder: Path) -> Path:
    """An empty folder for a source."""
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / "source"
    place.mkdir(parents=True)
    return place


def _warm(seeds: Path, target: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Reads a target's good sources, which must be good, so that no case pays for imports and compilation."""
    for seed in seeds_of(seeds, target):
        place = _fresh(folder)
        shutil.copytree(seeds / target / seed.name, place, dirs_exist_ok=True)
        changed = next(path for path in seed.files if TARGETS[target].format_of(path))
        tally = TARGETS[target].run(place, changed)
        if not tally.get("prepared", 0) + tally.get("read", 0) or tally.get("refused"):
            raise RuntimeError(f"the seed {target}/{seed.name} cannot be read: {tally}")
    yield {}


def _family() -> list[str]:
    """This process and those that it started."""
    pids = ["self"]
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            pids += listed.read_text().split()
    return pids


def _forget_peaks() -> None:
    ctypes.CDLL(None).malloc_trim(0)  # what the writing of the source left behind is not the reader's
    for pid in _family():
        with suppress(OSError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def _peak() -> int:
    """Bytes of memory at the worst moment since `_forget_peaks`."""
    total = 0
    for pid in _family():
        with suppress(OSError):
            told = Path(f"/proc/{pid}/status").read_text()
            total += sum(1024 * int(line.split()[1]) for line in told.splitlines() if line.startswith("VmHWM:"))
    return total


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
