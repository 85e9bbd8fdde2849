"""Pictures and datasets that the tests of `data` share."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from diagram_ray.data.training_data import TrainingData

DrawBreast = Callable[..., NDArray[np.float32]]


def draw(seed: int = 0, height: int = 300, width: int = 220, label: bool = True) -> NDArray[np.float32]:
    """A left breast: half an ellipse of uneven tissue at the left edge of a dark film, with a bright film label."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    middle = height * random.uniform(0.45, 0.55)
    tall, wide = height * random.uniform(0.3, 0.4), width * random.uniform(0.45, 0.65)
    radius = ((y - middle) / tall) ** 2 + (x / wide) ** 2
    texture = ndimage.gaussian_filter(random.normal(size=(height, width)), 6)
    tissue = 0.45 + 0.15 * texture / texture.std() / 2 + 0.2 * (1 - radius)
    film = 0.02 + 0.004 * random.normal(size=(height, width))
    picture = np.where(radius < 1, np.clip(tissue, 0.2, 0.95), film)
    if label:
        picture[6 : 6 + height // 12, -width // 6 : -6] = 1.0
    return np.asarray(np.clip(picture, 0, 1) * 4095, dtype=np.float32).round()


@pytest.fixture(scope="session")
def draw_breast() -> DrawBreast:
    return draw


def make_data(patients: int = 40, seed: int = 0, patches: bool = True) -> TrainingData:
    """Patients with one to four images each, of two classes; each image has two patches unless there are none."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 5, patients)
    owners = np.repeat([f"patient-{n:03d}" for n in range(patients)], counts)
    sick = np.repeat(random.random(patients) < 0.4, counts)
    labels = (sick & (random.random(len(owners)) < 0.7)).astype(np.int64)
    labels[np.unique(owners, return_index=True)[1][:8]] = 1
    of_patch = np.repeat(np.arange(len(owners)), 2 if patches else 0)
    return TrainingData(
        images=np.zeros((len(owners), 4, 4), np.uint16),
        labels=labels,
        image_ids=np.array([f"image-{n:04d}" for n in random.permutation(len(owners))]),
        patient_ids=owners,
        patches=np.zeros((len(of_patch), 4, 4), np.uint16),
        patch_labels=labels[of_patch],
        patch_patient_ids=owners[of_patch],
        classes=("negative", "cancer"),
        fingerprint="abc",
    )


@pytest.fixture
def data() -> TrainingData:
    return make_data()
