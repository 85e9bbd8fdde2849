"""Made-up studies for the tests of the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.studies import synthetic_study


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., Path]:
    """make_study("name", trials=3, ...) writes a study folder and returns its path."""

    def make(folder: str = "study", **recipe: Any) -> Path:
        return synthetic_study.make_study(tmp_path / folder, synthetic_study.Recipe(**recipe))

    return make


@pytest.fixture(scope="session")
def usual_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One study with complete, pruned and failed trials and a control; not to be changed."""
    return synthetic_study.make_study(tmp_path_factory.mktemp("usual") / "study", synthetic_study.Recipe())
