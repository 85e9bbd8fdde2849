"""The power line is what simulated repeats of cross-validation show."""

import numpy as np
import pytest

from diagram_ray.evaluation.comparison import corrected_t
from diagram_ray.evaluation.power import POWER, power_line, shown


def simulated(difference: float, sd: float, repeats: int, folds: int, studies: int = 4000) -> float:
    """Fold differences with the correlation that the corrected test takes them to have: 1 / K."""
    random = np.random.default_rng(0)
    shared = random.normal(size=(studies, 1)) * sd * np.sqrt(1 / (folds - 1))
    values = difference + shared + random.normal(size=(studies, repeats * folds)) * sd
    return float(np.mean([corrected_t(row, 1 / (folds - 1)).p < 0.05 for row in values]))


@pytest.mark.parametrize(("difference", "repeats"), [(0.02, 1), (0.03, 2), (0.03, 6)])
def test_the_power_is_that_of_the_corrected_test(difference: float, repeats: int) -> None:
    assert simulated(difference, 0.02, repeats, 5) == pytest.approx(shown(difference, 0.02, repeats, 5), abs=0.03)


def test_enough_repeats_are_found_and_one_less_is_not_enough() -> None:
    random = np.random.default_rng(1)
    trials = [0.8 + 0.01 * random.normal(size=5) for _ in range(4)]
    found = power_line(trials, 5)
    assert found is not None
    assert found.repeats is not None
    assert found.pairs == 3
    assert found.fold_sd == pytest.approx(np.sqrt(np.mean([np.var(t - trials[0], ddof=1) for t in trials[1:]])))
    assert shown(0.02, found.fold_sd, found.repeats, 5) >= POWER > shown(0.02, found.fold_sd, found.repeats - 1 or 1, 5)
    assert shown(found.smallest, found.fold_sd, 1, 5) == pytest.approx(POWER, abs=1e-3)


def test_some_differences_no_number_of_repeats_shows() -> None:
    found = power_line([[0.8, 0.8, 0.8, 0.8], [0.7, 0.9, 0.8, 0.85]], 4)
    assert found is not None
    assert found.repeats is None
    assert 0.02 < found.limit < found.smallest


def test_one_trial_or_equal_ones_say_nothing() -> None:
    assert power_line([[0.8, 0.7]], 2) is None
    assert power_line([[0.8, 0.7], [0.8, 0.7]], 2) is None
