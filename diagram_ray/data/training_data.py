"""A prepared dataset in memory: what training and cross-validation work on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrainingData:
    """Images and patches of the two classes. N images, M patches, s = patch size.

    Intensities are uint16 over 0..65535 from the breast's own range; 0 is background.
    The arrays may be shared between processes and are never written to.
    """

    images: NDArray[np.uint16]
    """The images, (N, H, W)."""
    labels: NDArray[np.int64]
    """The labels (N,), indices into `classes`."""
    image_ids: NDArray[np.str_]
    patient_ids: NDArray[np.str_]
    patches: NDArray[np.uint16]
    """The patches, (M, s, s)."""
    patch_labels: NDArray[np.int64]
    patch_patient_ids: NDArray[np.str_]
    classes: tuple[str, ...]
    fingerprint: str
    """The fingerprint of the prepared dataset."""


@dataclass(frozen=True)
class Fold:
    """One train/test cut of a TrainingData, as indices into it."""

    number: int
    train_images: NDArray[np.intp]
    train_patches: NDArray[np.intp]
    test_images: NDArray[np.intp]
