"""From a case's name to its folder: `TARGET/NUMBER` is a damaged seed, `TARGET/NAME` one that was written by hand."""

import os
import shutil
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from tests.fuzz.formats import FORMATS
from tests.fuzz.mutation import mutated
from tests.fuzz.targets import TARGETS, Target

TREE_SHARE = 0.08
"""Part of the cases in which the tree is damaged, and not only a file in it."""
ODD_NAMES = (
    "a b.dcm", "ü.dcm", "x\ny.png", "x\x1b[2Jy.dcm", "..dcm", "x.dcm.gz.gz", "CON", "a::b.dcm", "*.dcm", "[a].png",
    "x" * 200 + ".dcm", "\u202egnp.dcm", "%2e%2e.dcm", ".hidden.dcm", "-rf.dcm", "file:.dcm", "~.dcm", "\udcff.dcm",
)  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A good source in memory."""

    name: str
    files: dict[str, bytes]
    """Path -> content."""


@lru_cache
def seeds_of(root: Path, target: str) -> list[Seed]:
    """The good sources of a target."""
    return [
        Seed(
            place.name,
            {str(path.relative_to(place)): path.read_bytes() for path in sorted(place.rglob("*")) if path.is_file()},
        )
        for place in sorted((root / target).iterdir())
    ]


def build(seeds: Path, case: str, folder: Path) -> str:
    """Writes a damaged source to `folder`, which is new; returns the path of the damaged file in it."""
    name = case.partition("/")[0]
    random, target, known = Random(case), TARGETS[name], seeds_of(seeds, name)
    seed = random.choice(known)
    path = random.choice(_damageable(seed, target))
    kind = target.format_of(path)
    others = [
        one.files[other] for one in known for other in _damageable(one, target) if target.format_of(other) == kind
    ]
    files = dict(seed.files)
    files[path] = mutated(files[path], FORMATS[kind or "raw"], random, random.choice(others))
    for inside, data in files.items():
        place = folder / inside
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    if random.random() < TREE_SHARE:
        _damage_tree(folder, random)
    return path


def _damageable(seed: Seed, target: Target) -> list[str]:
    return [path for path in seed.files if target.format_of(path)]


def _damage_tree(folder: Path, random: Random) -> None:
    """A file vanishes, moves, changes places with another, or becomes something that is no file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    one, other = random.choice(files), random.choice(files)
    match random.randrange(8):
        case 0:
            one.unlink()
        case 1:
            one.rename(one.with_name(random.choice(ODD_NAMES)))
        case 2:
            content = one.read_bytes()
            one.write_bytes(other.read_bytes())
            other.write_bytes(content)
        case 3:
            one.write_bytes(b"")
        case 4:
            one.unlink()
            one.mkdir()
        case 5:
            one.unlink()
            os.mkfifo(one)
        case 6:
            one.unlink()
            one.symlink_to(random.choice((one.name, "nowhere", "/dev/zero", "/dev/tty", "/etc/passwd", other.parent)))
        case 7:
            shutil.copytree(folder, folder.with_name("copy"), symlinks=True)
            folder.with_name("copy").rename(folder / "inside")
