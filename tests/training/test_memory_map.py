"""Mapped pixels are the dataset's own, cost nothing when they are sent on, and train the same model to the last bit."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from diagram_ray.config import DataConfig, ExperimentConfig
from diagram_ray.data.parquet import memory_map
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.parquet.memory_map import CACHE, MappedPixels, open_training_data
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError
from diagram_ray.training.trainer import Trainer
from tests.support.training.tiny_data import write_dataset

SUM = "import pickle, sys; print(int(pickle.load(sys.stdin.buffer).images.astype(int).sum()))"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def mapped(dataset: Path) -> TrainingData:
    return open_training_data(str(dataset), DataConfig(), "disk")


def test_the_same_pixels(dataset: Path, data: TrainingData, cache: Path) -> None:
    found = mapped(dataset)
    for name in ("images", "patches"):
        pixels = getattr(found, name)
        assert isinstance(pixels, MappedPixels)
        np.testing.assert_array_equal(pixels, getattr(data, name))
        assert type(pixels[[3, 1]]) is np.ndarray
        assert pixels[[3, 1]].flags.writeable
    assert sorted(path.name for path in cache.glob("*/[!.]*")) == ["images.npy", "patches.npy"]


def test_the_same_model(dataset: Path, cache: Path, small: Callable[..., ExperimentConfig]) -> None:
    weights = []
    for found in (mapped(dataset), read_training_data(str(dataset), DataConfig())):
        trainer = Trainer(small(training__k=2), found, np.arange(16), np.arange(16))
        trainer.advance()
        weights.append(trainer.model.state_dict())
    assert all((one == other).all() for one, other in zip(*(each.values() for each in weights), strict=True))


def test_another_process_maps_the_file(dataset: Path, data: TrainingData, cache: Path) -> None:
    sent = pickle.dumps(mapped(dataset), protocol=5)
    assert len(sent) < data.images.nbytes // 2
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*/*.npy")}
    np.testing.assert_array_equal(pickle.loads(sent).images, data.images)
    assert before == {path: path.stat().st_mtime_ns for path in cache.glob("*/*.npy")}


def test_another_machine_makes_its_own(dataset: Path, data: TrainingData, cache: Path, tmp_path: Path) -> None:
    sent = pickle.dumps(mapped(dataset))
    there = {**os.environ, CACHE: str(tmp_path / "there")}
    found = subprocess.run([sys.executable, "-c", SUM], input=sent, env=there, capture_output=True, check=True)
    assert int(found.stdout) == data.images.astype(int).sum()
    assert len(list((tmp_path / "there").glob("*/images.npy"))) == 1


def test_a_part_is_sent_as_it_is(dataset: Path, data: TrainingData, cache: Path) -> None:
    pixels = mapped(dataset).images
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pixels[2:5])), data.images[2:5])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pixels + 1)), data.images + 1)


def test_only_what_is_large_for_the_machine(dataset: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kinds() -> list[bool]:
        found = open_training_data(str(dataset), DataConfig())
        return [isinstance(pixels, MappedPixels) for pixels in (found.images, found.patches)]

    sizes = [pixels.nbytes for pixels in (mapped(dataset).images, mapped(dataset).patches)]
    assert kinds() == [False, False]
    monkeypatch.setattr(memory_map, "memory", lambda: 4 * (sizes[1] + 1))
    assert sizes[0] > sizes[1] + 1
    assert kinds() == [True, False]


def test_memory_is_that_of_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory_map, "LIMITS", (limit,))
    whole = memory_map.memory()
    limit.write_text("max\n")
    assert memory_map.memory() == whole > 2**20
    limit.write_text("1048576\n")
    assert memory_map.memory() == 2**20


def test_other_data_have_files_of_their_own(data: TrainingData, cache: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        other = {**vars(data), "images": data.images + np.uint16(number), "fingerprint": str(number)}
        write_dataset(tmp_path / str(number), TrainingData(**other))
    first, second = (mapped(tmp_path / str(number)) for number in (1, 2))
    np.testing.assert_array_equal(second.images - first.images, 1)


def test_many_at_once_make_one_file(dataset: Path, data: TrainingData, cache: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: mapped(dataset), range(16)):
            np.testing.assert_array_equal(found.images, data.images)
    assert not list(cache.glob("*/*.part"))


def test_no_room_is_told_and_leaves_nothing(dataset: Path, cache: Path) -> None:
    """A limit on the size of files fails as a full disk does; without the reservation it would end the process."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "from diagram_ray.config import DataConfig\n"
        "from diagram_ray.data.parquet.memory_map import open_training_data\n"
        "from diagram_ray.errors import DataError\n"
        "try: open_training_data(sys.argv[1], DataConfig(), 'disk')\n"
        "except DataError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(dataset)], capture_output=True, text=True, check=True)
    assert os.strerror(errno.EFBIG) in found.stdout
    assert CACHE in found.stdout
    assert not list(cache.glob("*/[!.]*"))


def test_a_folder_of_somebody_else_is_not_used(dataset: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    with pytest.raises(DataError, match="belongs to somebody else"):
        mapped(dataset)


def test_a_file_of_another_shape_is_not_used(dataset: Path, cache: Path) -> None:
    mapped(dataset)
    (path,) = cache.glob("*/images.npy")
    np.save(path, np.zeros((2, 32, 32), np.uint16))
    with pytest.raises(DataError, match="holds"):
        mapped(dataset)


def test_reading_takes_little_memory_beside_the_result(data: TrainingData, cache: Path, tmp_path: Path) -> None:
    count, random = 300, np.random.default_rng(0)
    labels, names = np.arange(count) % 2, np.array([f"{number:04d}" for number in range(count)])
    images, patches = (random.integers(0, 65536, (count, *size)).astype(np.uint16) for size in ((512, 384), (16, 16)))
    large = TrainingData(images, labels, names, names, patches, labels, names, ("a", "b"), "large")
    write_dataset(tmp_path / "large", large)
    code = (
        "import sys\n"
        "from diagram_ray.config import DataConfig\n"
        "from diagram_ray.data.parquet.memory_map import open_training_data\n"
        "own = lambda: int(next(x for x in open('/proc/self/status') if x.startswith('RssAnon')).split()[1])\n"
        "before = own()\n"
        "open_training_data(sys.argv[1], DataConfig(classes={'a': ['a'], 'b': ['b']}), 'disk')\n"
        "print((own() - before) * 1024)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "large")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(found.stdout) < 2 * images.nbytes  # a file of one row group, still compressed, and few of its rows
