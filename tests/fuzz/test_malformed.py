"""Thousands of malformed sources: each is prepared, rejected with a reason or refused, in little time and memory.

The cases are the same in every run. `python -m tests.fuzz.long_run` reads as many more as one likes.
"""

import os
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.fuzz.allcases import HANDMADE
from tests.fuzz.seeds import make_seeds
from tests.fuzz.targets import TARGETS
from tests.fuzz.watch import Verdict, Watch

pytestmark = pytest.mark.slow

CASES = 150
"""Damaged seeds of each target."""


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Children that read, and end with the tests."""
    folder = tmp_path_factory.mktemp("fuzz")
    make_seeds(folder / "seeds")
    made = Watch(folder / "seeds", folder, min(2, os.cpu_count() or 1))
    yield made
    made.close()


def faults(verdicts: list[Verdict]) -> list[str]:
    return [f"{verdict.case}: {verdict.fault}" for verdict in verdicts if verdict.fault]


def test_damaged_files(watch: Watch) -> None:
    """Truncated, bit-flipped, with wrong lengths and words where they do not belong; files gone, exchanged, renamed."""
    cases = [f"{target}/{number}" for target in TARGETS for number in range(CASES)]
    verdicts = list(watch.judge(cases))
    assert faults(verdicts) == []
    assert len(verdicts) == len(cases) == CASES * len(TARGETS)
    became: Counter[str] = Counter()
    for verdict in verdicts:
        became.update(verdict.tally)
    least = min(became[name] for name in ("prepared", "rejected", "refused"))
    assert least > 300  # or the damage does no harm, or too much


def test_sources_made_to_hurt(watch: Watch) -> None:
    """Bombs, endless files, paths that lead out, entities, links to devices: each written by hand for one weakness."""
    verdicts = list(watch.judge(sorted(HANDMADE)))
    assert faults(verdicts) == []
    assert len(verdicts) == len(HANDMADE) > 600
