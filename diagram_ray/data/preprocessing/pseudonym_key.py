"""The key that patients' ids are hashed with: made once, kept from others, never overwritten.

Whoever has the key and a guess of an id can tell whether that patient is in a dataset; without the key nobody can. The
same key gives the same hashes, so datasets prepared with it can be joined and checked against each other for patients
they share.
"""

import logging
import os
import secrets
import stat
import tempfile
from pathlib import Path

from diagram_ray.errors import UsageError

PLACE = "DIAGRAM_RAY_KEY"
"""The environment variable that names the key's file."""
LEAST, MOST = 16, 4096
"""The least and the most bytes of a key."""

log = logging.getLogger(__name__)


def read_key(path: Path | None) -> bytes:
    """The key in `path`; if None, the user's own, in $DIAGRAM_RAY_KEY or ~/.config/diagram_ray/patient.key.

    The user's own key is made when first asked for. One that `path` names must be there: with a key made for a mistyped
    name the hashes would fit no other dataset's. White space around a key does not count. Raises UsageError if the key
    is missing, cannot be read or made, is no file, or has less than 16 or more than 4096 bytes. A key that others may
    read is used with a warning.
    """
    if path is not None:
        return _read(path, "--key")
    place = _own_place()
    source = f"${PLACE}" if os.environ.get(PLACE) else "the key"
    try:
        if not place.exists():
            _make(place)
    except OSError as error:
        raise UsageError(f"{source} {place}: cannot be made: {error.strerror}; give --key FILE") from None
    return _read(place, source)


def _own_place() -> Path:
    named = os.environ.get(PLACE)
    return Path(named) if named else Path.home() / ".config" / "diagram_ray" / "patient.key"


def _read(path: Path, source: str) -> bytes:
    try:
        # Not blocking: a named pipe would be waited for without end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise UsageError(f"{source} {path}: is not a file; a key is a file of {LEAST} to {MOST} bytes")
            key = file.read(MOST + 1).strip()
    except OSError as error:
        raise UsageError(f"{source} {path}: cannot be read: {error.strerror}") from None
    if not LEAST <= len(key) <= MOST:
        many = f"more than {MOST}" if len(key) > MOST else str(len(key))
        raise UsageError(f"{source} {path}: has {many} bytes; a key has at least {LEAST} and at most {MOST}")
    if state.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("%s: other users may read this key of patients' ids; `chmod 600` keeps it from them", path)
    return key


def _make(place: Path) -> None:
    """Puts a new key in its place, whole or not at all. If another process did so meanwhile, that one's key stays."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")  # readable by the user alone
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, place)
        log.info(
            "%s: a new key for the hashes of patients' ids; keep it with the datasets that are made with it", place
        )
    except FileExistsError:
        pass
    finally:
        Path(draft).unlink()
