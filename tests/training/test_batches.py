from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.config import TrainingConfig
from diagram_ray.errors import DataError
from diagram_ray.training.batches import (
    Purpose,
    Schedule,
    Stream,
    make_schedule,
    random_for,
    seed_for,
)


def schedule(images: int = 50, positives: int = 20, patches: int = 30, fold: int = 0, **settings: object) -> Schedule:
    labels = (np.arange(100) < positives).astype(np.int64)
    patch_labels = (np.arange(100) % 3 == 0).astype(np.int64)
    config = TrainingConfig.model_validate(settings)
    return make_schedule(config, fold, np.arange(images), labels, np.arange(10, 10 + patches), patch_labels)


def epoch_of(made: Schedule, epoch: int) -> list[np.ndarray]:
    return [made.image_batch(epoch, step) for step in range(made.inner_steps)]


@given(
    images=st.integers(1, 80),
    n=st.integers(1, 20),
    k=st.integers(1, 6),
    epoch=st.integers(0, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_an_epoch_draws_every_image_once_in_steps_of_nearly_equal_size(
    images: int, n: int, k: int, epoch: int, seed: int
) -> None:
    steps = -(-images // (n * k)) * k
    if steps > images:
        with pytest.raises(DataError, match=rf"{images} images.* training\.k = {k}"):
            schedule(images, image_batch=n, k=k, balance_classes=False)
        return
    batches = epoch_of(schedule(images, image_batch=n, k=k, balance_classes=False, seed=seed), epoch)
    assert len(batches) == steps
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= n
    assert max(sizes) - min(sizes) <= 1
    assert sorted(np.concatenate(batches)) == list(range(images))


@given(images=st.integers(2, 60), positives=st.integers(1, 59), n=st.integers(2, 20), epoch=st.integers(0, 5))
@settings(max_examples=200, deadline=None)
def test_a_balanced_epoch_draws_the_classes_equally_and_the_larger_one_once(
    images: int, positives: int, n: int, epoch: int
) -> None:
    positives = min(positives, images - 1)
    batches = epoch_of(schedule(images, positives, image_batch=n), epoch)
    for batch in batches:
        assert abs(int((batch < positives).sum()) * 2 - len(batch)) <= 1
    larger = max(positives, images - positives)
    drawn = np.bincount(np.concatenate(batches), minlength=images)
    classes = [drawn[:positives], drawn[positives:]]
    assert [counts.sum() for counts in classes] == [larger, larger]
    assert max(classes, key=len).tolist() == [1] * larger


def test_over_the_epochs_the_rarer_class_is_drawn_evenly() -> None:
    made = schedule(images=10, positives=3, image_batch=4)
    drawn = np.bincount(np.concatenate([np.concatenate(epoch_of(made, epoch)) for epoch in range(6)]))
    assert drawn[:3].tolist() == [14, 14, 14]
    assert drawn[3:].tolist() == [6] * 7


@pytest.mark.parametrize("balance", [True, False])
def test_patches_are_m_a_step_from_an_endless_stream(balance: bool) -> None:
    made = schedule(patches=30, patch_batch=7, balance_classes=balance)
    steps = [made.patch_batch_of(epoch, step) for epoch in range(12) for step in range(made.inner_steps)]
    assert {len(step) for step in steps} == {7}
    stream = np.concatenate(steps)
    if not balance:
        for first, last in pairwise(range(0, len(stream), 30)):
            assert sorted(stream[first:last]) == list(range(10, 40))
    else:
        assert all(abs(int((step % 3 == 0).sum()) * 2 - 7) <= 1 for step in steps)


def test_drawing_is_a_pure_function_of_its_position() -> None:
    one, two = schedule(k=2), schedule(k=2)
    later = one.image_batch(3, 1).tolist(), one.patch_batch_of(3, 1).tolist()
    epoch_of(two, 0)
    assert (two.image_batch(3, 1).tolist(), two.patch_batch_of(3, 1).tolist()) == later


def test_seed_fold_and_epoch_each_change_what_is_drawn() -> None:
    base = schedule().image_batch(0, 0).tolist()
    assert schedule(seed=1).image_batch(0, 0).tolist() != base
    assert schedule(fold=1).image_batch(0, 0).tolist() != base
    assert schedule().image_batch(1, 0).tolist() != base


def test_random_numbers_are_their_own_for_each_purpose_and_position() -> None:
    seeds = {
        seed_for(seed, fold, purpose, epoch, step)
        for seed in (0, 1)
        for fold in (0, 1)
        for purpose in Purpose
        for epoch in (0, 1)
        for step in (0, 1)
    }
    assert len(seeds) == 16 * len(Purpose)
    draws = [torch.rand(3, generator=random_for(0, 1, Purpose.EPOCH, 2, 3)).tolist() for _ in range(2)]
    assert draws[0] == draws[1]


def test_drawn_indices_do_not_depend_on_how_the_stream_is_cut() -> None:
    stream = Stream((np.arange(5), np.arange(10, 13)), (0, 0, 1))
    whole = stream.take(0, 40).tolist()
    assert [*stream.take(0, 7), *stream.take(7, 20), *stream.take(27, 13)] == whole
    assert set(whole) == {0, 1, 2, 3, 4, 10, 11, 12}


def test_a_training_part_without_patches_is_refused() -> None:
    with pytest.raises(DataError, match=r"fold 2: .* no patches"):
        schedule(patches=0, fold=2)
