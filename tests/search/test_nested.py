"""The logic of nested cross-validation, against one that trains everything, and against what it promises."""

import itertools
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagram_ray.data.splits import Splits
from diagram_ray.errors import ConfigError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.nested import Failed, Field, HeldOutModel, NestedSearch, leave_out
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.racing import Cases, RaceConfig, make_race
from diagram_ray.search.space import parse_space
from diagram_ray.study.config import ControlConfig, SamplerConfig, StudyConfig
from diagram_ray.study.nested_plan import blind, check_nested, inner_ladder, price

SPACE = parse_space({"training.k": {"type": "int", "low": 1, "high": 9}}, "test")
FOLDS = 4
LADDER = Ladder((Rung(1, 2), Rung(FOLDS, 2), Rung(FOLDS, 6)), 2)


def study(**settings: object) -> StudyConfig:
    return StudyConfig(name="test", space=SPACE, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["tpe", "random", "qmc", "grid"])
@pytest.mark.parametrize("lookback", [1, 3])
def test_blind_trials_depend_on_no_result(name: str, lookback: int) -> None:
    config = study(sampler=SamplerConfig(name=name, startup_trials=4), trials=9, first=[{"training.k": 3}])  # type: ignore[arg-type]
    if name == "grid":
        config = config.model_copy(update={"first": []})

    def asked(score: Callable[[int], float]) -> list[dict]:
        sampler, trials = Sampler(SPACE, config.sampler, 0, lookback, config.first), dict[int, Trial]()
        for number in range(config.trials):
            params = sampler.ask(number, trials)
            values = (score(params["training.k"]),) * 3
            measured = (Measurement(3, 1, values, values, 0.0),)
            trials[number] = Trial(number, params, TrialState.COMPLETE, "", measured)
        return [trial.params for trial in trials.values()]

    rising, falling = asked(lambda k: k / 10), asked(lambda k: 1 - k / 10)
    numbers = blind(config, lookback)
    assert [rising[number] for number in numbers] == [falling[number] for number in numbers]
    if name == "tpe":
        assert numbers == tuple(range(4 + lookback - 1))
        assert rising != falling  # the others do depend
    else:
        assert numbers == tuple(range(9))


def test_a_whole_point_of_the_file_is_blind_and_a_part_of_one_is_not() -> None:
    space = parse_space({key: {"type": "int", "low": 1, "high": 9} for key in ("training.k", "model.width")}, "test")
    whole, part = {"training.k": 3, "model.width": 4}, {"training.k": 3}
    config = StudyConfig(
        name="test", space=space, trials=5, first=[part, part, part, whole], sampler=SamplerConfig(startup_trials=2)
    )
    assert blind(config, 1) == (0, 1, 3)


def test_two_folds_are_refused() -> None:
    nested = ControlConfig(nested=True)
    check_nested(study(folds=3, control=nested))
    with pytest.raises(ConfigError, match=r"control\.nested: with folds 2 nothing is left to train on"):
        check_nested(study(folds=2, control=nested))


@given(st.integers(3, 8))
def test_folds_are_left_out_together_and_inner_folds_have_numbers_of_their_own(folds: int) -> None:
    splits = Splits(folds, 0, "f", {f"p{i}": i % folds for i in range(3 * folds)})
    for outer in range(folds):
        assert leave_out(splits, (outer,)) == (splits, outer)
        numbers = set()
        for inner in set(range(folds)) - {outer}:
            apart, number = leave_out(splits, tuple(sorted((outer, inner))))
            left = {name for name, fold in apart.patients.items() if fold == number}
            assert left == {name for name, fold in splits.patients.items() if fold in (outer, inner)}
            numbers.add(number)
        assert len(numbers) == folds - 1


class World:
    """Scores of models as pure functions of what they were trained on; a model must be trained before it scores."""

    def __init__(self, trials: int, seed: int = 0, spoilt: int | None = None) -> None:
        random = np.random.default_rng(seed)
        self.trials, self.seed, self.spoilt = trials, seed, spoilt
        patients = np.repeat(np.arange(32), 2)
        self.cases = Cases(random.permutation(np.arange(64) % 2), patients % FOLDS, patients, 100)
        self.quality = random.random(trials)
        self.trained: list[HeldOutModel] = []
        self.failing: set[int] = set()

    def score(self, cell: HeldOutModel, fold: int) -> np.ndarray:
        name = f"Cell(trial={cell.trial}, without={cell.without}, epochs={cell.epochs})"
        key = zlib.crc32(f"{self.seed} {name} {fold} {fold == self.spoilt}".encode())
        noise = np.random.default_rng(key).normal(size=len(self.cases.rows(fold)))
        return noise + self.quality[cell.trial] * cell.epochs / 3 * self.cases.labels[self.cases.rows(fold)]

    def of(self, cell: HeldOutModel, fold: int) -> np.ndarray | Failed | None:
        assert fold in cell.without
        if cell not in self.trained:
            return None
        return Failed("it diverged") if cell.trial in self.failing else self.score(cell, fold)

    def search(self, lookback: int, race: RaceConfig | None = None, order: int = 0) -> NestedSearch:
        """Trains what is asked for, one at a time in a random order, until there is nothing more."""
        field = Field(
            range(self.trials), inner_ladder(LADDER), lookback, make_race(race or RaceConfig(rule="none")), self.cases
        )
        search, random = NestedSearch(field, self), np.random.default_rng(order)
        while waiting := search.advance():
            assert not set(waiting) & set(self.trained)
            self.trained.append(waiting[random.integers(len(waiting))])
        return search


def by_training_everything(world: World, lookback: int) -> list[tuple[int, float]]:
    """Each outer fold's winner and its inner mean: the search written out once more, over a table of all scores."""
    found = []
    for outer in range(FOLDS):
        inner = [fold for fold in range(FOLDS) if fold != outer]

        def mean(trial: int, folds: int, epochs: int) -> float:
            return float(
                np.mean(
                    [
                        auc(
                            world.cases.labels[world.cases.rows(fold)],
                            world.score(HeldOutModel(trial, tuple(sorted((fold, outer))), epochs), fold),  # noqa: B023
                        )
                        for fold in inner[:folds]  # noqa: B023
                    ]
                )
            )

        reached: dict[tuple[int, int], dict[int, float]] = {(1, 2): {}, (3, 2): {}, (3, 6): {}}
        for trial in range(world.trials):
            for point, values in reached.items():
                values[trial] = mean(trial, *point)
                rivals = [value for other, value in values.items() if other <= trial - lookback]
                better = sum(value > values[trial] for value in rivals)
                if point != (3, 6) and len(rivals) >= 1 and better >= (len(rivals) + 1) // 2:
                    break
        final = reached[3, 6]
        winner = max(final, key=lambda trial: (final[trial], -trial))
        found.append((winner, final[winner]))
    return found


@pytest.mark.parametrize("lookback", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_training_everything_finds(seed: int, lookback: int) -> None:
    world = World(9, seed)
    results = world.search(lookback).results()
    assert isinstance(results, list)
    assert [(outer.trial, pytest.approx(outer.inner_auc)) for outer in results] == by_training_everything(
        world, lookback
    )
    for outer in results:
        np.testing.assert_array_equal(
            outer.scores, world.score(HeldOutModel(outer.trial, (outer.fold,), 6), outer.fold)
        )


def test_a_model_serves_both_its_folds_and_only_what_is_needed_is_trained() -> None:
    world = World(9)
    world.search(lookback=1)
    assert len(world.trained) == len(set(world.trained))
    pairs = [cell for cell in world.trained if len(cell.without) == 2]
    exhaustive = 9 * 6 * 2  # pairs of four folds, at two numbers of epochs
    assert len(pairs) < 0.7 * exhaustive
    assert len(world.trained) - len(pairs) <= FOLDS


@settings(max_examples=8)
@given(st.integers(0, 10**6))
def test_the_order_of_training_changes_nothing(order: int) -> None:
    first, again = World(6, 1), World(6, 1)
    one, other = first.search(3).results(), again.search(3, order=order).results()
    assert isinstance(one, list)
    assert isinstance(other, list)
    assert [(a.trial, a.inner_auc) for a in one] == [(b.trial, b.inner_auc) for b in other]
    assert set(first.trained) == set(again.trained)


@pytest.mark.parametrize("race", [RaceConfig(rule="none"), RaceConfig(rule="bbcd", alpha=0.3, resamples=100)])
def test_the_outer_fold_chooses_nothing(race: RaceConfig) -> None:
    """Whatever models score on fold 2, its own search comes to the same; the others do not."""
    before, after = World(8, 5), World(8, 5, spoilt=2)
    one, other = before.search(2, race).results(), after.search(2, race).results()
    assert isinstance(one, list)
    assert isinstance(other, list)
    chosen = [(a.inner_auc == b.inner_auc, a.trial == b.trial) for a, b in zip(one, other, strict=True)]
    assert chosen[2] == (True, True)
    assert not all(same for same, _ in chosen)
    assert (one[2].scores != other[2].scores).any()


def test_a_race_drops_more() -> None:
    alone, raced = World(8, 5), World(8, 5)
    alone.search(1)
    raced.search(1, RaceConfig(rule="aggressive", alpha=0.0))
    assert set(raced.trained) < set(alone.trained)


def test_what_fails_does_not_win_and_if_all_fail_it_says_why() -> None:
    world = World(5, 2)
    best = {outer.trial for outer in World(5, 2).search(1).results()}  # type: ignore[union-attr]
    world.failing = best
    results = world.search(1).results()
    assert isinstance(results, list)
    assert not {outer.trial for outer in results} & best
    world = World(5, 2)
    world.failing = set(range(5))
    assert world.search(1).results() == Failed("outer fold 0: no configuration is complete; trial 0: it diverged")


@pytest.mark.parametrize("lookback", [1, 4])
def test_it_costs_at_most_its_price(lookback: int) -> None:
    config = study(trials=9, folds=FOLDS, sampler=SamplerConfig(name="random"))
    cost, world = price(config, LADDER, lookback), World(9)
    world.search(lookback)
    spent: dict[tuple[int, tuple[int, ...]], int] = {}
    for cell in world.trained:
        key = cell.trial, cell.without
        spent[key] = max(cell.epochs, spent.get(key, 0))
    assert cost.candidates == 9
    assert cost.largest == 9 * 6 * 6 + FOLDS * 6
    assert sum(spent.values()) <= cost.largest
    assert cost.expected < cost.largest


def test_the_expected_price_is_that_of_independent_outer_folds() -> None:
    config = study(trials=1, folds=3, sampler=SamplerConfig(name="random"))
    ladder = Ladder((Rung(1, 2), Rung(3, 2), Rung(3, 6)), 2)
    many = price(config.model_copy(update={"trials": 1001}), ladder, 1).expected
    ends = {0: 0.5, 1: 0.25, 2: 0.25}  # a half passes each rung
    needs = {0: (2, 0), 1: (2, 2), 2: (6, 6)}  # epochs of the first inner fold and of the second
    mean = 0.0
    for reached in itertools.product(ends, repeat=3):
        epochs: dict[frozenset[int], int] = {}
        for outer, end in enumerate(reached):
            inner = [fold for fold in range(3) if fold != outer]
            for fold, needed in zip(inner, needs[end], strict=True):
                pair = frozenset((outer, fold))
                epochs[pair] = max(needed, epochs.get(pair, 0))
        mean += float(np.prod([ends[end] for end in reached])) * sum(epochs.values())
    assert many == pytest.approx(3 * 6 + 1000 * mean, abs=1)


def test_the_price_is_told_in_words_and_as_a_multiple() -> None:
    config = study(trials=10, folds=5, sampler=SamplerConfig(name="random"))
    whole = Ladder((Rung(5, 9),), 3)
    assert str(price(config, whole, 1)) == (
        "10 configurations, at most 945 fold-epochs, about 900 expected: 2.0 times the search"
    )
