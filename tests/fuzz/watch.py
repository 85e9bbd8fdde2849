"""Children that read hostile sources, and who watches them: time, memory, and whether they live."""

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from tests.support.repository import ROOT

SECONDS = 5.0
"""For one case."""
PATIENCE = 90.0
"""Seconds for one case on the clock, however busy the machine; and for a child to begin."""
MEMORY = 2**30
"""Bytes that a child and its own children may have."""
LEAN = 390 * 2**20
"""Bytes that a child may hold before it turns to another target: one that has PyTorch in it makes way for a new one."""
KEPT = 50 * 2**20
"""Bytes that a child may hold more than after reading good sources; then it makes way for a new one."""
TICK = 0.05


@dataclass(frozen=True)
class Verdict:
    """What became of a case."""

    case: str
    tally: dict[str, int]
    fault: str | None
    """None: all is well."""
    seconds: float = 0.0
    """Without the time in which a busy machine let it wait."""
    peak: int = 0


class Dead(Exception):  # noqa: N818 - a state, not an error of ours
    """A child that ended, or had to be ended, and why."""


@dataclass
class Watch:
    """Some children, started when needed. `close` ends them."""

    seeds: Path
    scratch: Path
    count: int = 2
    module: str = "tests.fuzz.child"
    _children: list["_Child"] = field(default_factory=list)

    def judge(self, cases: Iterable[str]) -> Iterator[Verdict]:
        """A verdict for each case, as they come."""
        wanted: SimpleQueue[str | None] = SimpleQueue()
        total = 0
        for case in cases:
            wanted.put(case)
            total += 1
        while len(self._children) < self.count:
            self._children.append(_Child(self.seeds, self.scratch / f"child-{len(self._children)}", self.module))
        found: SimpleQueue[Verdict | Exception] = SimpleQueue()
        with ThreadPoolExecutor(self.count) as pool:
            for child in self._children:
                pool.submit(_work, child, wanted, found)
            try:
                for _ in range(total):
                    verdict = found.get()
                    if isinstance(verdict, Exception):
                        raise verdict
                    yield verdict
            finally:
                while not wanted.empty():
                    wanted.get()
                for _ in self._children:
                    wanted.put(None)

    def close(self) -> None:
        """Ends the children."""
        for child in self._children:
            child.close()
        self._children.clear()


def _work(child: "_Child", wanted: "SimpleQueue[str | None]", found: "SimpleQueue[Verdict | Exception]") -> None:
    while (case := wanted.get()) is not None:
        try:
            found.put(child.judge(case))
        except Exception as error:  # nobody must wait for ever
            found.put(error)
            return


class _Child:
    def __init__(self, seeds: Path, folder: Path, module: str) -> None:
        self._command = [sys.executable, "-m", module, str(seeds), str(folder)]
        self._process: subprocess.Popen[bytes] | None = None
        self._warm: set[str] = set()
        self._held = 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as this object
        self._rest = b""

    def judge(self, case: str) -> Verdict:
        """Puts a case to the child; a new one takes its place if it dies of it."""
        try:
            target = case.partition("/")[0]
            if self._process is not None and target not in self._warm and _resident(self._process.pid) > LEAN:
                self.end()
            if self._process is None:
                self._start()
            if target not in self._warm:
                self._warm_up(target)
            self._ask({"case": case}, PATIENCE)
            watch = _Watch(self._process.pid)
            answer = self._answer(watch, SECONDS)
        except Dead as error:
            self.end()
            return Verdict(case, {}, f"{error}\n{self._last_words()}", SECONDS)
        seconds = watch.seconds()
        fault = answer["fault"]
        if fault is None and answer["peak"] > MEMORY:
            fault = f"took {answer['peak'] / 2**20:.0f} MiB of memory"
        if _resident(self._process.pid) > self._held + KEPT:
            self.end()  # what it keeps must not be charged to the next case
        return Verdict(case, answer["tally"], fault, seconds, answer["peak"])

    def _warm_up(self, target: str) -> None:
        """Raises RuntimeError: good sources must be good, or nothing is tested."""
        try:
            self._ask({"warm": target}, PATIENCE)
        except Dead as error:
            self.end()
            raise RuntimeError(f"{target}: {error}\n{self._last_words()}") from None
        self._warm.add(target)
        assert self._process is not None
        self._held = _resident(self._process.pid)

    def end(self) -> None:
        """Kills the process."""
        process, self._process = self._process, None
        self._warm, self._rest = set(), b""
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """Ends the process for good."""
        self.end()
        self._said.close()

    def _start(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._said.seek(0)
        self._said.truncate()
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env={**os.environ, **threads, "PYTHONFAULTHANDLER": "1"}, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=self._said, start_new_session=True, bufsize=0,
        )  # fmt: skip

    def _ask(self, question: dict[str, str], seconds: float) -> dict[str, Any]:
        """The (first) answer. Raises Dead as `_answer`."""
        assert self._process is not None
        with suppress(OSError):
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
        return self._answer(_Watch(self._process.pid), seconds)

    def _answer(self, watch: "_Watch", seconds: float) -> dict[str, Any]:
        """The next answer. Raises Dead if the child dies, takes too long or too much memory."""
        assert self._process is not None
        process = self._process
        while (end := self._rest.find(b"\n")) < 0:
            if select.select([process.stdout], [], [], TICK)[0]:
                read = os.read(process.stdout.fileno(), 2**16)
                if not read:
                    raise Dead(f"the process died: status {process.wait()}")
                self._rest += read
                continue
            if watch.clock > seconds and (watch.clock > PATIENCE or watch.seconds() > seconds):
                raise Dead(f"took longer than {seconds:g} s")
            if (resident := _resident(process.pid)) > 2 * MEMORY:
                raise Dead(f"took {resident / 2**20:.0f} MiB of memory")
        line, self._rest = self._rest[:end], self._rest[end + 1 :]
        return dict(json.loads(line))

    def _last_words(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")[-3000:]


class _Watch:
    """Seconds from its making on; those for which the machine had no processor do not count."""

    def __init__(self, pid: int) -> None:
        self._pid, self._began, self._waited = pid, time.monotonic(), _waited(pid)

    @property
    def clock(self) -> float:
        """With those."""
        return time.monotonic() - self._began

    def seconds(self) -> float:
        """Without those."""
        return self.clock - max(0.0, _waited(self._pid) - self._waited)


def _waited(pid: int) -> float:
    """Seconds in which the process and its children were ready to run, and other processes ran."""
    total = 0
    for one in (pid, *_children(pid)):
        for told in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with suppress(OSError, IndexError):
                total += int(told.read_text().split()[1])
    return total / 1e9


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in listed.read_text().split()]
    return found
