"""Fixtures that every part's tests share."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support.repository import ROOT

REAL = Path(os.environ.get("DIAGRAM_RAY_REAL_DATA") or ROOT.parent / "shared" / "data")

settings.register_profile(
    "steady", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")  # the same cases on a machine of any speed; others: --hypothesis-profile default


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real mammograms that DIAGRAM_RAY_REAL_DATA names, or the one beside the repository.

    The test is skipped where there is none.
    """
    if not REAL.is_dir():
        pytest.skip(
            f"no real mammograms at {REAL}, which may not be distributed with the project: "
            "DIAGRAM_RAY_REAL_DATA says where they are"
        )
    return REAL
