"""A study's folder: made once, described in study.yaml, and opened again by --resume."""

import importlib.metadata
import platform
import shlex
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from diagram_ray.config import ExperimentConfig, build_recorded
from diagram_ray.errors import DataError, UsageError
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, discard
from diagram_ray.study.config import StudyConfig, build_study
from diagram_ray.study.ledger import has_ledger, read_ledger
from diagram_ray.yaml_text import read_yaml

DOCUMENT = "study.yaml"
PACKAGES = ("diagram_ray", "ray", "optuna", "torch", "numpy", "scikit-learn", "pyarrow")


@dataclass(frozen=True)
class Plan:
    """The checked plan of a study: what `tune` is to do."""

    study: StudyConfig
    base: ExperimentConfig
    """The configuration that every trial starts from."""
    data: str
    """Path or URI of the prepared dataset."""
    out: Place | None
    """The study's folder. None: runs/<name>-<n>."""
    resume: bool = False

    @property
    def where(self) -> str:
        """The study's folder in messages."""
        return str(self.out)


def read_plan(folder: Place) -> Plan:
    """The plan of the study in `folder`, as it was run. Raises UsageError if there is none."""
    if not (folder / DOCUMENT).is_file():
        raise UsageError(f"{folder}: not a study: it has no {DOCUMENT}")
    document, where = read_yaml(folder / DOCUMENT), str(folder / DOCUMENT)
    try:
        # As it was run: the defaults of this version may be others.
        base = build_recorded(document["experiment"], where)
        study, _ = build_study(document["study"], where, start=lambda _: base)
        return Plan(study, base, str(document["dataset"]["uri"]), folder, resume=True)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: cannot be resumed: {error!r} is missing or of the wrong kind") from None


def make_folder(out: Place | None, name: str) -> Place:
    """Makes the folder of a new study: `out`, or the first free runs/<name>-<n>. Raises UsageError if it is taken."""
    if out is not None:
        check_free(out)
        out.mkdir(parents=True, exist_ok=True)
        return out.absolute()
    number = 1
    while True:
        folder = Path("runs") / f"{name}-{number}"
        try:
            folder.mkdir(parents=True)
            return folder.absolute()
        except FileExistsError:
            number += 1


def check_free(out: Place) -> None:
    """Raises UsageError if a new study cannot be put into `out`.

    In an object store a ledger without trials is taken up: a driver ended before the study had a plan, and the ledger
    keeps it out should it come back.
    """
    begun = has_ledger(out)
    empty = begun and isinstance(out, StorePath) and not read_ledger(out)
    if (out / DOCUMENT).exists() or (begun and not empty):
        raise UsageError(f"{out}: holds a study already; go on with it by --resume {out}, or choose another --out")
    if not empty and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists and is not an empty folder; choose another --out")


def new_document(
    plan: Plan, dataset: Mapping[str, Any], classes: tuple[str, ...], initial: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of study.yaml at the beginning. `plan` has nothing left open, so that a resumed study decides alike.

    `initial` says with which weights the trials start, if they do not start anew.
    """
    return {
        "id": uuid.uuid4().hex,
        "study": plan.study.model_dump(mode="json"),
        "experiment": plan.base.model_dump(mode="json"),
        "dataset": {**dataset, "uri": plan.data},
        "classes": list(classes),
        "init_from": dict(initial) if initial is not None else None,
        "versions": versions(),
        "command": command_line(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": 0.0,
        "interrupted": None,
    }


def command_line() -> str:
    """The command that this process was started with. A `__main__.py` goes by the name of its package."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])


def write_document(folder: Place, document: Mapping[str, Any]) -> None:
    """Writes study.yaml, atomically."""
    text = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, width=120)
    write_atomic(folder / DOCUMENT, text)


def versions() -> dict[str, str]:
    """Versions of the packages that decide the results."""
    by_package = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            by_package[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return by_package


SCRATCH = ".tune-"
"""Prefix of the folders for what Ray insists on writing."""
OF_DISKS = (".best.*", "page.url", "**/.*.[0-9]*-*")
"""Patterns of models half put in place, a page's address, drafts. No study in an object store makes them; a copy
may."""


def leftovers(folder: Place) -> list[Place]:
    """Files and folders that killed processes have left; to be called while nobody works on the study."""
    return _found(folder, f"{SCRATCH}*", *OF_DISKS)


def clear(folder: Place) -> None:
    """Removes what killed processes have left. In an object store only Ray's folders: else it would list every
    object."""
    for place in leftovers(folder) if isinstance(folder, Path) else _found(folder, f"{SCRATCH}*"):
        discard(place)


def _found(folder: Place, *patterns: str) -> list[Place]:
    places: list[Place] = []
    for pattern in patterns:
        places += folder.glob(pattern)
    return sorted(places, key=str)
