"""Preparation from and into an object store: a real S3 API, served by moto in a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.layout import open_dataset, read_info, read_manifest
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.preprocessing.prepare_image import Options
from diagram_ray.data.readers import folder
from diagram_ray.data.records import Index
from diagram_ray.distributed.prepare_dataset import prepare_dataset
from diagram_ray.distributed.session import ray_session
from diagram_ray.errors import DataError, DiagramError, UsageError
from diagram_ray.storage import locks
from diagram_ray.storage.locks import sole_use
from diagram_ray.storage.object_store import StorePath
from tests.support.object_store import s3_server

OF_RAY = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
pytestmark = [pytest.mark.ray, OF_RAY]

OPTIONS = Options((96, 72), 32, 2, b"a key of the test", "benign")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An S3 server on this machine with an empty bucket, and the environment that s3fs finds it by."""
    with s3_server(tmp_path_factory.mktemp("store") / "log") as opened:
        yield opened


def prepare(index: Index, out: str, options: Options = OPTIONS, update: bool = False) -> dict[str, Any]:
    return prepare_dataset(index, out, options, "folder", lambda tally: None, update)


def assert_same(one: str, two: str) -> None:
    """As a reader sees them."""
    first, second = (read_training_data(uri, DataConfig()) for uri in (one, two))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.patches, second.patches)
    assert first.fingerprint == second.fingerprint
    told = [read_manifest(uri).drop(columns="source_folder").to_json() for uri in (one, two)]
    assert told[0] == told[1]


@pytest.fixture(scope="module")
def cluster(files: Any) -> Iterator[None]:
    if ray.is_initialized():
        pytest.fail("workers of a session that is open already would not know the store")
    with ray_session(num_cpus=1):
        yield


@pytest.mark.usefixtures("cluster")
class TestStore:
    def test_from_it_and_into_it(self, files: Any, films: Callable[..., Path], tmp_path: Path) -> None:
        """Shards that are uploaded in parts; the dataset is the one on disk."""
        options = replace(OPTIONS, image_size=(1024, 768))
        source = films(tmp_path / "in", 14, shape=(1200, 900))
        files.put(str(source), "bucket/in", recursive=True)
        local = prepare(folder.index(str(source)), str(tmp_path / "out"), options)
        remote = prepare(folder.index("s3://bucket/in"), "s3://bucket/sets/out", options)
        assert local == remote == read_info("s3://bucket/sets/out")
        assert_same(str(tmp_path / "out"), "s3://bucket/sets/out")
        assert files.info("bucket/sets/out/images/part-00000.parquet")["ETag"].strip('"').endswith("-2"), "two parts"
        with pytest.raises(UsageError, match="already holds a dataset; give --update"):
            prepare(folder.index("s3://bucket/in"), "s3://bucket/sets/out", options)
        names = {path.removeprefix("bucket/sets/out/") for path in files.find("bucket/sets/out")}
        assert names == {
            "dataset.json", "manifest.parquet", "rejects.parquet", "sources.parquet",
            "images/part-00000.parquet", "patches/part-00000.parquet",
        }  # fmt: skip

    @pytest.mark.parametrize("stage", ["preparing images", "writing shards"])
    def test_a_run_that_is_cut_off_leaves_no_dataset_and_is_gone_on_with(
        self, files: Any, films: Callable[..., Path], tmp_path: Path, stage: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = f"s3://bucket/sets/{stage.split()[0]}"
        source = films(tmp_path / "in")
        files.put(str(source), f"bucket/{stage}", recursive=True)
        index = folder.index(f"s3://bucket/{stage}")

        def interrupt(tally: PreparationProgress) -> None:
            if tally.what == stage and tally.done:
                raise KeyboardInterrupt("by the user")

        with pytest.raises(KeyboardInterrupt, match="by the user"):
            prepare_dataset(index, out, OPTIONS, "folder", interrupt)
        with pytest.raises(DataError, match="not a prepared dataset"):
            read_training_data(out, DataConfig())
        with pytest.raises(UsageError, match=r"unfinished run with other settings .* patch_size 32 there, 48 now"):
            prepare(index, out, replace(OPTIONS, patch_size=48))
        tallies: list[PreparationProgress] = []
        prepare_dataset(index, out, OPTIONS, "folder", tallies.append)
        kept = tallies[0].done
        assert kept == 6 or (kept >= 1 and stage == "preparing images"), "the pieces that were whole"
        assert (max(tally.megapixels for tally in tallies) == 0) == (kept == 6), "nothing is decoded again"
        prepare(folder.index(str(source)), str(tmp_path / "out"))
        assert_same(str(tmp_path / "out"), out)
        assert not files.exists(f"{out}/.partial")

    def test_update_leaves_the_old_dataset_whole_until_the_new_one_is(
        self, files: Any, films: Callable[..., Path], tmp_path: Path
    ) -> None:
        out = "s3://bucket/sets/grown"
        source = films(tmp_path / "in", 7)
        files.put(str(source), "bucket/grown", recursive=True)
        old = prepare(folder.index("s3://bucket/grown"), out)
        files.put(f"{films(tmp_path / 'more', 9, first=7)}/", "bucket/grown", recursive=True)
        films(source, 9, first=7)
        files.rm("bucket/grown/benign/1_1.png")
        (source / "benign" / "1_1.png").unlink()
        seen: list[tuple[str, str, int]] = []

        def look(tally: PreparationProgress) -> None:
            data = read_training_data(out, DataConfig())
            seen.append((tally.what, data.fingerprint, len(data.images)))

        tallies: list[PreparationProgress] = []
        index = folder.index("s3://bucket/grown")
        for _ in range(2):
            new = prepare_dataset(index, out, OPTIONS, "folder", lambda t: (look(t), tallies.append(t)), update=True)
            assert max(tally.megapixels for tally in tallies) == pytest.approx(2 * 240 * 180 / 1e6)
        assert {said[1:] for said in seen if said != seen[-1]} == {(old["fingerprint"], 7)}
        assert seen[-1] == ("preparing images", new["fingerprint"], 8)
        prepare(folder.index(str(source)), str(tmp_path / "out"))
        assert_same(str(tmp_path / "out"), out)
        assert new["fingerprint"] == read_info(str(tmp_path / "out"))["fingerprint"]
        root = str(open_dataset(out)).removeprefix("s3://")
        names = {path.rpartition("/")[0] for path in files.find(out)}
        assert names == {"bucket/sets/grown", root, f"{root}/images", f"{root}/patches"}, "the old one is gone"


def test_a_lock_whose_holder_is_silent_is_taken_over(
    files: Any, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "SILENCE", 0.8)
    with sole_use(StorePath("s3://bucket/lock"), "the dataset") as check:
        check()
        with (
            pytest.raises(UsageError, match="the dataset: another run is preparing it"),
            sole_use(StorePath("s3://bucket/lock"), "the dataset"),
        ):
            pass
        check()
    assert not files.exists("bucket/lock")
    files.pipe_file("bucket/lock", b'{"owner": "who has died", "beat": 3}')
    with sole_use(StorePath("s3://bucket/lock"), "the dataset") as check:
        check()
        files.pipe_file("bucket/lock", b'{"owner": "another", "beat": 1}')

        def lost() -> bool:
            with suppress(DiagramError):
                check()
                return False
            return True

        wait_until(lost)
        with pytest.raises(DiagramError, match="the dataset: another run has taken it over"):
            check()
    assert files.exists("bucket/lock"), "it is another's"
