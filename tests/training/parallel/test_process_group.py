"""Training in several processes gives what one process gives: real processes, joined by gloo, in float64.

Whatever the teams of a cross-validation, it is the one of one process, and any number of processes go on from it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.training.parallel import fold_teams
from diagram_ray.training.parallel.fold_teams import join_teams, plan_teams
from diagram_ray.training.parallel.process_group import SINGLE_PROCESS, share
from tests.support.repository import ROOT
from tests.support.training import one_of_many as together
from tests.support.training import paper

WORLDS = (2, 3)


def run_processes(world: int, folder: Path, what: list[str]) -> dict[str, Any]:
    """What the first of `world` processes found."""
    folder.mkdir()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", together.__name__]
    processes = [
        subprocess.Popen([*command, str(rank), str(world), str(folder), json.dumps(what)], env=environment)
        for rank in range(world)
    ]
    try:
        assert [process.wait(timeout=400) for process in processes] == [0] * world
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return torch.load(folder / "result.pt", weights_only=True)


Results = Callable[[int], dict[str, Any]]
ALL = ["trainers", "algorithm", "teams", "one_fold_fails", "save"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Number of processes -> what the first of them found."""
    folder = tmp_path_factory.mktemp("worlds")
    found = {3: run_processes(3, folder / "3", [*ALL, "failures"])}
    found[1] = run_processes(1, folder / "1", [*ALL, "resume"])
    found[2] = run_processes(2, folder / "2", ["trainers", "algorithm", "failures", "resume"])
    return found.__getitem__


def assert_equal(found: Any, expected: Any, where: str = "", within: float = 1e-9) -> None:
    """At any depth."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_equal(found[key], expected[key], f"{where} {key}", within)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for place, (one, two) in enumerate(zip(found, expected, strict=True)):
            assert_equal(one, two, f"{where} {place}", within)
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=0, atol=within, msg=lambda text: f"{where}: {text}")
    else:
        assert found == (pytest.approx(expected, rel=0, abs=within) if isinstance(expected, float) else expected), where


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("name", list(together.VARIANTS))
def test_several_processes_train_what_one_trains(name: str, world: int, results: Results) -> None:
    assert_equal(results(world)["trainers"][name], results(1)["trainers"][name])


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("name", list(together.VARIANTS))
def test_no_variant_magnifies_the_rounding_of_a_processor(name: str) -> None:
    """Weights changed in their last digit move no state by more than a hundredth of what processes may differ by."""
    plain, nudged = (together.make(SINGLE_PROCESS, together.VARIANTS[name]) for _ in range(2))
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in nudged.model.parameters():
            weights.mul_(1 + 2e-16 * torch.randn(weights.shape, generator=random).sign())
    assert_equal(together.all_of(nudged), together.all_of(plain), within=1e-11)


@pytest.mark.parametrize("world", [1, *WORLDS])
@pytest.mark.parametrize(("gan", "k", "optimizer"), together.ALGORITHM)
def test_several_processes_do_what_the_paper_says(
    gan: bool, k: int, optimizer: str, world: int, results: Results
) -> None:
    _, _, transcribed = paper.make(gan=gan, optimizer=optimizer)
    batches, noise = paper.draw(k, gan)
    for _ in range(2):
        transcribed.iteration(batches, noise)
    assert_equal(
        results(world)["algorithm"][f"{gan} {k} {optimizer}"],
        {name: value.detach() for name, value in transcribed.theta.items()},
    )


@pytest.mark.parametrize("world", WORLDS)
def test_what_happens_to_one_process_is_told_to_all(world: int, results: Results) -> None:
    told = results(world)["failures"]
    assert len(told) == world
    for each in told:
        assert each["one sample too many"].startswith(
            "OutOfMemory: out of memory in the discriminator step, with one sample at a time: CUDA out of memory."
        )
        assert each["diverged"] == "Diverged: the score of fold 1 became nan in epoch 1"
        assert each["batch norm"].startswith(f"ConfigError: model.norm: batch: one model is trained by {world} proc")
        assert_equal(each["fits in parts"], told[0]["fits in parts"])


@pytest.mark.parametrize(("count", "world"), [(7, 3), (2, 3), (0, 2), (9, 3), (16, 1)])
def test_shares_are_contiguous_complete_and_nearly_equal(count: int, world: int) -> None:
    class At:
        def __init__(self, rank: int) -> None:
            self.rank, self.world_size = rank, world

    parts = [np.arange(count)[share(count, At(rank))] for rank in range(world)]
    assert np.concatenate(parts).tolist() == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_alone_waits_for_nobody() -> None:
    values = torch.arange(3.0)
    assert SINGLE_PROCESS.sum(values) is values
    assert SINGLE_PROCESS.exchange("a") == ["a"]
    assert SINGLE_PROCESS.from_first("a") == "a"


@pytest.mark.parametrize("name", list(together.TEAMS))
def test_whatever_the_teams_the_results_are_those_of_one_process(name: str, results: Results) -> None:
    found, expected = dict(results(3)["teams"][name]), dict(results(1)["teams"][name])
    for each in (found, expected):
        each["state"] = each["state"]["folds"]
        del each["seconds"], each["times"]
    assert_equal(found, expected)


@pytest.mark.parametrize(("world", "name", "teams"), [(1, "side by side", 1), (3, "side by side", 2)])
def test_time_is_that_of_the_slowest_team(world: int, name: str, teams: int, results: Results) -> None:
    """Of three processes in two teams, one trains folds 0 and 2, two train fold 1."""
    found = results(world)["teams"][name]
    seconds = workers = 0.0
    for rows in found["seconds"]:
        spent = [sum(time for fold, time in rows if fold % teams == team) for team in range(teams)]
        seconds += max(spent)
        workers += sum(time * size for time, size in zip(spent, (1, world - 1) if teams > 1 else (1,), strict=True))
    assert found["times"] == {"seconds": pytest.approx(seconds), "worker_seconds": pytest.approx(workers)}


@pytest.mark.parametrize("world", [1, 2])
def test_any_number_of_processes_goes_on_from_a_checkpoint(world: int, results: Results) -> None:
    resumed, whole = results(world)["resume"], results(1)["teams"]["one after the other"]
    assert [row["epoch"] for rows in resumed["rounds"] for row in rows] == [2] * 3
    for key in ("measured", "models", "predictions", "card"):
        assert_equal(resumed[key], whole[key], key)


@pytest.mark.parametrize("world", [1, 3])
def test_when_one_fold_fails_all_processes_are_told_why(world: int, results: Results) -> None:
    for told in results(world)["one_fold_fails"]:
        assert told["diverged"] == "Diverged: the adversarial loss of fold 1 became nan in epoch 2"
        assert told["out of memory"] == (
            "OutOfMemory: out of memory in the discriminator step, with one sample at a time: a lot"
        )
        assert told["unfit"].startswith("DataError: fold 1: the training part has no patches")


@pytest.mark.parametrize(
    ("workers", "at_once", "sizes"),
    [(1, 1, [1]), (8, 4, [2, 2, 2, 2]), (8, 5, [1, 2, 1, 2, 2]), (2, 5, [1, 1]), (5, 1, [5]), (3, 2, [1, 2])],
)
def test_teams_are_nearly_equal_and_of_neighbours(workers: int, at_once: int, sizes: list[int]) -> None:
    teams = plan_teams(workers, at_once)
    assert [len(team) for team in teams] == sizes
    assert [rank for team in teams for rank in team] == list(range(workers))


@pytest.mark.parametrize(
    ("workers", "at_once", "expected"),
    [(2, 5, 3), (2, 4, 2), (2, 3, 2), (2, 2, 1), (3, 2, 1), (2, 1, 1), (4, 5, 2)],
)
def test_folds_that_are_more_than_the_processes_are_dealt_among_them(
    workers: int, at_once: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class World:
        world_size = workers
        rank = 0

        def __init__(self, group: object = None) -> None:
            self.world_size = len(group) if group else workers

    monkeypatch.setattr(fold_teams.dist, "new_group", list)
    monkeypatch.setattr(fold_teams, "DistributedGroup", World)
    joined = []
    for rank in range(workers):
        World.rank = rank
        joined.append([join_teams(at_once), join_teams(at_once, planned=True)])
    assert [told.at_once for told, _ in joined] == [expected] * workers
    for told, planned in joined:
        alone = told.team is SINGLE_PROCESS
        assert alone == (told.team.world_size == 1)
        assert planned.at_once is None if alone else planned.at_once == 1
        mine = [fold for fold in range(at_once) if told.has(fold)]
        assert [told.place(fold) for fold in mine] == list(range(told.folds(at_once)))
