"""What an examination of a study's folder finds: where, what, and what would put it right."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from diagram_ray.places import Place, remove

Mend = Callable[[], object]
CLOSE = 1e-9
"""AUCs that differ by less are the same: they are computed in two ways."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    where: str
    what: str
    mend: Mend | None = None
    """Puts it right; None: it cannot be put right from what is there."""


def inside(folder: Place, path: Place) -> str:
    """The path in the study's folder, as findings name it."""
    return str(path).removeprefix(f"{folder}/")


def superfluous(folder: Place, path: Place, why: str) -> Finding:
    """A file or folder that is to be removed."""
    mend = partial(remove, path) if path.is_dir() and not path.is_symlink() else path.unlink
    return Finding(inside(folder, path), f"left over: {why}", mend)
