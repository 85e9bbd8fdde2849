"""What earlier studies found helps the sampler, and is never counted as the study's own."""

import random
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from diagram_ray.errors import ConfigError, DataError, UsageError
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.constraints import Goals
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.space import Choices, FloatRange, IntRange, Space
from diagram_ray.study.config import SamplerConfig
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.warm_start import (
    FILE,
    Mapper,
    check_studies,
    gather,
    read_warm_start,
    write_warm_start,
)

LADDER = Ladder((Rung(2, 1), Rung(3, 3)), 3)
SPACE: Space = {
    "model.gan": Choices(choices=[True, False]),
    "model.latent_size": IntRange(low=8, high=64, when={"model.gan": [True]}),
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
    "model.dropout": FloatRange(low=0.0, high=0.5),
}
MAPPER = Mapper(SPACE, LADDER, Goals(), None)


def good(decay: float) -> float:
    return 0.9 - abs(decay - 0.8)


def earlier(folder: Path) -> Path:
    """A study of 40 trials that tell where the best is, and of six of which each says nothing for a reason."""
    draw = random.Random(0)
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(yaml.safe_dump({"dataset": {"fingerprint": "f" * 8}}))
    usual = [{"model.gan": False, "training.weight_decay": draw.random(), "model.dropout": 0.1} for _ in range(40)]
    odd = [
        usual[0] | {"model.gan": True},  # its latent size is not known
        usual[0] | {"model.latent_size": 9},
        usual[0] | {"model.dropout": 0.6},
        usual[0] | {"training.k": 2},
        usual[0],  # fails
        usual[0],  # has another ladder
    ]
    with open_ledger(folder) as ledger:
        for number, params in enumerate(usual + odd):
            ledger.asked(number, params)
            rungs = [(2, 1), (3, 3)] if number < 45 else [(3, 1), (3, 2)]
            for rung, (folds, epochs) in enumerate(rungs[: 1 if number % 3 == 1 and number != 45 else 2]):
                score = (good(params["training.weight_decay"]),) * folds
                ledger.measured(number, rung, Measurement(folds, epochs, score, score, 1.0), "")
            state = TrialState.FAIL if number == 44 else TrialState.PRUNED if number % 3 == 1 else TrialState.COMPLETE
            ledger.ended(number, state, "")
    return folder


def test_what_says_something_is_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    trials, (source,) = gather([str(earlier(tmp_path / "old"))], MAPPER)
    assert (source.told, source.dataset) == (40, "f" * 8)
    assert source.left_out == {"no rung in common": 1, "no score": 1, "other keys": 3, "outside the space": 1}
    assert "40 trials, 1 left out: no rung in common" in str(source)
    assert [trial.state is TrialState.PRUNED for trial in trials] == [number % 3 == 1 for number in range(40)]


def test_a_trial_that_was_complete_on_a_shorter_ladder_is_a_pruned_one_here(tmp_path: Path) -> None:
    higher = Ladder((*LADDER.rungs, Rung(3, 9)), 3)
    trials, _ = gather([str(earlier(tmp_path / "old"))], Mapper(SPACE, higher, Goals(), None))
    assert {(trial.state, len(trial.measurements)) for trial in trials} == {
        (TrialState.PRUNED, 1),
        (TrialState.PRUNED, 2),
    }


def test_what_is_no_configuration_with_a_size_is_outside(tmp_path: Path) -> None:
    def size_estimator(params: object) -> dict[str, float]:
        raise ConfigError("no configuration")

    trials, (source,) = gather([str(earlier(tmp_path / "old"))], Mapper(SPACE, LADDER, Goals(), size_estimator))
    assert trials == []
    assert source.left_out["outside the space"] == 42


def sampler(name: str, learnt: list[Trial]) -> Sampler:
    return Sampler(SPACE, SamplerConfig.model_validate({"name": name}), 0, 3, (), None, learnt)


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_the_first_proposals_are_better_for_it(name: str, tmp_path: Path) -> None:
    trials, _ = gather([str(earlier(tmp_path / "old"))], MAPPER)
    mean = []
    for learnt in (trials, []):
        driver, known, decays = sampler(name, learnt), {}, []
        for number in range(8):
            params = driver.ask(number, known)
            decays.append(params["training.weight_decay"])
            known[number] = Trial(number, params, TrialState.FAIL)
        mean.append(sum(map(good, decays)) / 8)
    print(f"\n{name}: AUC of the first eight {mean[0]:.3f}, without warm start {mean[1]:.3f}")
    assert mean[0] > mean[1] + 0.1


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_resumed_study_goes_on_exactly_when_the_earlier_one_is_gone(name: str, tmp_path: Path) -> None:
    old, new = earlier(tmp_path / "old"), tmp_path / "new"
    learnt, sources = gather([str(old)], MAPPER)
    write_warm_start(new, learnt, sources)
    shutil.rmtree(old)
    again = read_warm_start(new)
    assert again == learnt
    driver, known = sampler(name, learnt), {}
    for number in range(12):
        params = driver.ask(number, known)
        score = (good(params["training.weight_decay"]),)
        rungs = (Measurement(2, 1, score, score, 0.0), Measurement(3, 3, score, score, 0.0))
        known[number] = Trial(number, params, TrialState.COMPLETE, "", rungs)
    for stopped in (0, 4, 11):
        part = {number: known[number] for number in range(stopped)}
        assert sampler(name, again).ask(stopped, part) == known[stopped].params


BOUNDED = Goals(bounds={"parameters": 1000.0})
WIDTHS: Space = {
    "model.width": IntRange(low=4, high=64, step=4),
    "training.weight_decay": FloatRange(low=0.0, high=1.0),
}


def area(params: Mapping[str, Any]) -> dict[str, float]:
    return {"parameters": float(params["model.width"] ** 2)}


def bounded(folder: Path) -> Path:
    """A study of 30 trials that refused what is too large, and one trial that failed."""
    draw = random.Random(1)
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("dataset: {}")
    with open_ledger(folder) as ledger:
        for number in range(31):
            params = {"model.width": draw.randrange(4, 65, 4), "training.weight_decay": draw.random()}
            ledger.asked(number, params, area(params))
            broken = BOUNDED.broken(area(params))
            if not broken:  # the wider the better: only the bound says that wide ones are of no use
                score = (params["model.width"] / 100,) * 3
                ledger.measured(number, 0, Measurement(2, 1, score[:2], score[:2], 1.0), "")
                ledger.measured(number, 1, Measurement(3, 3, score, score, 1.0), "")
            state = TrialState.FAIL if number == 30 else TrialState.PRUNED if broken else TrialState.COMPLETE
            ledger.ended(number, state, broken)
    return folder


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_what_a_bound_refused_teaches_the_bound(name: str, tmp_path: Path) -> None:
    trials, (source,) = gather([str(bounded(tmp_path / "old"))], Mapper(WIDTHS, LADDER, BOUNDED, area))
    assert (source.told, source.left_out) == (30, {"no score": 1})
    scored = [trial for trial in trials if trial.measurements]
    assert 0 < len(scored) < 30
    assert all(BOUNDED.broken(trial.sizes) for trial in trials if trial not in scored)
    refused = {}
    for told, earlier_trials in (("all", trials), ("scored ones", scored), ("nothing", [])):
        refused[told] = 0
        for seed in range(5):
            driver, known = Sampler(WIDTHS, SamplerConfig(name=name), seed, 3, (), BOUNDED, earlier_trials), {}
            for number in range(10):
                params = driver.ask(number, known)
                broken = BOUNDED.broken(area(params))
                refused[told] += bool(broken)
                known[number] = Trial(number, params, TrialState.PRUNED if broken else TrialState.FAIL, broken)
    print(f"\n{name}: of 5 x 10 proposals refused: {refused}")
    assert refused["all"] < refused["scored ones"]
    assert refused["all"] <= refused["nothing"] / 2


def test_a_bound_is_that_of_the_new_study(tmp_path: Path) -> None:
    """Of what the earlier one refused, a wider bound lets in some that have no score; they say nothing then."""
    old = str(bounded(tmp_path / "old"))
    wider = Mapper(WIDTHS, LADDER, Goals(bounds={"parameters": 2000.0}), area)
    trials, (source,) = gather([old], wider)
    unscored = [trial for trial in trials if not trial.measurements]
    assert all(trial.sizes["parameters"] > 2000 for trial in unscored)
    assert unscored
    assert source.left_out["no score"] > 1
    none, _ = gather([old], Mapper(WIDTHS, LADDER, Goals(), None))
    assert all(trial.measurements for trial in none)


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"x\.yaml: warm_start: nowhere: not a study: it has no study\.yaml"):
        check_studies(["nowhere"], "x.yaml")
    with pytest.raises(DataError, match="cannot be read, and without it the study cannot go on as it began"):
        read_warm_start(tmp_path)
    for text in ("{", "[]", '{"trials": 3}', '{"trials": [{"number": 1}]}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(DataError, match="cannot be read"):
            read_warm_start(tmp_path)
