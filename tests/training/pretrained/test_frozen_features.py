"""The baseline of frozen ImageNet features, against the published network itself and plain NumPy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.evaluation.metrics import auc
from diagram_ray.training.pretrained.frozen_features import (
    BATCH,
    TOP,
    frozen_feature_scores,
    frozen_features,
)
from diagram_ray.training.pretrained.weights_file import weights_file


def test_features_are_the_mean_and_the_largest_values_of_the_published_networks_last_maps() -> None:
    images = np.random.default_rng(0).integers(0, 65536, (3, 96, 128)).astype(np.uint16)
    network = EfficientNet.from_name("efficientnet-lite0", image_size=(96, 128)).eval()
    network.load_state_dict(torch.load(weights_file("efficientnet-lite0", True).place, weights_only=True))
    pixels = torch.from_numpy(images / 65535.0 * 2.0 - 1.0).float()[:, None].expand(-1, 3, -1, -1)
    with torch.no_grad():
        maps = network.extract_features(pixels).numpy().reshape(3, 1280, -1)
    assert maps.shape[2] == 12 > TOP
    expected = np.concatenate([maps.mean(axis=2), np.sort(maps, axis=2)[:, :, -TOP:].mean(axis=2)], axis=1)
    np.testing.assert_allclose(frozen_features(images), expected, atol=2e-4)


def test_fewer_positions_than_are_asked_for_are_all_taken() -> None:
    found = frozen_features(np.full((1, 32, 32), 9000, np.uint16))
    np.testing.assert_allclose(found[:, :1280], found[:, 1280:], atol=1e-6)


def test_images_smaller_than_the_networks_stride_have_features_too() -> None:
    images = np.random.default_rng(0).integers(0, 65536, (2, 9, 14)).astype(np.uint16)
    found = frozen_features(images)
    assert found.shape == (2, 2560)
    assert np.isfinite(found).all()
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_a_batch_more_or_less_changes_no_feature_and_no_more_is_read_at_once() -> None:
    class Watched(np.ndarray[Any, np.dtype[np.uint16]]):
        def __getitem__(self, index: Any) -> Any:
            asked.append(index)
            return np.asarray(self)[index]

    asked: list[slice] = []
    images = np.random.default_rng(0).integers(0, 65536, (BATCH + 3, 20, 12)).astype(np.uint16)
    found = frozen_features(images.view(Watched))
    assert [len(images[part]) for part in asked] == [BATCH, 3], "each image once"
    np.testing.assert_allclose(found[BATCH:], frozen_features(images[BATCH:]), atol=1e-5)


def test_images_are_scored_by_what_was_learnt_from_other_patients(data: TrainingData) -> None:
    splits = make_splits(data, 3, seed=0)
    scores = frozen_feature_scores(data, splits)
    assert auc(data.labels, scores) > 0.9  # a bright square
    for number in range(3):
        fold = splits.fold(data, number)
        labels = data.labels.copy()
        labels[fold.test_images] = np.roll(labels[fold.test_images], 2)
        again = frozen_feature_scores(replace(data, labels=labels), splits)
        np.testing.assert_array_equal(again[fold.test_images], scores[fold.test_images])
        assert not np.array_equal(again, scores)


def test_what_the_pictures_do_not_show_is_not_found(data: TrainingData) -> None:
    alike = replace(data, images=np.repeat(data.images[:1], len(data.images), axis=0))
    scores = frozen_feature_scores(alike, make_splits(alike, 3, seed=0))
    assert np.ptp(scores) < 0.2
    assert scores.tolist() == pytest.approx([0.5] * len(scores), abs=0.1)
