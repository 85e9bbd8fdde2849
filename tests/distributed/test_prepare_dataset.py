"""Preparation on a real local Ray: the same dataset whatever the workers and the order, and never half of one."""

import hashlib
import os
import pickle
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import ray
from PIL import Image

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet import shard_writer
from diagram_ray.data.parquet.layout import read_info, read_manifest, read_rejects
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.parquet.progress import PreparationProgress
from diagram_ray.data.parquet.source_identity import identify_images
from diagram_ray.data.preprocessing.prepare_image import Options
from diagram_ray.data.preprocessing.pseudonyms import keyed_hash
from diagram_ray.data.readers import folder, inbreast, mias
from diagram_ray.data.records import Index, Region
from diagram_ray.distributed import prepare_dataset as ingest
from diagram_ray.distributed.prepare_dataset import prepare_dataset
from diagram_ray.distributed.session import ray_session
from diagram_ray.errors import DataError, UsageError
from diagram_ray.storage.locks import sole_use

# Ray Data warns of settings that it makes itself, each time it starts.
OF_RAY = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
pytestmark = [pytest.mark.ray, OF_RAY]

OPTIONS = Options((64, 48), 32, 2, b"a key of the test", "negative")
FilesOf = Callable[[Path], dict[str, bytes]]


def quiet(tally: PreparationProgress) -> None:
    """No progress."""


def prepare(index: Index, out: Path | str, options: Options = OPTIONS) -> dict:
    return prepare_dataset(index, str(out), options, "phantom", quiet)


def test_workers_and_order_do_not_matter(phantom: Path, tmp_path: Path, files_of: FilesOf) -> None:
    """To the byte."""
    index = inbreast.index(str(phantom))
    shuffled = replace(index, records=random.Random(1).sample(index.records, len(index.records)))
    assert shuffled.records != index.records
    before = dict(os.environ)
    for cpus, source, images in ((1, index, 16), (2, shuffled, 5)):
        with ray_session(num_cpus=cpus), pytest.MonkeyPatch.context() as patch:
            patch.setattr(ingest, "PIECE_IMAGES", images)
            assert ray.cluster_resources()["CPU"] == cpus
            assert not Path(os.environ["RAY_AUTH_TOKEN_PATH"]).is_relative_to(Path.home() / ".ray")
            prepare(source, tmp_path / f"{cpus}")
        assert not ray.is_initialized()
        assert dict(os.environ) == before
    assert files_of(tmp_path / "1") == files_of(tmp_path / "2")


@pytest.mark.usefixtures("session")
class TestOnTwoCpus:
    def test_the_dashboard_names_its_executions(self, index: Index, tmp_path: Path) -> None:
        """As /api/data/datasets/JOB asks for them."""
        from ray.data._internal.stats import get_or_create_stats_actor

        prepare(index, tmp_path / "out")
        told = ray.get(get_or_create_stats_actor().get_datasets.remote(ray.get_runtime_context().get_job_id()))
        assert {name.partition("_")[0] for name in told} >= {"preparing images", "writing shards"}
        assert not any(name.startswith("dataset_") for name in told)

    def test_what_is_written(self, index: Index, tmp_path: Path) -> None:
        seen: list[PreparationProgress] = []
        info = prepare_dataset(index, str(tmp_path / "out"), OPTIONS, "phantom", seen.append)
        assert info == read_info(str(tmp_path / "out"))
        manifest = read_manifest(str(tmp_path / "out"))
        count = len(index.records)
        assert [tally.done for tally in seen[:-2]] == sorted(tally.done for tally in seen[:-2])
        assert seen[-3] == PreparationProgress(
            "preparing images", count, count, 0, pytest.approx(count * 208 * 160 / 1e6)
        )
        assert [replace(tally) for tally in seen[-2:]] == [PreparationProgress("writing shards", n, 2) for n in (1, 2)]
        assert info["counts"]["images"] == len(manifest) == count
        assert info["counts"]["patients"] == manifest["patient_id"].nunique() == 12
        assert manifest["patient_id"].str.fullmatch(r"[0-9a-f]{16}").all()
        data = read_training_data(str(tmp_path / "out"), DataConfig())
        digests = dict(zip(manifest["image_id"], manifest["digest"], strict=True))
        for name, pixels in zip(data.image_ids.tolist(), data.images, strict=True):
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == digests[name]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]

    def test_no_patient_key_is_in_the_dataset(self, index: Index, tmp_path: Path) -> None:
        prepare(index, tmp_path / "out")
        tables = [pd.read_parquet(path) for path in (tmp_path / "out").glob("*.parquet")]
        tables += [
            pd.read_parquet(path, columns=["image_id", "patient_id"])
            for path in (tmp_path / "out").glob("*/part-*.parquet")
        ]
        assert len(tables) == 5
        said = [table.to_json() for table in tables] + [(tmp_path / "out" / "dataset.json").read_text()]
        for record in index.records:
            assert not any(record.patient_id in text for text in said)
        expected = {keyed_hash(OPTIONS.key, record.patient_id) for record in index.records}
        assert set(read_manifest(str(tmp_path / "out"))["patient_id"]) == expected

    def test_another_key_gives_other_hashes(self, index: Index, tmp_path: Path) -> None:
        few = replace(index, records=index.records[:4])
        prepare(few, tmp_path / "one")
        prepare(few, tmp_path / "two", replace(OPTIONS, key=b"another key"))
        one, two = (set(read_manifest(str(tmp_path / name))["patient_id"]) for name in ("one", "two"))
        assert not one & two

    def test_files_that_cannot_be_used_are_rejects_with_reasons(
        self, tmp_path: Path, films: Callable[..., Path]
    ) -> None:
        source = films(tmp_path / "in")
        (source / "benign" / "90_cut.png").write_bytes((source / "benign" / "1_1.png").read_bytes()[:300])
        Image.fromarray(np.full((200, 200), 7, np.uint8)).save(source / "benign" / "91_blank.png")
        (source / "benign" / "92_text.dcm").write_text("no DICOM")
        info = prepare(folder.index(str(source)), tmp_path / "out")
        rejects = read_rejects(str(tmp_path / "out"))
        reasons = {path.rpartition("_")[2]: why for path, why in zip(rejects["path"], rejects["reason"], strict=True)}
        assert set(reasons) == {"cut.png", "blank.png", "text.dcm"}
        assert "truncated" in reasons["cut.png"]
        assert "is blank" in reasons["blank.png"]
        assert "Pixel Data is missing" in reasons["text.dcm"]
        assert (info["counts"]["images"], info["counts"]["rejects"]) == (6, 3)

    def test_shards_are_of_even_size_and_read_back_as_one(
        self, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files_of: FilesOf
    ) -> None:
        prepare(index, tmp_path / "one")
        monkeypatch.setattr(shard_writer, "SHARD_BYTES", 10 * 2 * 64 * 48)
        prepare(index, tmp_path / "several")
        pictures, patches = (
            [pd.read_parquet(path, columns=["image_id"])["image_id"] for path in sorted(tmp_path.glob(place))]
            for place in ("several/images/*", "several/patches/*")
        )
        sizes = [len(ids) for ids in pictures]
        assert len(sizes) == 5
        assert max(sizes) - min(sizes) <= 1
        sizes = [len(ids) for ids in patches]
        assert len(sizes) > 2
        assert max(sizes) - min(sizes) <= 2 * max(pd.concat(patches).value_counts())
        assert pd.concat(pictures).is_monotonic_increasing
        for name in ("manifest.parquet", "dataset.json"):
            assert files_of(tmp_path / "one")[name] == files_of(tmp_path / "several")[name]
        one, several = (read_training_data(str(tmp_path / name), DataConfig()) for name in ("one", "several"))
        np.testing.assert_array_equal(one.images, several.images)
        np.testing.assert_array_equal(one.patches, several.patches)

    def test_nothing_is_seen_before_it_is_whole(self, index: Index, tmp_path: Path) -> None:
        seen = []
        out = tmp_path / "out"
        prepare_dataset(index, str(out), OPTIONS, "phantom", lambda tally: seen.append(out.exists()))
        assert len(seen) > 3
        assert not any(seen)
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_no_more_is_held_than_the_processors_work_on(
        self, index: Index, tmp_path: Path, wishes: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many images there are: what is opened is in a whole piece before a processor opens another one."""
        monkeypatch.setattr(ingest, "PIECE_IMAGES", 1)
        (wishes / "pieces").write_text(str(tmp_path / ".out.partial" / "pieces"))
        prepare(index, tmp_path / "out")
        held = [int(path.read_text()) for path in wishes.glob("opened-*")]
        assert len(held) == len(index.records)
        assert max(held) <= 2

    def test_no_pixels_pass_through_the_driver(self, phantom: Path, tmp_path: Path) -> None:
        images = identify_images(inbreast.index(str(phantom)).records[:8], OPTIONS)
        answer = ingest._decode(tmp_path, replace(OPTIONS, image_size=(512, 384)), images)
        assert len(answer[0]) == 8
        assert len(pickle.dumps(answer)) < 8 * 4096

    def test_what_is_there_is_not_touched(self, index: Index, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")
        with pytest.raises(UsageError, match="is not empty"):
            prepare(index, tmp_path / "out")
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "mine.txt"]

    def test_a_place_that_is_filled_meanwhile_is_not_touched(self, index: Index, tmp_path: Path, wishes: Path) -> None:
        """And the work is not lost."""

        def fill(tally: PreparationProgress) -> None:
            (tmp_path / "out").mkdir(exist_ok=True)
            (tmp_path / "out" / "mine.txt").write_text("mine")

        with pytest.raises(UsageError, match="was filled by somebody else meanwhile"):
            prepare_dataset(index, str(tmp_path / "out"), OPTIONS, "phantom", fill)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
        (tmp_path / "out" / "mine.txt").unlink()
        prepare(index, tmp_path / "out")
        assert len(list(wishes.glob("opened-*"))) == len(index.records)

    def test_two_at_once_are_refused(self, index: Index, tmp_path: Path, files_of: FilesOf) -> None:
        with sole_use(tmp_path / ".out.partial" / "lock", "the test"):
            before = files_of(tmp_path)
            with pytest.raises(UsageError, match=r"--out .*out: another run is preparing it at this moment"):
                prepare(index, tmp_path / "out")
            assert files_of(tmp_path) == before

    def test_an_image_given_twice_is_refused(self, index: Index, tmp_path: Path) -> None:
        first = index.records[0]
        for again in (replace(first, patient_id="other"), replace(first, image_id="other", patient_id="other")):
            with pytest.raises(DataError, match=r"stands 2 times, for 2 patient"):
                prepare(replace(index, records=[*index.records, again]), tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_a_box_that_misses_its_image_is_a_reject(self, tmp_path: Path, films: Callable[..., Path]) -> None:
        index = folder.index(str(films(tmp_path / "in")))
        wrong = replace(index.records[0], regions=(Region((5000, 5000, 5050, 5050), "mass", "malignant"),))
        prepare(replace(index, records=[wrong, *index.records[1:]]), tmp_path / "out")
        (reject,) = read_rejects(str(tmp_path / "out"))["reason"]
        assert "lies outside the image of 240 x 180 pixels" in reject

    def test_text_that_files_say_is_burned_in_is_told(
        self, phantom: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        raw = Path(shutil.copytree(phantom, tmp_path / "raw"))
        for path in sorted(raw.glob("AllDICOMs/*.dcm"))[:3]:
            header = pydicom.dcmread(path)
            header.BurnedInAnnotation = "YES"
            header.save_as(path)
        prepare(inbreast.index(str(raw)), tmp_path / "out")
        flagged = int((read_manifest(str(tmp_path / "out"))["burned_in"] == True).sum())  # noqa: E712 - or unknown
        assert flagged == 3
        assert f"{flagged} images say that text in their pixels tells the patient" in caplog.text

    def test_no_image_that_can_be_used(self, tmp_path: Path, films: Callable[..., Path]) -> None:
        index = folder.index(str(films(tmp_path / "in")))
        missing = [replace(record, path=f"{record.path}.gone") for record in index.records]
        with pytest.raises(DataError, match=r"none of the 6 images can be used; the first reason: .*cannot be opened"):
            prepare(replace(index, records=missing), tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def test_a_place_that_cannot_be_written(self, index: Index, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(UsageError, match="--out"):
            prepare(index, tmp_path / "file" / "out")

    @pytest.mark.real
    def test_real_mini_mias(self, real_data: Path, tmp_path: Path) -> None:
        index = mias.index(str(real_data / "mini-mias" / "original"))
        info = prepare(index, tmp_path / "out")
        assert info["counts"]["images"] == 6
        assert info["counts"]["labels"] == {"negative": 4, "cancer": 2}
        manifest = read_manifest(str(tmp_path / "out")).set_index("image_id")
        assert (manifest["mirrored"] == (manifest["laterality"] == "R")).all()
        assert not manifest["inverted"].any()
