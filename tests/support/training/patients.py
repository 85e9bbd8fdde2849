"""Patients with several images each, for what assigns them to folds: their pictures are empty."""

import numpy as np

from diagram_ray.data.training_data import TrainingData


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
