"""Where a dataset is prepared, until it appears whole at its place.

On a disk: the hidden folder .NAME.partial beside NAME. The dataset is built in it and renamed.
In an object store: the folder .partial inside. dataset.json, without which nothing is a dataset, is written last.

What a run that was cut off leaves there, the next one goes on with, if it is asked for the same settings.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diagram_ray.data.parquet.layout import (
    IMAGES,
    INFO,
    MANIFEST,
    PATCHES,
    REJECTS,
    SOURCES,
    UNFINISHED,
    check_vacant,
    read_info,
)
from diagram_ray.data.parquet.pieces import whole_pieces
from diagram_ray.data.parquet.shard_writer import as_json
from diagram_ray.errors import DataError, UsageError
from diagram_ray.storage.atomic import exchange_folder, write_atomic
from diagram_ray.storage.locks import sole_use
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.opening import open_place
from diagram_ray.storage.paths import Place, remove

SETTINGS = "settings.json"
LOCK = "lock"
PIECES = "pieces"
DRAFT = "dataset"
OURS = re.compile(r"v-[0-9a-f]{8}|" + "|".join(map(re.escape, (IMAGES, PATCHES, MANIFEST, REJECTS, SOURCES))))
"""What else than dataset.json is at the place of a dataset."""


@dataclass(frozen=True)
class WorkArea:
    """A destination that is ours alone for now."""

    out: str
    """The place of the dataset as the user wrote it."""
    place: Place
    """The place of the dataset."""
    path: Place
    """The place of the work area."""
    old: dict[str, Any] | None
    """The dataset.json of the dataset that is to be replaced; None if there is none."""
    check: Callable[[], None]
    """Raises DiagramError if the destination is not ours any more."""

    @property
    def pieces(self) -> Place:
        """The folder of pieces."""
        return self.path / PIECES

    def make_draft(self) -> Place:
        """An empty folder to build the dataset in."""
        self.check()
        if isinstance(self.path, Path):
            draft = self.path / DRAFT
            remove(draft)
            for folder in (IMAGES, PATCHES):
                (draft / folder).mkdir(parents=True)
            return draft
        self._sweep(keep=None if self.old is None else str(self.old.get("folder", "")))
        return self.place if self.old is None else self.place / f"v-{secrets.token_hex(4)}"

    def publish(self, draft: Place, info: dict[str, Any]) -> dict[str, Any]:
        """Makes the dataset in `draft` appear; returns its dataset.json as it is there. Raises UsageError."""
        self.check()
        if isinstance(draft, Path) and isinstance(self.place, Path):
            write_atomic(draft / INFO, as_json(info))
            self._exchange(draft, self.place)
            return info
        folder = "" if draft == self.place else draft.name
        info = info | ({"folder": folder} if folder else {})
        write_atomic(self.place / INFO, as_json(info))
        self._sweep(keep=folder)
        return info

    def remove(self) -> None:
        """Removes the work area; in an object store all but its lock."""
        if isinstance(self.path, Path):
            remove(self.path)
            return
        for name in (PIECES, SETTINGS):
            remove(self.path / name)

    def _exchange(self, draft: Path, place: Path) -> None:
        try:
            exchange_folder(draft, place, _replaced(place), instead=self.old is not None)
        except OSError as error:
            raise UsageError(f"--out {self.out}: was filled by somebody else meanwhile: {error.strerror}") from None

    def _sweep(self, keep: str | None) -> None:
        """Removes what belongs to no dataset any more. `keep`: the folder of the one that is there, '' for `place`."""
        for path in self.place.iterdir():
            current = path.name == keep if path.name.startswith("v-") else keep == ""
            if OURS.fullmatch(path.name) and not current:
                remove(path)


@contextmanager
def work_area(out: str, settings: dict[str, Any], update: bool) -> Iterator[WorkArea]:
    """The work area of `out`, locked. It stays if the work in it is cut off, unless there is no piece in it yet.

    Raises UsageError if another run is at work there, if `out` holds something (a dataset may be there if it is to be
    updated), if `settings` differ from those of what is there, or if it cannot be written.
    """
    place = open_place(out)
    path = place / UNFINISHED if isinstance(place, StorePath) else place.with_name(f".{place.name}.partial")
    with ExitStack() as stack:
        with _writable(out):
            check = stack.enter_context(sole_use(path / LOCK, f"--out {out}"))
        area = WorkArea(out, place, path, None, check)
        stack.callback(_remove_if_empty, area)
        if isinstance(place, Path):
            _restore(place)
        old = _old(area, settings) if update else None
        if old is None:
            check_vacant(out)
        with _writable(out):
            _check_settings(area, settings)
        yield replace(area, old=old)


def _remove_if_empty(area: WorkArea) -> None:
    if not whole_pieces(area.pieces):
        area.remove()


@contextmanager
def _writable(out: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise UsageError(f"--out {out}: cannot be written: {reason}") from None


def _old(area: WorkArea, settings: dict[str, Any]) -> dict[str, Any] | None:
    """dataset.json of the dataset that is there, if any. Raises UsageError if it was made with other settings."""
    if not (area.place / INFO).exists():
        return None
    try:
        old = read_info(area.out)
    except DataError as error:
        raise UsageError(f"--update: {error}") from None
    if differing := _differences({name: old[name] for name in settings if name in old}, settings):
        raise UsageError(
            f"--update: {area.out} was prepared with other settings: {differing}; give another --out for these"
        )
    return old


def _check_settings(area: WorkArea, settings: dict[str, Any]) -> None:
    """Those of what an earlier run has left, which must be the same, or ours to be left."""
    path = area.path / SETTINGS
    if not path.exists() or not whole_pieces(area.pieces):
        write_atomic(path, json.dumps(settings, indent=1))
        return
    before = json.loads(path.read_bytes())
    if differing := _differences(before, settings):
        raise UsageError(
            f"--out {area.out}: an unfinished run with other settings has left its work in {area.path}: {differing}; "
            "ask for the same settings to go on with it, or remove that folder to start over"
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> str:
    return ", ".join(
        "another key for the hashes of patients" if name == "key_id" else f"{name} {before[name]} there, {value} now"
        for name, value in now.items()
        if name in before and before[name] != value
    )


def _restore(place: Path) -> None:
    """Puts a dataset back whose replacement was cut off between two renames."""
    replaced = _replaced(place)
    if replaced.exists() and not place.exists():
        replaced.rename(place)


def _replaced(place: Path) -> Path:
    return place.with_name(f".{place.name}.replaced")
