"""A dataset is read back as it was written, in an order of its own, and every way of being broken has its message."""

import json
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.layout import (
    check_vacant,
    image_schema,
    patch_schema,
    read_info,
    read_manifest,
    read_rejects,
    read_sides,
)
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.records import BACKGROUND, ROI
from diagram_ray.errors import DataError, UsageError

H, W, S, N = 6, 4, 3, 12


def pictures(count: int, rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 65536, (count, rows, columns)).astype(np.uint16)


IMAGES, PATCHES = pictures(N, H, W, 0), pictures(2 * N, S, S, 1)
ORDER = np.random.default_rng(2).permutation(N)


def rows_of_images() -> list[dict[str, Any]]:
    labels = ["negative", "cancer", None, "negative"]
    return [
        {
            "image_id": f"i{n:02d}",
            "patient_id": f"p{n // 2}",
            "label": labels[n % 4],
            "density": "FGD"[n % 3],
            "birads": float(n % 3 + 1),
            "inverted": n % 2 == 0,
        }
        for n in range(N)
    ]


def rows_of_patches() -> list[dict[str, Any]]:
    rows = []
    for n in range(2 * N):
        image = rows_of_images()[n // 2]
        kind = BACKGROUND if n % 2 else ROI
        label = "negative" if kind == BACKGROUND else ["cancer", "negative", None][n // 2 % 3]
        told = {"patch_id": f"{image['image_id']}-{n % 2}", "kind": kind, "finding": None, "box": [0.0, 0.0, 3.0, 3.0]}
        rows.append({**image, **told, "label": label})
    return rows


def table(rows: list[dict[str, Any]], pixels: np.ndarray, schema: pa.Schema) -> pa.Table:
    kind = schema.field("pixels").type
    column = pa.ExtensionArray.from_storage(kind, pa.array(list(pixels.reshape(len(rows), -1)), kind.storage_type))
    names = schema.names[:-1]
    columns = [pa.array([row[name] for row in rows], schema.field(name).type) for name in names]
    return pa.Table.from_arrays([*columns, column], schema=schema)


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Twelve images in two shards, out of order, each with a lesion's and a background patch."""
    root = tmp_path / "dataset"
    for folder in ("images", "patches"):
        (root / folder).mkdir(parents=True)
    images, patches = rows_of_images(), rows_of_patches()
    for part, chosen in enumerate((ORDER[:7], ORDER[7:])):
        rows = [images[n] for n in chosen]
        pq.write_table(table(rows, IMAGES[chosen], image_schema(H, W)), root / f"images/part-{part:05d}.parquet")
    back = np.arange(2 * N)[::-1]
    rows = [patches[n] for n in back]
    pq.write_table(table(rows, PATCHES[back], patch_schema(S)), root / "patches/part-00000.parquet")
    pq.write_table(pa.Table.from_pylist([images[n] for n in ORDER]), root / "manifest.parquet")
    pq.write_table(pa.table({"path": ["a"], "reason": ["is blank"]}), root / "rejects.parquet")
    info = {"format_version": 1, "classes": ["negative", "cancer"], "counts": {"images": N, "patches": 2 * N}}
    (root / "dataset.json").write_text(json.dumps({**info, "fingerprint": "f00"}))
    return root


def refusal(dataset: Path, config: DataConfig | None = None) -> str:
    with pytest.raises(DataError) as caught:
        read_training_data(str(dataset), config or DataConfig())
    return str(caught.value)


def change_info(dataset: Path, **changes: Any) -> None:
    info = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(info | changes))


def test_pixels_labels_and_patients_belong_together(dataset: Path) -> None:
    data = read_training_data(str(dataset), DataConfig())
    expected = [n for n in range(N) if n % 4 != 2]
    assert data.image_ids.tolist() == [f"i{n:02d}" for n in expected]
    np.testing.assert_array_equal(data.images, IMAGES[expected])
    assert data.labels.tolist() == [int(n % 4 == 1) for n in expected]
    assert data.patient_ids.tolist() == [f"p{n // 2}" for n in expected]
    assert (data.classes, data.fingerprint) == (("negative", "cancer"), "f00")
    assert (data.images.dtype, data.labels.dtype, data.patches.dtype) == (np.uint16, np.int64, np.uint16)


def test_a_lesions_patch_has_its_own_label_and_background_is_negative(dataset: Path) -> None:
    data = read_training_data(str(dataset), DataConfig())
    patches = rows_of_patches()
    kept = [n for n in range(2 * N) if n // 2 % 4 != 2 and patches[n]["label"] is not None]
    np.testing.assert_array_equal(data.patches, PATCHES[kept])
    assert data.patch_labels.tolist() == [int(patches[n]["label"] == "cancer") for n in kept]
    assert data.patch_patient_ids.tolist() == [patches[n]["patient_id"] for n in kept]


def test_background_is_negative_whatever_its_image_was_called(dataset: Path) -> None:
    rows = [{**row, "label": "benign" if row["kind"] == BACKGROUND else row["label"]} for row in rows_of_patches()]
    pq.write_table(table(rows, PATCHES, patch_schema(S)), dataset / "patches/part-00000.parquet")
    data = read_training_data(str(dataset), DataConfig())
    kept = [row for n, row in enumerate(rows) if n // 2 % 4 != 2 and row["label"] is not None]
    assert data.patch_labels.tolist() == [int(row["label"] == "cancer") for row in kept]
    assert any(row["kind"] == BACKGROUND for row in kept)


def test_with_another_target_a_patch_has_its_images_class(dataset: Path) -> None:
    data = read_training_data(str(dataset), DataConfig(target="density", classes={"fatty": ["F"], "dense": ["D", "G"]}))
    assert data.labels.tolist() == [int(n % 3 > 0) for n in range(N)]
    assert data.patch_labels.tolist() == [int(n // 2 % 3 > 0) for n in range(2 * N)]
    assert data.classes == ("fatty", "dense")


def test_numbers_are_named_without_a_point(dataset: Path) -> None:
    data = read_training_data(str(dataset), DataConfig(target="birads", classes={"low": ["1"], "high": ["3"]}))
    assert len(data.images) == 8


def test_the_same_from_an_object_store(dataset: Path) -> None:
    fsspec.filesystem("memory").put(str(dataset), "/shards-test", recursive=True)
    one, other = (read_training_data(uri, DataConfig()) for uri in (str(dataset), "memory://shards-test"))
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.patches, other.patches)
    assert read_rejects("memory://shards-test")["reason"].tolist() == ["is blank"]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (DataConfig(target="densty"), "no column 'densty'; did you mean 'density'?"),
        (DataConfig(target="density"), "density has 3 values (D, F, G) and two classes are needed"),
        (DataConfig(target="density", classes={"a": ["F"], "b": ["X"]}), "no image has density 'X'; found: D, F, G"),
        (DataConfig(target="density", classes={"a": ["F"], "b": ["D", "F"]}), "'F' is in more than one class"),
        (DataConfig(target="density", classes={"a": ["F", "D"]}), "two classes are needed"),
    ],
)
def test_questions_that_cannot_be_asked(dataset: Path, config: DataConfig, reason: str) -> None:
    assert reason in refusal(dataset, config)


def test_one_class_only(dataset: Path) -> None:
    manifest = read_manifest(str(dataset)).assign(label="negative")
    manifest.to_parquet(dataset / "manifest.parquet")
    message = refusal(dataset, DataConfig(classes={"negative": ["negative"], "cancer": []}))
    assert "no image is of class 'cancer'" in message


def test_more_than_two_classes_of_its_own(dataset: Path) -> None:
    change_info(dataset, classes=["negative", "benign", "cancer"])
    manifest = read_manifest(str(dataset))
    manifest.loc[:2, "label"] = "benign"
    manifest.to_parquet(dataset / "manifest.parquet")
    assert "label has 3 values (negative, benign, cancer) and two classes are needed; group them" in refusal(dataset)


def test_a_missing_shard_is_noticed(dataset: Path) -> None:
    (dataset / "images/part-00001.parquet").unlink()
    assert "holds 7 images, and dataset.json says 12" in refusal(dataset)


def test_missing_patches_are_noticed(dataset: Path) -> None:
    change_info(dataset, counts={"images": N, "patches": 2 * N + 1})
    assert "holds 24 patches, and dataset.json says 25" in refusal(dataset)


def test_a_missing_folder_a_damaged_file_and_a_strange_image(dataset: Path) -> None:
    manifest = read_manifest(str(dataset))
    manifest.loc[manifest["image_id"] == "i01", "image_id"] = "i99"
    manifest.to_parquet(dataset / "manifest.parquet")
    assert "image i99 of the manifest is missing" in refusal(dataset)
    (dataset / "manifest.parquet").write_bytes(b"PAR1 no table")
    assert "manifest.parquet: cannot be read" in refusal(dataset)
    (dataset / "manifest.parquet").unlink()
    assert "manifest.parquet: cannot be read" in refusal(dataset)


def test_sides_are_those_of_the_manifest_and_missing_where_it_has_none(dataset: Path) -> None:
    assert read_sides(str(dataset), ["i03"]).to_pylist() == [{"image_id": "i03", "laterality": None}]
    manifest = read_manifest(str(dataset))
    told = manifest["image_id"].map({"i00": "L", "i01": "R", "i02": "both"})
    manifest.assign(laterality=told).to_parquet(dataset / "manifest.parquet")
    found = read_sides(str(dataset), ["i03", "i01", "i00", "i02"])
    assert found["image_id"].to_pylist() == ["i00", "i01", "i02", "i03"]
    assert found["laterality"].to_pylist() == ["L", "R", None, None]


def test_a_manifest_without_patients_or_with_an_image_twice(dataset: Path) -> None:
    manifest = read_manifest(str(dataset))
    manifest.assign(patient_id=manifest["patient_id"].where(manifest["image_id"] != "i03")).to_parquet(
        dataset / "manifest.parquet"
    )
    assert "has no patient_id" in refusal(dataset)
    manifest.assign(image_id=manifest["image_id"].replace("i03", "i05")).to_parquet(dataset / "manifest.parquet")
    assert "image i05 is listed twice" in refusal(dataset)
    manifest.drop(columns="patient_id").to_parquet(dataset / "manifest.parquet")
    assert "no column 'patient_id'" in refusal(dataset)
    manifest.assign(image_id=range(len(manifest))).to_parquet(dataset / "manifest.parquet")
    assert "column 'image_id' holds other things than text" in refusal(dataset)


def test_what_is_no_dataset(dataset: Path, tmp_path: Path) -> None:
    assert "not a prepared dataset" in refusal(tmp_path)
    assert "not a prepared dataset" in refusal(tmp_path / "missing")
    change_info(dataset, format_version=2)
    assert "has format version 2; this program reads up to 1" in refusal(dataset)
    change_info(dataset, format_version=1, classes=7)
    assert "cannot be read: ValueError: classes is '7'; expected a list" in refusal(dataset)
    for content in ("[]", "{", '{"format_version": 1}', '{"format_version": "x"}', "\x00"):
        (dataset / "dataset.json").write_text(content)
        assert "dataset.json: cannot be read" in refusal(dataset)
    with pytest.raises(DataError, match="cannot be opened"):
        read_info("nonsense://a/b")


def test_where_a_dataset_may_be_written(dataset: Path, tmp_path: Path) -> None:
    check_vacant(str(tmp_path / "new" / "place"))
    (tmp_path / "empty").mkdir()
    check_vacant(str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="already holds a dataset"):
        check_vacant(str(dataset))
    with pytest.raises(UsageError, match="is not empty"):
        check_vacant(str(dataset / "images"))
    with pytest.raises(UsageError, match="is not empty"):
        check_vacant(str(dataset / "manifest.parquet"))
