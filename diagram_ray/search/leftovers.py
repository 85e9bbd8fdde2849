"""What processes that are killed leave in a study's folder. Nobody asks for it again."""

from pathlib import Path

from diagram_ray.places import Place, discard

SCRATCH = ".tune-"
"""What folders begin with that are for what Ray insists on writing."""
OF_DISKS = (".best.*", "page.url", "**/.*.[0-9]*-*")
"""Models half put in place, a page's address, drafts of files. No study in an object store makes them; a copy may."""


def leftovers(folder: Place) -> list[Place]:
    """Files and folders, while nobody works on the study."""
    return _found(folder, f"{SCRATCH}*", *OF_DISKS)


def clear(folder: Place) -> None:
    """Removes them. In an object store it looks for Ray's folders alone: it would have to list every object."""
    for place in leftovers(folder) if isinstance(folder, Path) else _found(folder, f"{SCRATCH}*"):
        discard(place)


def _found(folder: Place, *patterns: str) -> list[Place]:
    found: list[Place] = []
    for pattern in patterns:
        found += folder.glob(pattern)
    return sorted(found, key=str)
