"""What the tests of training share: a dataset that trains in a moment, small configurations, one thread."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.training_data import TrainingData
from tests.support.flaky_files import FlakyFiles
from tests.support.training.tiny_data import SMALL, tiny_data, write_dataset


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


@pytest.fixture
def files() -> type[FlakyFiles]:
    """`flaky://` as new: an object store that fails as it is told to."""
    FlakyFiles.reset()
    return FlakyFiles


@pytest.fixture(scope="session")
def dataset(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` as prepare would have written it."""
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    write_dataset(folder, data)
    return folder
