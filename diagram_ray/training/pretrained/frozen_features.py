"""What a network that has learnt from photographs sees in mammograms, with nothing trained but a logistic regression.

A reference that costs seconds: a network that is trained on mammograms should be above it. Studies record its scores
(distributed/after_search/reference_network.py, whose VERSION changes with what is computed here).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from diagram_ray.data.splits import Splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.models.efficientnet import levels, rest
from diagram_ray.training.augment import to_tensor
from diagram_ray.training.pretrained.loading import load_pretrained

NETWORK = "efficientnet-lite0"
TOP = 6
"""Positions whose mean is the second feature of each channel: a lesion is small, and in the mean it is lost."""
BATCH = 16


def frozen_feature_scores(
    data: TrainingData,
    splits: Splits,
    network: str = NETWORK,
    pretrained: bool | str = True,
    strength: float = 1e-3,
    device: torch.device | str = "cpu",
) -> NDArray[np.float64]:
    """Out-of-fold probabilities of the last class: (N,), in the order of `data.images`.

    For each fold of `splits` a logistic regression is fitted to the standardised features of its training images;
    `strength` is the inverse of its penalty (scikit-learn's C); its default was good on CBIS-DDSM's masses
    and is a guess for other data. Raises ConfigError if the weights are not installed,
    and what `Splits.fold` raises.
    """
    features = frozen_features(data.images, network, pretrained, device)
    scores = np.full(len(data.images), np.nan)
    for number in range(splits.n_folds):
        fold = splits.fold(data, number)
        learner = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        learner.fit(features[fold.train_images], data.labels[fold.train_images])
        scores[fold.test_images] = learner.predict_proba(features[fold.test_images])[:, -1]
    return scores


def frozen_features(
    images: NDArray[np.uint16],
    network: str = NETWORK,
    pretrained: bool | str = True,
    device: torch.device | str = "cpu",
) -> NDArray[np.float32]:
    """Features (N, 2560) of images (N, H, W): the mean of each of the last 1280 maps, and that of its TOP largest."""
    trunk = _trunk(network, pretrained).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    features = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            pixels = to_tensor(images[start : start + BATCH].copy(), torch.device(device))
            features.append(_pooled(trunk(pixels)).cpu().numpy())
    return np.concatenate(features)


def _trunk(network: str, pretrained: bool | str) -> nn.Module:
    first, last = nn.Sequential(*levels(network, None)[0]), rest(network, None)[0]
    load_pretrained(first, 1, network, pretrained)
    load_pretrained(last, 0, network, pretrained)
    return nn.Sequential(first, last).eval()


def _pooled(maps: Tensor) -> Tensor:
    values = maps.flatten(2).float()
    largest = values.topk(min(TOP, values.shape[2]), dim=2).values
    return torch.cat([values.mean(dim=2), largest.mean(dim=2)], dim=1)
