import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.training.batches import Purpose, prefetched
from diagram_ray.training.objectives import InnerBatch
from diagram_ray.training.trainer import Trainer


def batches(config: ExperimentConfig, data: TrainingData) -> Iterator[InnerBatch]:
    made = Trainer(config, data, np.arange(16), np.arange(16))
    dropout = made._random(Purpose.EPOCH)
    return (made._inner_batch(step, dropout) for step in range(made._schedule.inner_steps))


def test_batches_made_ahead_are_the_same(small: Callable[..., ExperimentConfig], data: TrainingData) -> None:
    config = small(training__k=2, model__dropout=0.5)
    one_by_one, ahead = list(batches(config, data)), list(prefetched(batches(config, data)))
    assert len(one_by_one) == len(ahead) > 2
    for expected, found in zip(one_by_one, ahead, strict=True):
        assert vars(expected).keys() == vars(found).keys()
        for name, value in vars(expected).items():
            other = getattr(found, name)
            assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name


def test_the_next_one_is_made_while_one_is_in_use_and_no_more() -> None:
    begun = [threading.Event() for _ in range(4)]

    def items() -> Iterator[int]:
        for number, event in enumerate(begun):
            event.set()
            yield number

    ahead = prefetched(items())
    assert next(ahead) == 0
    assert begun[1].wait(30)
    assert not begun[2].is_set()
    assert list(ahead) == [1, 2, 3]


def test_what_goes_wrong_is_raised_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise MemoryError("no room for the second one")

    ahead = prefetched(items())
    assert next(ahead) == 1
    with pytest.raises(MemoryError, match="second"):
        next(ahead)
