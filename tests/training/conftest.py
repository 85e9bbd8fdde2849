"""What the tests of training share: a dataset that trains in a moment, small configurations, one thread."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.dataset import TrainingData

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
