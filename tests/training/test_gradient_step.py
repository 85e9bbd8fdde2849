"""When memory runs out a step is repeated in parts: the same mathematics, down to one sample, then a clear end."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import OutOfMemory
from diagram_ray.training.gradient_step import GradientStep, is_out_of_memory
from diagram_ray.training.trainer import Trainer
from tests.support.training import one_of_many as together

LOSSES = ("loss_adversarial", "loss_patch", "loss_image", "loss_generator")
Small = Callable[..., ExperimentConfig]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def trainer(config: ExperimentConfig, data: TrainingData) -> Trainer:
    return Trainer(config, data, np.arange(16), np.arange(16))


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"model__dropout": 0.3, "training__image_batch": 5, "training__patch_batch": 7},
        {"model__gan": False, "training__optimizer": "sgd", "training__k": 3},
    ],
)
def test_a_step_in_parts_is_the_step(samples: int, changes: dict, small: Small, data: TrainingData) -> None:
    rates = {"training__learning_rate__classifier": 3e-4, "training__learning_rate__discriminator": 3e-4}
    whole, parts = (trainer(small(**changes, **rates), data) for _ in range(2))
    rows = [whole.advance() for _ in range(2)]
    with together.little_memory(samples) as asked:
        for row in rows:
            again = parts.advance()
            for key in LOSSES:
                assert again[key] == (None if row[key] is None else pytest.approx(row[key], rel=0, abs=1e-9))
    assert max(asked[len(asked) // 2 :]) <= 2 * samples  # what fits is known by then
    for (name, one), two in zip(whole.model.named_parameters(), parts.model.parameters(), strict=True):
        torch.testing.assert_close(two, one, rtol=0, atol=1e-9, msg=name)


def test_it_is_halved_until_it_fits_and_that_is_remembered(small: Small, data: TrainingData) -> None:
    made = trainer(small(model__gan=False, training__multi_task=False, training__image_batch=16), data)
    with together.little_memory(3) as asked:
        made.advance()
        made.advance()
    assert asked == [16, 8, 4] + [2] * 8 + [2] * 8


def test_nothing_of_a_part_that_failed_is_counted_twice(small: Small, data: TrainingData) -> None:
    made, whole = (trainer(small(model__gan=False, training__multi_task=False), data) for _ in range(2))
    forward, calls = made.model.features.forward, []

    def fails_once(pixels: torch.Tensor) -> torch.Tensor:
        calls.append(len(pixels))
        if calls == [4] or calls == [4, 2, 2]:  # at once, then after the first half's gradients are there
            raise MemoryError("a lot")
        return forward(pixels)

    made.model.features.forward = fails_once
    assert made.advance()["loss_image"] == pytest.approx(whole.advance()["loss_image"], abs=1e-9)
    assert calls[:7] == [4, 2, 2, 1, 1, 1, 1]


def test_one_sample_too_many_ends_the_training(small: Small, data: TrainingData) -> None:
    made = trainer(small(), data)
    message = r"^out of memory in the discriminator step, with one sample at a time: CUDA out of memory\. Tried"
    with together.little_memory(0), pytest.raises(OutOfMemory, match=message):
        made.advance()


def test_batch_norm_is_not_split(small: Small, data: TrainingData) -> None:
    made = trainer(small(model__norm="batch"), data)
    message = r"^out of memory in the discriminator step, and model\.norm = batch needs the minibatch as a whole: "
    with together.little_memory(1) as asked, pytest.raises(OutOfMemory, match=message):
        made.advance()
    assert len(asked) == 1


def test_other_errors_are_not_taken_for_it() -> None:
    weight = torch.nn.Parameter(torch.ones(1))

    def fails(part: slice) -> dict[str, torch.Tensor]:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        GradientStep().step("any", torch.optim.SGD([weight]), 4, ("any",), fails)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_says_that_memory_ran_out(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
