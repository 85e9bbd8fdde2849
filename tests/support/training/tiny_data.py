"""A dataset that trains in a moment, as a prepared one on a disk too, and the settings that go with it."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.data.parquet.layout import image_schema, patch_schema
from diagram_ray.data.training_data import TrainingData

SMALL = {
    "model.width": 4,
    "model.generator_width": 4,
    "model.latent_size": 8,
    "training.image_batch": 4,
    "training.patch_batch": 4,
    "training.epochs": 3,
    "training.learning_rate.classifier": 0.003,
    "training.learning_rate.discriminator": 0.001,
}


def write_dataset(folder: Path, data: TrainingData) -> None:
    """The files of a prepared dataset."""
    (folder / "images").mkdir(parents=True)
    (folder / "patches").mkdir()
    info = {
        "format_version": 1,
        "name": "tiny",
        "image_size": list(data.images.shape[1:]),
        "patch_size": data.patches.shape[-1],
        "classes": list(data.classes),
        "counts": {
            "images": len(data.images),
            "patches": len(data.patches),
            "patients": len(set(data.patient_ids.tolist())),
        },
        "fingerprint": data.fingerprint,
    }
    (folder / "dataset.json").write_text(json.dumps(info))
    ids, patients = data.image_ids.tolist(), data.patient_ids.tolist()
    labels = [data.classes[label] for label in data.labels]
    manifest = pd.DataFrame({"image_id": ids, "patient_id": patients, "label": labels})
    manifest.to_parquet(folder / "manifest.parquet")
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray
    schema = image_schema(*data.images.shape[1:])
    images = pa.table([ids, patients, labels, tensor(data.images)], names=schema.names).cast(schema)
    pq.write_table(images, folder / "images" / "part-0.parquet")
    schema = patch_schema(data.patches.shape[-1])
    columns = [ids, ids, patients, labels, ["roi"] * len(ids), ["mass"] * len(ids), [[0.0, 0.0, 9.0, 9.0]] * len(ids)]
    patches = pa.table([*columns, tensor(data.patches)], names=schema.names).cast(schema)
    pq.write_table(patches, folder / "patches" / "part-0.parquet")


def tiny_data(patients: int = 12, side: int = 32, patch: int = 16) -> TrainingData:
    """Two images and two patches a patient, classes in turn; the positive class has a bright square. Read-only."""
    random = np.random.default_rng(0)
    owner = np.repeat(np.arange(patients), 2)
    labels = (owner % 2).astype(np.int64)
    images = random.integers(0, 30000, (len(owner), side, side)).astype(np.uint16)
    images[labels == 1, 8:20, 8:20] += 25000
    patches = random.integers(0, 30000, (len(owner), patch, patch)).astype(np.uint16)
    patches[labels == 1, 4:12, 4:12] += 25000
    images.flags.writeable = patches.flags.writeable = False
    names = np.array([f"p{number:02d}" for number in owner])
    return TrainingData(
        images=images,
        labels=labels,
        image_ids=np.array([f"i{number:03d}" for number in range(len(owner))]),
        patient_ids=names,
        patches=patches,
        patch_labels=labels,
        patch_patient_ids=names,
        classes=("benign", "cancer"),
        fingerprint="f" * 64,
    )
