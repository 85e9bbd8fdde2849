"""An image's identity: the same for the same files and settings, another for any other."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from diagram_ray import data
from diagram_ray.data.parquet import source_identity
from diagram_ray.data.parquet.source_identity import identify_images
from diagram_ray.data.preprocessing.prepare_image import Options
from diagram_ray.data.records import Film, ImageRecord, Mask, Region
from diagram_ray.errors import DataError

OPTIONS = Options((64, 48), 32, 2, b"a key of the test", "negative")


@pytest.fixture
def record(tmp_path: Path) -> ImageRecord:
    for name in ("film.dcm", "mask.dcm"):
        (tmp_path / name).write_bytes(b"content")
    mask = Mask((str(tmp_path / "mask.dcm"), str(tmp_path / "missing.dcm")), "mass", "cancer")
    return ImageRecord(str(tmp_path / "film.dcm"), "film", "patient-7", "exam", "L", "CC", "cancer", masks=(mask,))


def identity(record: ImageRecord, options: Options = OPTIONS) -> str:
    (image,) = identify_images([record], options)
    return image.identity


def test_any_change_of_what_is_said_changes_it(record: ImageRecord) -> None:
    changes = [
        replace(record, label=None),
        replace(record, columns={"birads": "4a"}),
        replace(record, regions=(Region((0, 0, 1, 1), "mass", None),)),
        replace(record, film=Film((4, 5), "lumisys")),
        replace(record, masks=()),
    ]
    options = [
        replace(OPTIONS, patch_size=48),
        replace(OPTIONS, background_patches=3),
        replace(OPTIONS, key=b"another key, as long"),
    ]
    told = [identity(record)] + [identity(other) for other in changes] + [identity(record, other) for other in options]
    assert len(set(told)) == len(told)
    assert identity(record) == told[0]
    assert all(len(one) == 32 for one in told)


@pytest.mark.parametrize("name", ["film.dcm", "mask.dcm", "missing.dcm"])
def test_any_change_of_a_file_changes_it(record: ImageRecord, tmp_path: Path, name: str) -> None:
    before = identity(record)
    (tmp_path / name).write_bytes(b"other content")
    longer = identity(record)
    os.utime(tmp_path / name, ns=(1, 1))
    assert len({before, longer, identity(record)}) == 3


def test_another_program_changes_it(record: ImageRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity(record)
    monkeypatch.setattr(source_identity, "program_digest", lambda: "another")
    assert identity(record) != before


def test_a_program_is_another_when_any_module_of_data_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also one in a folder inside it: how pixels are standardised decides what becomes of an image."""
    shutil.copytree(Path(data.__file__).parent, tmp_path / "data")
    digests = []
    with monkeypatch.context() as patch:
        patch.setattr(data, "__file__", str(tmp_path / "data" / "__init__.py"))
        for name in ("records.py", "preprocessing/standardise.py", "decoding/mammogram.py", "parquet/pieces.py"):
            (tmp_path / "data" / name).write_text("changed")
            source_identity.program_digest.cache_clear()
            digests.append(source_identity.program_digest())
    source_identity.program_digest.cache_clear()
    assert len({source_identity.program_digest(), *digests}) == 5


def test_images_come_in_the_order_of_the_ids_that_the_dataset_shows(record: ImageRecord) -> None:
    records = [replace(record, image_id=f"{name}-patient-7") for name in "cab"]
    images = identify_images(records, OPTIONS)
    assert [image.image_id for image in images] == sorted(image.image_id for image in images)
    assert not any("patient" in image.image_id for image in images)


def test_files_of_an_object_store_are_listed_by_bucket(record: ImageRecord) -> None:
    files = fsspec.filesystem("memory")
    for name in ("one/a/film.dcm", "one/b/film.dcm", "two/film.dcm"):
        files.pipe_file(f"/{name}", b"content")
    records = [
        replace(record, path=f"memory://{name}", image_id=name, masks=())
        for name in ("one/a/film.dcm", "one/b/film.dcm", "two/film.dcm", "two/none.dcm")
    ]
    before = [image.identity for image in identify_images(records, OPTIONS)]
    files.pipe_file("/one/b/film.dcm", b"other content")
    after = [image.identity for image in identify_images(records, OPTIONS)]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False, True, True]


def test_a_place_that_cannot_be_opened(record: ImageRecord) -> None:
    with pytest.raises(DataError, match=r"nonsense://x/film\.dcm: cannot be opened"):
        identify_images([replace(record, path="nonsense://x/film.dcm")], OPTIONS)
