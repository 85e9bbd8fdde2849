"""Where a dataset is prepared, until it appears whole at its place.

On a disk: the hidden folder .NAME.partial beside NAME. The dataset is built in it and renamed.
In an object store: the folder .partial inside. dataset.json, without which nothing is a dataset, is written last.

What a run that was cut off leaves there, the next one goes on with, if it is asked for the same settings.
"""

import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
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
    open_place,
    read_info,
)
from diagram_ray.data.parquet.pieces import put, whole_pieces
from diagram_ray.data.parquet.shard_writer import as_json
from diagram_ray.errors import DataError, UsageError
from diagram_ray.storage.locks import sole_use
from diagram_ray.storage.opening import is_local

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
    files: Any
    place: str
    """The path of the dataset on `files`."""
    path: str
    """The path of the work area on `files`."""
    old: dict[str, Any] | None
    """The dataset.json of the dataset that is to be replaced; None if there is none."""
    check: Callable[[], None]
    """Raises DiagramError if the destination is not ours any more."""

    @property
    def pieces(self) -> str:
        """The folder of pieces."""
        return f"{self.path}/{PIECES}"

    def make_draft(self) -> str:
        """An empty folder to build the dataset in."""
        self.check()
        if is_local(self.files):
            draft = f"{self.path}/{DRAFT}"
            shutil.rmtree(draft, ignore_errors=True)
            for folder in (IMAGES, PATCHES):
                Path(draft, folder).mkdir(parents=True)
            return draft
        self._sweep(keep=None if self.old is None else str(self.old.get("folder", "")))
        return self.place if self.old is None else f"{self.place}/v-{secrets.token_hex(4)}"

    def publish(self, draft: str, info: dict[str, Any]) -> dict[str, Any]:
        """Makes the dataset in `draft` appear; returns its dataset.json as it is there. Raises UsageError."""
        self.check()
        if is_local(self.files):
            put(self.files, f"{draft}/{INFO}", as_json(info))
            _exchange(Path(draft), Path(self.place), self.out, instead=self.old is not None)
            return info
        folder = draft.removeprefix(self.place).strip("/")
        info = info | ({"folder": folder} if folder else {})
        put(self.files, f"{self.place}/{INFO}", as_json(info))
        self._sweep(keep=folder)
        return info

    def remove(self) -> None:
        """Removes the work area, but for its lock."""
        if is_local(self.files):
            shutil.rmtree(self.path, ignore_errors=True)
            return
        for name in (PIECES, SETTINGS):
            with suppress(FileNotFoundError):
                self.files.rm(f"{self.path}/{name}", recursive=True)

    def _sweep(self, keep: str | None) -> None:
        """Removes what belongs to no dataset any more. `keep`: the folder of the one that is there, '' for `place`."""
        self.files.invalidate_cache()
        for path in self.files.ls(self.place, detail=False):
            name = str(path).rstrip("/").rpartition("/")[2]
            current = name == keep if name.startswith("v-") else keep == ""
            if OURS.fullmatch(name) and not current:
                self.files.rm(path, recursive=True)


@contextmanager
def work_area(out: str, settings: dict[str, Any], update: bool) -> Iterator[WorkArea]:
    """The work area of `out`, locked. It stays if the work in it is cut off, unless there is no piece in it yet.

    Raises UsageError if another run is at work there, if `out` holds something (a dataset may be there if it is to be
    updated), if `settings` differ from those of what is there, or if it cannot be written.
    """
    files, place = open_place(out)
    path = str(Path(place).with_name(f".{Path(place).name}.partial")) if is_local(files) else f"{place}/{UNFINISHED}"
    with ExitStack() as stack:
        with _writable(out):
            check = stack.enter_context(sole_use(files, f"{path}/{LOCK}", f"--out {out}"))
        area = WorkArea(out, files, place, path, None, check)
        stack.callback(_remove_if_empty, area)
        files.invalidate_cache()
        if is_local(files):
            _restore(Path(place))
        old = _old(area, settings) if update else None
        if old is None:
            check_vacant(out)
        with _writable(out):
            _check_settings(area, settings)
        yield replace(area, old=old)


def _remove_if_empty(area: WorkArea) -> None:
    if not whole_pieces(area.files, area.pieces):
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
    if not area.files.exists(f"{area.place}/{INFO}"):
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
    path = f"{area.path}/{SETTINGS}"
    if not area.files.exists(path) or not whole_pieces(area.files, area.pieces):
        put(area.files, path, json.dumps(settings, indent=1).encode())
        return
    before = json.loads(area.files.cat_file(path))
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


def _exchange(draft: Path, place: Path, out: str, instead: bool) -> None:
    replaced = _replaced(place)
    shutil.rmtree(replaced, ignore_errors=True)
    if instead:
        place.rename(replaced)
    try:
        draft.rename(place)  # over an empty folder too, but over no other
    except OSError as error:
        if instead:
            replaced.rename(place)
        raise UsageError(f"--out {out}: was filled by somebody else meanwhile: {error.strerror}") from None
    shutil.rmtree(replaced, ignore_errors=True)
