"""The file phantom.json: what a folder of phantoms was made with, so that an equal call can use it again."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diagram_ray.errors import DataError

NAME = "phantom.json"


def settings(patients: int, seed: int, difficulty: float, height: int) -> dict[str, Any]:
    """What the files depend on, this program's own code among it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    arguments = {"patients": patients, "seed": seed, "difficulty": difficulty, "height": height}
    return arguments | {"program": digest.hexdigest()[:16]}


def write_settings(folder: Path, values: dict[str, Any]) -> None:
    """Writes phantom.json."""
    (folder / NAME).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def already_made(out: Path, values: dict[str, Any]) -> bool:
    """Whether `out` holds the files of an equal call. Raises DataError if they are those of another one."""
    try:
        before = json.loads((out / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(before, dict):
        return False
    differing = [name for name, value in values.items() if before.get(name) != value]
    if differing == ["program"]:
        raise DataError(f"{out}: holds phantoms that another version of this program has made; remove it")
    if differing:
        differences = ", ".join(f"{name} {before.get(name)} there, {values[name]} now" for name in differing)
        raise DataError(f"{out}: holds other phantoms ({differences}); remove it or give a new folder")
    return True


@contextmanager
def raw_folder(
    source: str | None, out: str, patients: int, seed: int, difficulty: float, height: int
) -> Iterator[Path]:
    """The folder for the files of the phantom dataset `out`: `source`, or one that goes when the dataset is whole.

    A run that is cut off leaves it on the disk, and an equal one goes on with it.
    """
    if source:
        yield Path(source)
    elif "://" in out:
        with tempfile.TemporaryDirectory(prefix="phantom-") as scratch:
            yield Path(scratch) / "raw"
    else:
        raw = Path(out).with_name(f".{Path(out).name}.phantom")
        try:
            already_made(raw, settings(patients, seed, difficulty, height))
        except DataError:  # of a run that made others
            shutil.rmtree(raw)
        yield raw
        shutil.rmtree(raw, ignore_errors=True)
