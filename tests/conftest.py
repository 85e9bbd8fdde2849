"""Fixtures that every part's tests share."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REAL = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile(
    "steady", deadline=None, derandomize=True, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")  # the same cases on a machine of any speed; others: --hypothesis-profile default


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real mammograms beside the repository; the test is skipped where it is not."""
    if not REAL.is_dir():
        pytest.skip(f"no real mammograms at {REAL}: they may not be distributed with the project")
    return REAL
