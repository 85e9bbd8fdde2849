"""The simulated cluster against what can be worked out by hand, and against other ways of running the same study."""

import json
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from diagram_ray.errors import ConfigError, UsageError
from diagram_ray.replay.forecasts import forecasts, read_cluster, read_scenario
from diagram_ray.replay.simulated_cluster import HOUR, SAVE_EVERY, ClusterConfig, Forecast, Simulation
from diagram_ray.results import Measurement, TrialState
from diagram_ray.search.ladder import Ladder, Rung, usual_lookback
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.scheduler import StudyState
from diagram_ray.tune import command as tune
from tests.support.repository import ROOT

LADDER = Ladder((Rung(1, 2), Rung(3, 2), Rung(3, 6)), 2)
WHOLE = Ladder((Rung(3, 6),), 2)
FEW = settings(max_examples=40, deadline=None)
PHANTOM = ROOT / "benchmarks" / "recorded" / "phantom.npz"


class Numbered:
    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        return {"training.k": number}


class Drawn:
    """Every trial has scores of its own."""

    def __init__(self, ladder: Ladder) -> None:
        self.ladder = ladder

    def measurement(self, number: int, rung: int) -> Measurement:
        point, draw = self.ladder.rungs[rung], random.Random(f"{number} {rung}")
        return Measurement(point.folds, point.epochs, (draw.random(),) * point.folds, (0.5,), 0.0)

    def case_scores(self, number: int, rung: int) -> Any:
        raise NotImplementedError


def simulate(
    trials: int, workers: int, lookback: int, ladder: Ladder = LADDER, seconds: float = 1.0, **cluster: Any
) -> tuple[Forecast, dict]:
    journal, config = Memory(), ClusterConfig(workers=workers, **cluster)
    rules = Rules(trials, workers, lookback, ladder)
    found = Simulation(rules, Numbered(), journal, Drawn(ladder), config, seconds).run()
    return found, journal.trials


def fold_epochs(trials: dict) -> list[int]:
    return [trial.last.folds * trial.last.epochs for _, trial in sorted(trials.items())]


@FEW
@given(st.integers(1, 30), st.integers(1, 9), st.floats(0, 500), st.floats(0.1, 9))
def test_one_worker_takes_the_sum(trials: int, lookback: int, startup: float, seconds: float) -> None:
    found, ended = simulate(trials, 1, lookback, seconds=seconds, startup=startup, cost=2.0)
    trained = sum(fold_epochs(ended))
    assert found.fold_epochs == trained
    assert found.seconds == pytest.approx(startup + trained * seconds)
    assert found.hours == pytest.approx(found.seconds / HOUR)
    assert found.cost == pytest.approx(2 * found.hours)
    assert (found.waiting, found.again, found.preemptions) == (pytest.approx(0), 0, 0)


@FEW
@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 500))
def test_equal_trials_that_nobody_waits_for_come_in_waves(trials: int, workers: int, startup: float) -> None:
    found, _ = simulate(trials, workers, trials, WHOLE, startup=startup)
    assert found.seconds == pytest.approx(startup + math.ceil(trials / workers) * 18)
    assert found.training == pytest.approx(trials * 18 / HOUR)
    assert found.starting == pytest.approx(min(trials, workers) * startup / HOUR)


@FEW
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 20))
def test_of_equal_trials_no_more_run_than_the_lookback_allows(trials: int, workers: int, lookback: int) -> None:
    found, _ = simulate(trials, workers, lookback, WHOLE)
    assert found.seconds == pytest.approx(math.ceil(trials / min(workers, lookback)) * 18)


@FEW
@given(st.integers(1, 40), st.integers(1, 12))
def test_more_workers_never_take_longer_where_nobody_waits(trials: int, workers: int) -> None:
    few, many = (simulate(trials, count, trials)[0] for count in (workers, workers + 1))
    assert many.seconds <= few.seconds + 1e-9


@FEW
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.floats(0.1, 50))
def test_the_same_trials_whatever_the_cluster(trials: int, workers: int, lookback: int, rate: float) -> None:
    by_hand = Memory()
    state, scored = StudyState(Rules(trials, 1, lookback, LADDER), Numbered(), by_hand), Drawn(LADDER)
    while (trial := state.next_start()) is not None:
        rungs = range(len(LADDER.rungs))
        any(not state.measured(trial.number, rung, scored.measurement(trial.number, rung)) for rung in rungs)
    for cluster in ({}, {"preemptions": rate, "startup": 30.0}):
        found, ended = simulate(trials, workers, lookback, seconds=40.0, **cluster)
        assert ended == by_hand.trials
        assert found.fold_epochs == sum(fold_epochs(ended))
        assert found.training == pytest.approx(found.fold_epochs * 40 / HOUR)


def test_preemptions_cost_what_was_trained_since_the_last_checkpoint() -> None:
    calm, _ = simulate(40, 8, 16, seconds=60.0, startup=90.0)
    again, _ = simulate(40, 8, 16, seconds=60.0, startup=90.0, preemptions=0.0, seed=9)
    assert again == calm
    rough, ended = simulate(40, 8, 16, seconds=60.0, startup=90.0, preemptions=3.0)
    assert rough == simulate(40, 8, 16, seconds=60.0, startup=90.0, preemptions=3.0)[0]
    assert rough != simulate(40, 8, 16, seconds=60.0, startup=90.0, preemptions=3.0, seed=1)[0]
    assert 0 < rough.again <= rough.preemptions * SAVE_EVERY / HOUR
    assert rough.seconds > calm.seconds
    assert rough.starting > calm.starting
    assert all(trial.state is not TrialState.RUNNING for trial in ended.values())
    # Workers live 20 minutes in the mean; so many are lost as there are of those in all the time they are there.
    many, _ = simulate(2000, 8, 16, seconds=60.0, preemptions=3.0)
    assert many.preemptions == pytest.approx(3.0 * many.hours, rel=0.15)


def test_workers_wait_for_earlier_trials_where_the_lookback_is_short() -> None:
    waits = [simulate(60, 8, lookback)[0].waiting for lookback in (8, 16, 60)]
    assert waits[0] > waits[1] >= waits[2]


@given(st.integers(1, 1000), st.integers(1, 100_000))
def test_the_usual_lookback_keeps_workers_busy_and_one_alone_informed(workers: int, trials: int) -> None:
    found = usual_lookback(workers, trials)
    assert 2 * workers <= found <= max(2 * workers, trials)
    assert found <= usual_lookback(workers, trials + 1)
    assert usual_lookback(1, trials) == 2
    assert usual_lookback(workers, 8 * workers) == 2 * workers


def test_many_trials_a_worker_are_through_sooner_than_with_twice_the_workers() -> None:
    before, now = (simulate(1600, 32, each)[0] for each in (64, usual_lookback(32, 1600)))
    assert now.seconds < 0.95 * before.seconds
    assert now.hours < 0.95 * before.hours


def test_a_recording_is_drawn_from_again_where_it_is_too_short() -> None:
    scenario = read_scenario(PHANTOM, [])
    cluster = read_cluster("workers=20,trials=300,seconds=2,startup=60,cost=1.5")
    lines = list(forecasts(scenario, cluster))
    assert [line.lookback for line in lines] == [10, 20, 40, 53, 80]
    assert all(line.forecast.cost == pytest.approx(1.5 * line.forecast.hours) for line in lines)
    assert lines == list(forecasts(scenario, cluster))
    other = forecasts(scenario, cluster.model_copy(update={"seed": 1}))
    assert [line.forecast.fold_epochs for line in lines] != [line.forecast.fold_epochs for line in other]
    whole = list(forecasts(read_scenario(PHANTOM, ["ladder.rungs=[[5,27]]"]), read_cluster("workers=1,seconds=2")))
    assert whole[0].forecast.seconds == scenario.recording.configurations * 5 * 27 * 2
    assert whole[0].lost == 0.0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("workers=0", "workers"),
        ("workers=2,speed=3", "speed"),
        ("startup=3", "workers"),
        ("workers", "KEY=VALUE"),
        ("workers=2,seconds=0", "seconds"),
        ("workers=2,preemptions=-1", "preemptions"),
    ],
)
def test_a_cluster_that_cannot_be_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_cluster(text)


def test_the_seconds_must_be_known() -> None:
    with pytest.raises(UsageError, match="give seconds="):
        list(forecasts(read_scenario(PHANTOM, []), read_cluster("workers=2")))
    with pytest.raises(UsageError, match="a replay must end where the recording does"):
        list(forecasts(read_scenario(PHANTOM, ["ladder.rungs=[[5,9]]"]), read_cluster("workers=2,seconds=1")))


def test_the_command_tells_each_lookback() -> None:
    command = ["--replay", str(PHANTOM), "--simulate", "workers=10,seconds=1,preemptions=1,trials=200", "--json"]
    result = CliRunner().invoke(tune.app, command)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "200 trials, 155 configurations recorded; 45 of them are drawn again from those"
    found = json.loads(lines[-1])
    assert [row["lookback"] for row in found["lookbacks"]] == [5, 10, 20, 29, 40]
    assert found["lookbacks"][0].keys() >= {"hours", "use", "waiting", "again", "starting", "cost", "seconds"}
    refused = CliRunner().invoke(tune.app, ["--simulate", "workers=10"])
    assert refused.exit_code == 2
    assert "--simulate needs --replay" in refused.stderr
