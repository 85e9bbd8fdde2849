"""A file system in memory that fails and waits as a test tells it to."""

import threading
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class FlakyFiles(MemoryFileSystem):
    """`flaky://`: the next writes and reads raise what is in `writes` and `reads`; None lets one through."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    cachable = False
    writes: ClassVar[list[Exception | None]] = []
    reads: ClassVar[list[Exception | None]] = []
    gate = threading.Event()
    """A write waits until it is set."""
    gate.set()
    written: ClassVar[list[str]] = []
    """Paths, in the order in which writing them began and ended: '+path', '-path'."""
    begun = threading.Event()

    @classmethod
    def reset(cls) -> None:
        """As new, and open."""
        for shared in (cls.store, cls.writes, cls.reads, cls.written):
            shared.clear()
        cls.gate.set()
        cls.begun.clear()

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        name = "/".join(path.split("/")[-2:])
        self.written.append(f"+{name}")
        self.begun.set()
        assert self.gate.wait(60)
        if self.writes and (error := self.writes.pop(0)) is not None:
            raise error
        super().pipe_file(path, value, mode, **kwargs)
        self.written.append(f"-{name}")

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        if self.reads and (error := self.reads.pop(0)) is not None:
            raise error
        return super().cat_file(path, start, end, **kwargs)


fsspec.register_implementation("flaky", FlakyFiles, clobber=True)
