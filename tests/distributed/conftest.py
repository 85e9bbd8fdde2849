"""What the tests of preparation share: films, a file system that misbehaves when asked to, and a Ray that knows it."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import ray
from PIL import Image

from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.readers import inbreast
from diagram_ray.data.records import Index
from diagram_ray.distributed.session import ray_session
from tests.support.hostile_files import HostileFiles
from tests.support.object_store import wait
from tests.support.repository import ROOT


def draw_films(root: Path, count: int = 6, shape: tuple[int, int] = (240, 180), first: int = 0) -> Path:
    """Small films in class folders, benign and malignant in turn, one a patient: those from `first` to `count`."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    breast = ((y / shape[0] - 0.5) / 0.375) ** 2 + (x / shape[1] / 0.6) ** 2 < 1
    for number in range(first, count):
        noise = np.random.default_rng(number)
        film = np.where(breast, noise.normal(150, 25, shape), 5).clip(0, 255).astype(np.uint8)
        path = root / ("malignant" if number % 2 else "benign") / f"{number + 1}_1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(film).save(path)
    return root


@pytest.fixture(scope="session")
def films() -> Callable[..., Path]:
    return draw_films


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("phantom") / "raw"
    make_phantom(raw, 12, 0, 0.3, 208, workers=1)
    return raw


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Makes hostile:// known here and in all processes started from here; the folder of wishes (see hostile_files)."""
    wishes, site = tmp_path_factory.mktemp("wishes"), tmp_path_factory.mktemp("site")
    told = site / "hostile_files-1.0.dist-info"
    told.mkdir()
    (told / "entry_points.txt").write_text(f"[fsspec.specs]\nhostile = {HostileFiles.__module__}:HostileFiles\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{site}{os.pathsep}{ROOT}")
        patch.setenv("HOSTILE_FILES", str(wishes))
        fsspec.register_implementation("hostile", HostileFiles, clobber=True)
        yield wishes


@pytest.fixture
def wishes(hostile: Path) -> Path:
    """The folder of wishes, empty."""
    for path in hostile.iterdir():
        path.unlink()
    return hostile


@pytest.fixture(scope="class")
def session(hostile: Path) -> Iterator[None]:
    """A Ray of two processors, to whose workers hostile:// is known."""
    with ray_session(num_cpus=2):
        yield


@pytest.fixture
def index(phantom: Path) -> Index:
    """The phantom's 48 images through hostile://."""
    found = inbreast.index(str(phantom))
    return replace(found, records=[replace(record, path=f"hostile://{record.path}") for record in found.records])


def all_files(root: Path) -> dict[str, bytes]:
    """Path inside `root` -> content."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], dict[str, bytes]]:
    return all_files


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    return wait


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A local Ray with two CPUs for the fake study; the environment that another driver needs to join it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("FAKE_FOLDER", str(tmp_path_factory.mktemp("fake")))
        patch.setenv("PYTHONPATH", str(ROOT))  # for the workers
        patch.setenv("OMP_NUM_THREADS", "2")  # its workers shall compute in one thread all the same
        with ray_session(num_cpus=2):
            yield {**os.environ, "RAY_AUTH_MODE": "token", "RAY_ADDRESS": ray.get_runtime_context().gcs_address}
