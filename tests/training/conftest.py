"""What the tests of training share: a dataset that trains in a moment, small configurations, one thread."""

import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diagram_ray.config import ExperimentConfig, override
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


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's sums have one order on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def exact() -> Iterator[None]:
    """Whatever the processor, in float64: training makes the last digits of float32 grow to per cents."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def small() -> Callable[..., ExperimentConfig]:
    """Makes a small configuration, changed by keywords with __ for the point: training__k=2."""

    def make(**changes: object) -> ExperimentConfig:
        return override(ExperimentConfig(), SMALL | {key.replace("__", "."): v for key, v in changes.items()}, "test")

    return make


@pytest.fixture(scope="session")
def data() -> TrainingData:
    """24 images and patches of 12 patients."""
    return tiny_data()


@pytest.fixture(scope="session")
def flaky_class() -> type:
    """The class in flaky_files.py, registered once as `flaky://`."""
    spec = importlib.util.spec_from_file_location("flaky_files", Path(__file__).with_name("flaky_files.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FlakyFiles


@pytest.fixture
def files(flaky_class: Any) -> Any:
    """`flaky://` as new: an object store that fails as it is told to."""
    flaky_class.reset()
    return flaky_class


@pytest.fixture(scope="session")
def dataset(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` as prepare would have written it."""
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    write_dataset(folder, data)
    return folder


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
