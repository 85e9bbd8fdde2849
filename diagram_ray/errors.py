"""What can go wrong, sorted by who can correct it.

Every message is one sentence or a few that say what was wrong (with its value), where it stands (file, key, tag, row,
patient, fold) and what is allowed. The commands print it and exit with `exit_code`; they never show a traceback.
"""

LONGEST = 500
"""Characters that are quoted of a library's error."""


def one_line(error: Exception) -> str:
    """The kind and words of a library's error on one line that a terminal can show: they may quote a damaged file."""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
    return "".join(character if character.isprintable() else "?" for character in words)


class DiagramError(Exception):
    """A failure while working (exit code 1): a disk, a worker, a model that diverged."""

    exit_code = 1


class UsageError(DiagramError):
    """Something the user asked for cannot be done as asked (exit code 2): an argument, a path, a key, a table."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration, study file or override that is not valid. The message names the file and the key."""


class DataError(UsageError):
    """A dataset, table or image that cannot be used. The message names the file and the row, tag or patient."""


class LeakageError(DataError):
    """A patient stands on both sides of a split. The message names the patient and the folds."""


class MismatchError(DataError):
    """A checkpoint of another configuration, dataset or split. The message names what differs, with both values."""


class OutOfMemory(DiagramError):  # noqa: N818 - what happened to the trial, and the trial's reason
    """Memory ran out, and smaller micro-batches do not help. The message begins with "out of memory"."""


class CheckpointError(DiagramError):
    """A checkpoint cannot be written or fetched, after several attempts. The message names the last good one."""


class StoreError(DiagramError):
    """An object store does not answer, or refuses, also after several attempts. The message names the URI."""
