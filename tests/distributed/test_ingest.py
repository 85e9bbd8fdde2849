"""Preparation on a real local Ray: the same dataset whatever the workers and the order, and never half of one."""

import hashlib
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
from PIL import Image

from diagram_ray.config import DataConfig
from diagram_ray.data.phantom import make_phantom
from diagram_ray.data.preparation import Options, keyed_hash
from diagram_ray.data.readers import folder, inbreast, mias
from diagram_ray.data.records import ImageRecord, Index, Region
from diagram_ray.data.shards import read_info, read_manifest, read_rejects, read_training_data
from diagram_ray.distributed import ingest
from diagram_ray.distributed.ingest import prepare_dataset
from diagram_ray.distributed.session import ray_session
from diagram_ray.errors import DataError, DiagramError, UsageError

# Ray Data warns of settings that it makes itself, each time it starts.
OF_RAY = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
pytestmark = [pytest.mark.ray, OF_RAY]

OPTIONS = Options((64, 48), 32, 2, b"a key of the test", "negative")


def quiet(done: int, total: int, rejects: int) -> None:
    """No progress."""


def prepare(index: Index, out: Path | str, options: Options = OPTIONS) -> dict:
    return prepare_dataset(index, str(out), options, "phantom", quiet)


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    raw = tmp_path_factory.mktemp("phantom") / "raw"
    make_phantom(raw, 12, 0, 0.3, 208, workers=1)
    return raw


@pytest.fixture(scope="class")
def session() -> Iterator[None]:
    with ray_session(num_cpus=2):
        yield


def contents(out: Path) -> dict[str, object]:
    """What a reader sees, apart from the order of rows."""
    data = read_training_data(str(out), DataConfig())
    manifest = read_manifest(str(out)).sort_values("image_id").reset_index(drop=True)
    return {
        "manifest": manifest.to_json(),
        "images": data.images.tobytes(),
        "patches": data.patches.tobytes(),
        "labels": (data.labels.tolist(), data.patch_labels.tolist(), data.patch_patient_ids.tolist()),
        "fingerprint": data.fingerprint,
    }


def test_workers_and_order_do_not_matter(phantom: Path, tmp_path: Path) -> None:
    index = inbreast.index(str(phantom))
    shuffled = replace(index, records=random.Random(1).sample(index.records, len(index.records)))
    assert shuffled.records != index.records
    before = dict(os.environ)
    for cpus, source in ((1, index), (2, shuffled)):
        with ray_session(num_cpus=cpus):
            assert ray.cluster_resources()["CPU"] == cpus
            assert not Path(os.environ["RAY_AUTH_TOKEN_PATH"]).is_relative_to(Path.home() / ".ray")
            prepare(source, tmp_path / f"{cpus}")
        assert not ray.is_initialized()
        assert dict(os.environ) == before
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.usefixtures("session")
class TestOnTwoCpus:
    def test_what_is_written(self, phantom: Path, tmp_path: Path) -> None:
        index = inbreast.index(str(phantom))
        calls: list[tuple[int, int, int]] = []
        info = prepare_dataset(index, str(tmp_path / "out"), OPTIONS, "phantom", lambda *seen: calls.append(seen))
        assert info == read_info(str(tmp_path / "out"))
        manifest, rejects = read_manifest(str(tmp_path / "out")), read_rejects(str(tmp_path / "out"))
        assert calls == [(n + 1, len(index.records), len(rejects)) for n in range(len(index.records))]
        assert info["counts"]["images"] == len(manifest) == len(index.records)
        assert info["counts"]["patients"] == manifest["patient_id"].nunique() == 12
        assert manifest["patient_id"].str.fullmatch(r"[0-9a-f]{16}").all()
        data = read_training_data(str(tmp_path / "out"), DataConfig())
        digests = dict(zip(manifest["image_id"], manifest["digest"], strict=True))
        for name, pixels in zip(data.image_ids.tolist(), data.images, strict=True):
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == digests[name]

    def test_no_patient_key_is_in_the_dataset(self, phantom: Path, tmp_path: Path) -> None:
        index = inbreast.index(str(phantom))
        prepare(index, tmp_path / "out")
        tables = [read_manifest(str(tmp_path / "out")).to_json()]
        tables += [
            pd.read_parquet(path, columns=["image_id", "patient_id"]).to_json()
            for path in (tmp_path / "out").glob("*/part-*.parquet")
        ]
        for record in index.records:
            assert not any(record.patient_id in table for table in tables)
        expected = {keyed_hash(OPTIONS.key, record.patient_id) for record in index.records}
        assert set(read_manifest(str(tmp_path / "out"))["patient_id"]) == expected

    def test_another_key_gives_other_hashes(self, phantom: Path, tmp_path: Path) -> None:
        index = replace(inbreast.index(str(phantom)), records=inbreast.index(str(phantom)).records[:4])
        prepare(index, tmp_path / "one")
        prepare(index, tmp_path / "two", replace(OPTIONS, key=b"another key"))
        one, two = (set(read_manifest(str(tmp_path / name))["patient_id"]) for name in ("one", "two"))
        assert not one & two

    def test_files_that_cannot_be_used_are_rejects_with_reasons(self, tmp_path: Path) -> None:
        source = class_folders(tmp_path / "in")
        (source / "benign" / "90_cut.png").write_bytes((source / "benign" / "1_1.png").read_bytes()[:300])
        Image.fromarray(np.full((200, 200), 7, np.uint8)).save(source / "benign" / "91_blank.png")
        (source / "benign" / "92_text.dcm").write_text("no DICOM")
        index = folder.index(str(source))
        info = prepare(index, tmp_path / "out")
        reasons = {Path(row.path).name: row.reason for row in read_rejects(str(tmp_path / "out")).itertuples()}
        assert set(reasons) == {"90_cut.png", "91_blank.png", "92_text.dcm"}
        assert "not a readable picture" in reasons["90_cut.png"]
        assert "is blank" in reasons["91_blank.png"]
        assert "not a readable DICOM image" in reasons["92_text.dcm"]
        assert (info["counts"]["images"], info["counts"]["rejects"]) == (6, 3)

    def test_shards_are_of_even_size_and_read_back_as_one(
        self, phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = inbreast.index(str(phantom))
        prepare(index, tmp_path / "one")
        monkeypatch.setattr(ingest, "SHARD_BYTES", 10 * 2 * 64 * 48)
        prepare(index, tmp_path / "several")
        sizes = [pd.read_parquet(p, columns=["label"]).shape[0] for p in sorted(tmp_path.glob("several/images/*"))]
        assert len(sizes) > 2
        assert max(sizes) - min(sizes) <= len(sizes)
        assert contents(tmp_path / "one") == contents(tmp_path / "several")

    def test_nothing_is_seen_before_it_is_whole(self, phantom: Path, tmp_path: Path) -> None:
        out = tmp_path / "out"
        seen = []
        index = inbreast.index(str(phantom))
        prepare_dataset(index, str(out), OPTIONS, "phantom", lambda *_: seen.append(out.exists()))
        assert seen
        assert not any(seen)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    @pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
    def test_nothing_is_left_of_a_preparation_that_fails(
        self, phantom: Path, tmp_path: Path, failure: type[BaseException]
    ) -> None:
        def fail(done: int, total: int, rejects: int) -> None:
            if done == 20:
                raise failure

        with pytest.raises(failure):
            prepare_dataset(inbreast.index(str(phantom)), str(tmp_path / "out"), OPTIONS, "phantom", fail)
        assert not list(tmp_path.iterdir())

    def test_what_is_there_is_not_touched(self, phantom: Path, tmp_path: Path) -> None:
        index = inbreast.index(str(phantom))
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match="is not empty"):
            prepare(index, tmp_path / "out")
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]

    def test_a_place_that_is_filled_meanwhile_is_not_touched(self, phantom: Path, tmp_path: Path) -> None:
        def fill(done: int, total: int, rejects: int) -> None:
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "mine.txt").write_text("mine")

        with pytest.raises(UsageError, match="was filled by somebody else meanwhile"):
            prepare_dataset(inbreast.index(str(phantom)), str(tmp_path / "out"), OPTIONS, "phantom", fill)
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]

    def test_an_image_given_twice_is_refused(self, phantom: Path, tmp_path: Path) -> None:
        index = inbreast.index(str(phantom))
        first = index.records[0]
        for again in (replace(first, patient_id="other"), replace(first, image_id="other", patient_id="other")):
            with pytest.raises(DataError, match=r"stands 2 times, for 2 patient"):
                prepare(replace(index, records=[*index.records, again]), tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_box_that_misses_its_image_is_a_reject(self, tmp_path: Path) -> None:
        index = folder.index(str(class_folders(tmp_path / "in")))
        wrong = replace(index.records[0], regions=(Region((5000, 5000, 5050, 5050), "mass", "malignant"),))
        prepare(replace(index, records=[wrong, *index.records[1:]]), tmp_path / "out")
        (reject,) = read_rejects(str(tmp_path / "out"))["reason"]
        assert "lies outside the image of 240 x 180 pixels" in reject

    def test_no_image_that_can_be_used(self, tmp_path: Path) -> None:
        index = folder.index(str(class_folders(tmp_path / "in")))
        missing = [replace(record, path=f"{record.path}.gone") for record in index.records]
        with pytest.raises(DataError, match=r"none of the 6 images can be used; the first reason: .*cannot be opened"):
            prepare(replace(index, records=missing), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_worker_that_fails_is_one_sentence(self, phantom: Path, tmp_path: Path) -> None:
        index = inbreast.index(str(phantom))
        broken: list[ImageRecord] = [replace(index.records[0], exam_id=5), *index.records[1:]]  # type: ignore[arg-type]
        with pytest.raises(DiagramError, match="a worker failed") as caught:
            prepare(replace(index, records=broken), tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not list(tmp_path.iterdir())

    def test_a_place_that_cannot_be_written(self, phantom: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match="--out"):
            prepare(inbreast.index(str(phantom)), tmp_path / "file" / "out")

    @pytest.mark.real
    def test_real_mini_mias(self, real_data: Path, tmp_path: Path) -> None:
        index = mias.index(str(real_data / "mini-mias" / "original"))
        info = prepare(index, tmp_path / "out")
        assert info["counts"]["images"] == 6
        assert info["counts"]["labels"] == {"negative": 4, "cancer": 2}
        manifest = read_manifest(str(tmp_path / "out")).set_index("image_id")
        assert (manifest["mirrored"] == (manifest["laterality"] == "R")).all()
        assert not manifest["inverted"].any()


def class_folders(root: Path) -> Path:
    """Six small films, three benign and three malignant, one a patient."""
    for number in range(6):
        noise = np.random.default_rng(number)
        y, x = np.mgrid[:240, :180]
        breast = ((y - 120) / 90) ** 2 + (x / 110) ** 2 < 1
        film = np.where(breast, noise.normal(150, 25, breast.shape), 5).clip(0, 255).astype(np.uint8)
        path = root / ("malignant" if number % 2 else "benign") / f"{number + 1}_1.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(film).save(path)
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 server on this machine, empty, and the environment that s3fs finds it by."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    log = (tmp_path_factory.mktemp("store") / "log").open("wb")
    server = subprocess.Popen([sys.executable, "-c", script], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: urllib.request.urlopen(f"{address}/moto-api/").close())
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", address)
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield "s3://bucket"
    finally:
        server.terminate()
        server.wait(10)
        log.close()


def wait_until(attempt: Callable[[], object], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
        else:
            return


def test_from_and_into_an_object_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources are read from the store by the workers, and the dataset in it is the one on disk."""
    import s3fs

    files = s3fs.S3FileSystem()
    files.mkdir("bucket")
    files.put(str(class_folders(tmp_path / "in")), "bucket/in", recursive=True)
    options = replace(OPTIONS, negative="benign")
    if ray.is_initialized():
        pytest.fail("workers of a session that is open already would not know the store")
    with ray_session(num_cpus=1):
        local = prepare(folder.index(str(tmp_path / "in")), tmp_path / "out", options)
        remote = prepare(folder.index(f"{store}/in"), f"{store}/sets/out", options)
        assert local == remote
        with pytest.raises(UsageError, match="already holds a dataset"):
            prepare(folder.index(f"{store}/in"), f"{store}/sets/out", options)
        for shard_bytes in (ingest.SHARD_BYTES, 1):  # interrupted before, and after, something was written
            monkeypatch.setattr(ingest, "SHARD_BYTES", shard_bytes)
            with pytest.raises(KeyboardInterrupt, match="by the user"):
                prepare_dataset(folder.index(f"{store}/in"), f"{store}/sets/half", options, "folder", interrupt)
            files.invalidate_cache()
            assert files.find("bucket/sets/half") == []
    one = read_training_data(str(tmp_path / "out"), DataConfig())
    two = read_training_data(f"{store}/sets/out", DataConfig())
    np.testing.assert_array_equal(one.images, two.images)
    np.testing.assert_array_equal(one.patches, two.patches)
    assert one.fingerprint == two.fingerprint
    with pytest.raises(DataError, match="not a prepared dataset"):
        read_info(f"{store}/nothing/here")


def interrupt(done: int, total: int, rejects: int) -> None:
    if done == 4:
        raise KeyboardInterrupt("by the user")
