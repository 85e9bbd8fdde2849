"""Made-up breasts and datasets of them, quick to make: each picture has a texture of its own."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diagram_ray.data.parquet.layout import image_schema, patch_schema

Pixels = NDArray[np.uint16]
SIDES = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))


def draw(seed: int, height: int = 96, width: int = 72) -> Pixels:
    """A breast with its chest wall at the left: half an ellipse, and an even background."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    middle, tall, wide = random.uniform(0.45, 0.55), random.uniform(0.4, 0.5), random.uniform(0.6, 0.95)
    radius = ((y / height - middle) / tall) ** 2 + (x / width / wide) ** 2
    noise = [ndimage.gaussian_filter(random.normal(size=(height, width)), size * height / 96) for size in (1.5, 4, 8)]
    texture = sum(size * each for size, each in zip((1.5, 4, 8), noise, strict=True))
    grey = (0.5 + texture / texture.std() / 6 + 0.2 * (1 - radius)).clip(0.02, 1)
    return np.where(radius < 1, grey * 65535, 0).astype(np.uint16)


def manifest_of(patients: int, seed: int = 0) -> pd.DataFrame:
    """Four images of each patient; two in five have cancer in one breast, and nothing else goes with it."""
    random = np.random.default_rng(seed)
    rows = []
    for patient in range(patients):
        sick = random.choice(["L", "R"]) if patient % 5 < 2 else ""
        rows += [
            {
                "image_id": f"image-{patient:03d}-{side}{view}",
                "patient_id": f"patient-{patient:03d}",
                "exam_id": f"exam-{patient:03d}",
                "laterality": side,
                "view": view,
                "label": "cancer" if side == sick else "negative",
                "density": str(random.integers(1, 5)),
                "rows": int(random.integers(2000, 4000)),
                "columns": int(random.integers(1500, 2500)),
                "inverted": bool(random.random() < 0.1),
                "mirrored": side == "R",
                "border_part": float(round(random.random() * 0.05, 4)) if random.random() < 0.3 else 0.0,
                "label_part": float(round(random.random() * 0.01, 4)),
                "source_folder": f"{random.choice(['a', 'b', 'c'])}/exam-{patient:03d}",
                "spacing_mm": None,
            }
            for side, view in SIDES
        ]
    return pd.DataFrame(rows)


def write_dataset(
    folder: Path, manifest: pd.DataFrame, pixels: Pixels, patches: list[dict[str, Any]] | None = None, **info: Any
) -> str:
    """Writes a dataset in two shards of several row groups; returns its place."""
    (folder / "images").mkdir(parents=True)
    (folder / "patches").mkdir()
    height, width = pixels.shape[1:]
    digests = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels]
    manifest = manifest.assign(digest=digests)
    manifest.to_parquet(folder / "manifest.parquet")
    told = manifest[["image_id", "patient_id", "label"]].to_dict("list")
    half = len(pixels) // 2
    for number, part in enumerate((slice(0, half), slice(half, None))):
        values = {name: column[part] for name, column in told.items()}
        table = _table(image_schema(height, width), values, pixels[part])
        pq.write_table(table, folder / "images" / f"part-{number:05d}.parquet", row_group_size=16)
    rows = patches or []
    names = patch_schema(32).names[:-1]
    table = _table(
        patch_schema(32),
        {name: [row.get(name) for row in rows] for name in names},
        np.zeros((len(rows), 32, 32), np.uint16),
    )
    pq.write_table(table, folder / "patches" / "part-00000.parquet")
    counts = {"images": len(pixels), "patients": int(manifest["patient_id"].nunique()), "patches": len(rows)}
    document = {
        "format_version": 1, "name": "made up", "source_format": "folder", "image_size": [height, width],
        "patch_size": 32, "classes": ["negative", "cancer"], "counts": counts, "fingerprint": "0123456789abcdef",
        "rejects": {}, **info,
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(document))
    return str(folder)


def _table(schema: pa.Schema, values: dict[str, Any], pixels: Pixels) -> pa.Table:
    kind = schema.field("pixels").type
    lists = pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel(), pa.uint16()), pixels.shape[1] * pixels.shape[2])
    columns = [pa.array(values[name], type=schema.field(name).type) for name in schema.names[:-1]]
    storage = pa.ExtensionArray.from_storage(kind, lists.cast(kind.storage_type))
    return pa.Table.from_arrays([*columns, storage], schema=schema)


@pytest.fixture(scope="session")
def draw_picture() -> Callable[..., Pixels]:
    return draw


@pytest.fixture(scope="session")
def make_manifest() -> Callable[..., pd.DataFrame]:
    return manifest_of


@pytest.fixture(scope="session")
def make_pictures() -> Callable[[int], Pixels]:
    """make_pictures(n): n different pictures, always the same ones."""
    made: list[Pixels] = []

    def make(count: int) -> Pixels:
        made.extend(draw(seed) for seed in range(len(made), count))
        return np.stack(made[:count])

    return make


@pytest.fixture
def write() -> Callable[..., str]:
    return write_dataset


@pytest.fixture
def made_up(tmp_path: Path, make_pictures: Callable[[int], Pixels]) -> str:
    """A clean dataset of 40 patients."""
    manifest = manifest_of(40)
    return write_dataset(tmp_path / "made-up", manifest, make_pictures(len(manifest)))
