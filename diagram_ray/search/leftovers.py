"""What processes that are killed leave in a study's folder. Nobody asks for it again."""

from pathlib import Path

from diagram_ray.places import Place, remove

SCRATCH = ".tune-*"
"""Folders for what Ray insists on writing."""
OF_DISKS = (".best.*", "page.url", "**/.*.[0-9]*-*")
"""Models half put in place, a page's address, drafts of files: an object store has none of them."""


def leftovers(folder: Place) -> list[Place]:
    """Files and folders, while nobody works on the study."""
    found: list[Place] = []
    for pattern in (SCRATCH, *(OF_DISKS if isinstance(folder, Path) else ())):
        found += folder.glob(pattern)
    return sorted(found, key=str)


def discard(place: Place) -> None:
    """Removes a file or a folder, if it is there; a link, not what it leads to."""
    if place.is_dir() and not place.is_symlink():
        remove(place)
    else:
        place.unlink(missing_ok=True)
