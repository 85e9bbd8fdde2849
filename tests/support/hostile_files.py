"""A file system for tests that does to its reader what the folder named by HOSTILE_FILES asks for: a file a wish.

    kill-NAME   whoever opens NAME is killed
    once-NAME   the same, but only the first time
    gate-NAME   a FIFO: NAME opens when somebody has opened the FIFO for writing

Everything else of hostile:///a/b/NAME is the local file /a/b/NAME. Each opening leaves a file opened-NAME-<number>, in
which stands how many were opened and are in no whole piece of the folder that `pieces` names.
"""

import os
import signal
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem


class HostileFiles(LocalFileSystem):
    protocol = "hostile"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("hostile://").rstrip("/") or "/"

    def unstrip_protocol(self, name: str) -> str:
        return f"hostile://{self._strip_protocol(name)}"

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **options: Any) -> BinaryIO:
        wishes, name = Path(os.environ["HOSTILE_FILES"]), path.rpartition("/")[2]
        mine = wishes / f"opened-{name}-{uuid.uuid4().hex}"
        mine.touch()
        mine.write_text(str(in_flight(wishes)))
        if (wishes / f"gate-{name}").exists():
            (wishes / f"gate-{name}").read_bytes()
        if (wishes / f"once-{name}").exists():
            (wishes / f"once-{name}").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if (wishes / f"kill-{name}").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._open(path, mode, block_size, **options)


def in_flight(wishes: Path) -> int:
    """Images that were opened and are in no whole piece, where pieces are of one image."""
    if not (wishes / "pieces").exists():
        return 0
    pieces = Path((wishes / "pieces").read_text())
    whole = {path.name for path in pieces.glob("*.parquet")} if pieces.exists() else set()
    return len(list(wishes.glob("opened-*"))) - len([name for name in whole if not name.endswith("-patches.parquet")])
