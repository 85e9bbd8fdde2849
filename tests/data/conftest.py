"""Pictures and datasets that the tests of `data` share."""

import pytest

from diagram_ray.data.training_data import TrainingData
from tests.support.sources.breasts import DrawBreast, draw
from tests.support.training.patients import make_data


@pytest.fixture(scope="session")
def draw_breast() -> DrawBreast:
    return draw


@pytest.fixture
def data() -> TrainingData:
    return make_data()
