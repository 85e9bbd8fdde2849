"""Pixels that do not fit in memory: one file a machine, mapped by all processes on it.

Minibatches are drawn at random from the whole dataset (`training/batches.py`), which a stream of shards cannot serve
without drawing others. A mapped file can: the system keeps in memory what there is room for, once for all trials and
folds of a machine, and batches are the same to the last bit. Sent to another process, the arrays are a few words that
say where they come from; on a machine that has no such file yet, it is made there from the shards.

The files lie in the folder that DIAGRAM_RAY_CACHE names, or else in the machine's temporary folder. They stay for the
next study and may be removed at any time.
"""

import fcntl
import hashlib
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.layout import read_info
from diagram_ray.data.parquet.loader import Fill, in_memory, read_training_data
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError

CACHE = "DIAGRAM_RAY_CACHE"
LARGEST_PART = 0.25
"""The largest part of the machine's memory that pixels may take: Ray's store for what processes share is 0.3 of it."""
LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
Where = Literal["auto", "memory", "disk"]


@dataclass(frozen=True)
class Origin:
    """Where a dataset's pixels come from, so that any machine can have them."""

    uri: str
    config: DataConfig
    fingerprint: str

    @property
    def folder(self) -> Path:
        """The folder of the files on this machine."""
        identity = f"{self.fingerprint} {self.config.model_dump_json()}"
        return _cache() / hashlib.sha256(identity.encode()).hexdigest()[:24]

    def read(self, least: float = 0.0) -> TrainingData:
        """The dataset, with pixels of more than `least` bytes in files, which are made if they are not there."""
        data = read_training_data(self.uri, self.config, partial(_hold, self, least))
        if data.fingerprint != self.fingerprint:
            raise DataError(f"{self.uri}: was changed meanwhile: its fingerprint is {data.fingerprint}")
        return data


class MappedPixels(np.memmap[Any, np.dtype[np.uint16]]):
    """Pictures in a file. Indices give ordinary arrays."""

    origin: Origin | None = None
    """Where the pixels come from; None if this is not the whole file."""

    def __getitem__(self, index: Any) -> Any:
        """The pixels at an index, as an ordinary array."""
        return np.asarray(super().__getitem__(index))

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What is sent to another process: the origin of a whole file, else the pixels."""
        if self.origin is None or self.filename is None:
            return np.asarray(self).__reduce_ex__(protocol)
        return _there, (self.origin, Path(self.filename).stem)


def open_training_data(uri: str, config: DataConfig, where: Where = "auto") -> TrainingData:
    """The data of `read_training_data`, with the pixels in a mapped file if `where` says so or they are large for this
    machine.

    Raises DataError, also if the disk has no room.
    """
    if where == "memory":
        return read_training_data(uri, config)
    origin = Origin(uri, config, str(read_info(uri)["fingerprint"]))
    return origin.read(least=0.0 if where == "disk" else LARGEST_PART * memory())


def memory() -> int:
    """Bytes of this machine's memory, or of the container's if that has less."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in LIMITS:
        if path.is_file() and (limit := path.read_text().strip()).isdecimal():
            limits.append(int(limit))
    return min(limits)


def _there(origin: Origin, name: str) -> NDArray[np.uint16]:
    """The pictures on this machine."""
    path = origin.folder / f"{name}.npy"
    if not path.is_file():
        origin.read()
    return _open(origin, path)


def _open(origin: Origin, path: Path) -> NDArray[np.uint16]:
    pixels: MappedPixels = np.load(path, mmap_mode="r", allow_pickle=False).view(MappedPixels)
    pixels.origin = origin
    return pixels


def _hold(origin: Origin, least: float, name: str, shape: tuple[int, ...], fill: Fill) -> NDArray[np.uint16]:
    """The pictures in a file, which is whole or not there; in memory if they are small."""
    if 2 * math.prod(shape) <= least:
        return in_memory(name, shape, fill)
    path = origin.folder / f"{name}.npy"
    with _locked(origin.folder):
        if not path.is_file():
            _make(path, shape, fill)
    pixels = _open(origin, path)
    if pixels.shape != shape:
        raise DataError(f"{path}: holds {pixels.shape} pixels and not {shape}; remove it")
    return pixels


def _make(path: Path, shape: tuple[int, ...], fill: Fill) -> None:
    draft = path.with_suffix(".part")
    try:
        _fill(draft, shape, fill)
        draft.rename(path)
    except OSError as error:
        raise DataError(
            f"{path}: {2 * math.prod(shape) / 2**30:.1f} GiB of pixels cannot be written: {error.strerror}; "
            f"let {CACHE} name a folder with more room"
        ) from None
    finally:
        draft.unlink(missing_ok=True)


def _fill(draft: Path, shape: tuple[int, ...], fill: Fill) -> None:
    pixels = np.lib.format.open_memmap(draft, mode="w+", dtype=np.uint16, shape=shape)
    with draft.open("rb+") as file:
        os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))  # a full disk would else kill the process
    fill(pixels)
    pixels.flush()


def _cache() -> Path:
    """A folder that nobody else can write to."""
    named = os.environ.get(CACHE)
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"diagram_ray-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise DataError(f"{folder}: belongs to somebody else; let {CACHE} name a folder of your own")
    return folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process of a machine at a time makes the files; the others wait for them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
