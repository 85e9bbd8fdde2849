"""Folds side by side in one process: the numbers of one after another, and as many at a time as is worth it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.training.checkpoints.serialisation import bytes_of
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.gradient_step import GradientStep
from diagram_ray.training.parallel import fold_packing
from diagram_ray.training.parallel.fold_packing import (
    USABLE,
    FoldScheduler,
    Memory,
    MemoryProbe,
    meter_for,
    plan_folds,
)
from diagram_ray.training.parallel.fold_teams import FoldTeams
from diagram_ray.training.parallel.fold_threads import FoldThread, FoldThreads
from diagram_ray.training.parallel.parallel_cross_validation import ParallelCrossValidation
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]
CPU = torch.device("cpu")
PLANNED = FoldTeams(at_once=None)
ONE_BY_ONE = None
FEW_STEPS = {"training.image_batch": 8}


@pytest.fixture(scope="module")
def splits(data: TrainingData) -> Splits:
    return make_splits(data, 3, seed=0)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No thread outlives its round."""
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def probe(seconds: float = 1.0, kept: int = 0, passing: int = 1, room: int = 100) -> MemoryProbe:
    return MemoryProbe(seconds, kept, Memory(room, passing))


class TestThePlan:
    @pytest.mark.parametrize(
        ("folds", "kept", "passing", "expected"),
        [
            (5, 10, 10, 3),  # there is room for 4, but 3 need as few turns
            (5, 10, 8, 5),
            (5, 10, 20, 2),
            (5, 18, 1, 1),  # what they keep fills it
            (5, 100, 100, 1),  # one fold needs what it needs
            (7, 0, 1, 7),
            (1, 0, 1, 1),
        ],
    )
    def test_as_many_as_fit_in_as_few_turns(self, folds: int, kept: int, passing: int, expected: int) -> None:
        assert plan_folds(folds, [probe(kept=kept, passing=passing)]) == expected

    @given(
        folds=st.integers(1, 12),
        probes=st.lists(
            st.builds(probe, st.just(1.0), st.integers(0, 40), st.integers(1, 90), st.integers(0, 1000)), min_size=1
        ),
    )
    def test_it_fits_and_no_plan_that_fits_needs_fewer_turns(self, folds: int, probes: list[MemoryProbe]) -> None:
        def fits(count: int) -> bool:
            return all(
                folds * one.kept + count * two.memory.passing <= USABLE * three.memory.room
                for one in probes
                for two in probes
                for three in probes
            )

        def turns(count: int) -> int:
            return len(range(0, folds, count))

        planned = plan_folds(folds, probes)
        assert 1 <= planned <= folds
        assert planned == 1 or fits(planned)
        assert turns(planned) == min([turns(count) for count in range(1, folds + 1) if fits(count)], default=folds)
        assert planned == min(count for count in range(1, folds + 1) if turns(count) == turns(planned))

    @given(
        alone=st.lists(st.floats(0.1, 10.0), min_size=1),
        beside=st.lists(st.floats(0.1, 10.0)),
    )
    def test_what_turned_out_to_be_no_faster_is_given_up(self, alone: list[float], beside: list[float]) -> None:
        pays = len(beside) < 2 or min(beside) < min(alone)
        assert plan_folds(4, [probe(seconds) for seconds in alone], beside) == (4 if pays else 1)


class FakeMeter:
    """Always finds the same."""

    def __init__(self, room: int, passing: int) -> None:
        self.memory, self.begun = Memory(room, passing), 0

    def begin(self) -> None:
        self.begun += 1

    def read(self) -> Memory:
        return self.memory


class Clock:
    """In the place of the module `time`; each fold's training moves it."""

    def __init__(self, beside: float) -> None:
        self.now, self.beside, self._lock = 0.0, beside, threading.Lock()

    def perf_counter(self) -> float:
        return self.now

    def train(self, item: int, thread: FoldThread) -> tuple[int, int | None]:
        """A second alone, `beside` seconds beside others; the fold and its thread, None if it is alone."""
        with self._lock:
            self.now += self.beside if thread.has_others else 1.0
        return item, thread.number if thread.has_others else None


def rounds(made: FoldScheduler, count: int, clock: Clock, kept: int | None = 10) -> list[list[int | None]]:
    """The threads of five folds in each of `count` rounds."""
    found = []
    for _ in range(count):
        began = clock.now
        results = made.each(range(5), lambda item: item, clock.train, lambda item: kept)
        assert [item for (item, _), _ in results] == [0, 1, 2, 3, 4]
        assert sum(seconds for _, seconds in results) == pytest.approx(clock.now - began)
        found.append([thread for (_, thread), _ in results])
    return found


@pytest.fixture
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(request.param)
    monkeypatch.setattr(fold_packing, "time", made)
    return made


NONE = [None] * 5


@pytest.mark.parametrize(("part", "room"), [(1.0, 50), (0.25, 25)])
def test_what_a_gpu_tells_of_its_memory(part: float, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 100 bytes 30 are free, 20 are this process's, 5 of them in use. No GPU is asked."""
    told = {"mem_get_info": (30, 100), "memory_reserved": 20, "memory_allocated": 5, "max_memory_allocated": 17}
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    meter = meter_for(torch.device("cuda"), part)
    assert meter.read() == Memory(room, 12)


@pytest.mark.parametrize("clock", [0.9], indirect=True)
class TestFoldScheduler:
    def test_without_a_meter_auto_is_one_after_another(self, clock: Clock) -> None:
        assert meter_for(CPU, 1.0) is None
        assert rounds(FoldScheduler(None, 5, CPU, None), 3, clock) == [NONE] * 3

    def test_a_number_is_taken_as_it_is(self, clock: Clock) -> None:
        meter = FakeMeter(0, 100)
        assert rounds(FoldScheduler(3, 5, CPU, meter), 2, clock) == [[0, 1, 2, 0, 1]] * 2
        assert rounds(FoldScheduler(9, 5, CPU, meter), 1, clock) == [[0, 1, 2, 3, 4]]
        assert rounds(FoldScheduler(1, 5, CPU, meter), 1, clock) == [NONE]
        assert meter.begun == 0

    def test_the_first_two_are_looked_at_and_then_as_many_as_fit_go_together(self, clock: Clock) -> None:
        meter = FakeMeter(room=100, passing=10)
        assert rounds(FoldScheduler(None, 5, CPU, meter), 4, clock) == [[None, None, 2, 0, 1], *[[0, 1, 2, 0, 1]] * 3]
        assert meter.begun == 2

    def test_where_there_is_no_room_they_go_one_after_another(self, clock: Clock) -> None:
        assert rounds(FoldScheduler(None, 5, CPU, FakeMeter(room=69, passing=10)), 2, clock) == [NONE] * 2

    def test_an_epoch_that_is_not_like_others_is_not_looked_at(self, clock: Clock) -> None:
        assert rounds(FoldScheduler(None, 5, CPU, FakeMeter(room=100, passing=10)), 2, clock, kept=None) == [NONE] * 2


@pytest.mark.parametrize("clock", [1.0], indirect=True)
def test_what_is_no_faster_is_given_up_after_two_rounds(clock: Clock) -> None:
    made = FoldScheduler(None, 5, CPU, FakeMeter(room=100, passing=1))
    assert rounds(made, 4, clock) == [[None, None, 2, 3, 4], [0, 1, 2, 3, 4], NONE, NONE]


class TestFoldThreads:
    def test_nobody_is_beside_one_who_is_alone(self) -> None:
        locks = [threading.Lock(), threading.Lock()]
        one, two = FoldThread(0, locks), FoldThread(1, locks)
        entered = threading.Event()

        def enter() -> None:
            with two.alone():
                entered.set()

        waiting = threading.Thread(target=enter)
        with one.beside():
            with two.beside():
                pass
            waiting.start()
            assert not entered.wait(0.2)
        assert entered.wait(30)
        waiting.join()
        with one.alone():
            assert all(lock.locked() for lock in locks)

    def test_they_run_at_the_same_time_and_the_first_failure_in_order_is_raised(self) -> None:
        met, done = threading.Barrier(2), []

        def work(item: int, thread: FoldThread) -> int:
            if item < 2:
                met.wait(30)
            done.append(item)
            if item:
                raise (ValueError if item == 2 else MemoryError)(f"item {item}")
            return item

        with pytest.raises(MemoryError, match="item 1"):
            FoldThreads(2, CPU).run([0, 1, 2], lambda item: item % 2, work)
        assert sorted(done) == [0, 1, 2]

    def test_a_thread_computes_in_as_many_threads_as_the_process(self) -> None:
        """OpenMP asks each thread anew, and oneDNN asks OpenMP."""
        images, weights = torch.randn(8, 8, 64, 64), torch.randn(8, 8, 3, 3)

        def work(item: int, thread: FoldThread) -> int:
            before = len(list(Path("/proc/self/task").iterdir()))
            torch.nn.functional.conv2d(images, weights)
            return len(list(Path("/proc/self/task").iterdir())) - before

        assert max(FoldThreads(2, CPU).run([0, 1], lambda item: 0, work)) <= 0


def validation(
    teams: FoldTeams | None, data: TrainingData, splits: Splits, config: ExperimentConfig
) -> CrossValidation:
    """`teams` None: one fold after another."""
    few = override(config, FEW_STEPS, "test")
    if teams is None:
        return CrossValidation(few, data, splits)
    return ParallelCrossValidation(few, data, splits, teams=teams)


def rows_of(made: CrossValidation, epochs: int) -> list[dict[str, Any]]:
    """Without what differs from run to run."""
    return [
        {key: value for key, value in row.items() if key != "seconds"}
        for rows in made.advance(3, epochs)
        for row in rows
    ]


def assert_same(found: Any, expected: Any) -> None:
    """To the last bit, at any depth."""
    if isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert_same(one, two)
    else:
        assert found == expected


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> FakeMeter:
    """A GPU, as far as memory is asked for."""
    meter = FakeMeter(2**40, 2**20)
    monkeypatch.setattr(fold_packing, "meter_for", lambda device, part: meter)
    return meter


@pytest.mark.parametrize(
    "changes",
    [
        {"model__dropout": 0.3, "training__k": 2},
        {"training__validation_part": 0.3, "training__patience": 1, "training__ema_decay": 0.9, "model__gan": False},
    ],
)
def test_whatever_the_plan_the_results_are_those_of_one_fold_after_another(
    changes: dict[str, Any], small: Small, data: TrainingData, splits: Splits, roomy: FakeMeter
) -> None:
    """A checkpoint of one plan is gone on with by another one."""
    whole = validation(ONE_BY_ONE, data, splits, small(**changes))
    rows = rows_of(whole, 2)
    assert roomy.begun == 0
    for first, second in ((PLANNED, ONE_BY_ONE), (FoldTeams(at_once=2), PLANNED)):
        begun = validation(first, data, splits, small(**changes))
        found = rows_of(begun, 1)
        ended = validation(second, data, splits, small(**changes))
        ended.load_state_dict(begun.state_dict())
        found += rows_of(ended, 2)
        assert found == rows
        assert_same(ended.state_dict()["folds"], whole.state_dict()["folds"])
        assert ended.predictions().equals(whole.predictions())
    assert roomy.begun > 0


def test_the_switch_for_deterministic_algorithms_is_on_for_all_threads(
    small: Small, data: TrainingData, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the process's: a thread that ends must not turn it off for another one."""
    usual, seen = Trainer.advance, []

    def advance(self: Trainer, thread: FoldThread) -> dict[str, Any]:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return usual(self, thread)

    monkeypatch.setattr(Trainer, "advance", advance)
    validation(FoldTeams(at_once=2), data, splits, small(training__deterministic=True)).advance_once(2, 1)
    assert seen == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_plan_is_made_from_what_folds_keep(
    small: Small, data: TrainingData, splits: Splits, roomy: FakeMeter
) -> None:
    made = validation(PLANNED, data, splits, small())
    assert made._scheduler.at_once == 1
    made.advance_once(3, 1)
    assert made._scheduler.at_once == 3
    kept = [bytes_of(state["trainer"]) for state in made.state_dict()["folds"].values()]
    assert [probe.kept for probe in made._scheduler._probes] == kept[:2]
    weights = sum(weight.nbytes for weight in made._run(0).trainer.model.parameters())
    assert 3 * weights < kept[0] < 5 * weights  # with Adam's two moments, of F twice


def test_a_step_without_room_beside_others_is_made_alone(
    small: Small, data: TrainingData, splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for one step at a time; the first steps of two threads are made to meet."""
    expected = validation(ONE_BY_ONE, data, splits, small())
    rows = rows_of(expected, 1)
    met, lock, usual = threading.Barrier(2), threading.Lock(), GradientStep._pass
    begun: list[GradientStep] = []
    under_way, refused = 0, 0

    def crowded(self: GradientStep, *arguments: Any) -> Any:
        nonlocal under_way, refused
        with lock:
            under_way, first = under_way + 1, self not in begun and len(begun) < 2
            begun.append(self)
        try:
            if first:
                met.wait(30)
            with lock:
                if under_way > 1:
                    refused += 1
                    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return usual(self, *arguments)
        finally:
            with lock:
                under_way -= 1

    monkeypatch.setattr(GradientStep, "_pass", crowded)
    made = validation(FoldTeams(at_once=2), data, splits, small())
    assert rows_of(made, 1) == rows
    assert refused > 0
    assert all(run.trainer._fitting == {} for run in made._runs.values())
    assert_same(made.state_dict()["folds"], expected.state_dict()["folds"])


def poison(made: CrossValidation, fold: int) -> None:
    with torch.no_grad():
        made._run(fold).trainer.model.classifier.output.bias.fill_(float("nan"))


def starve(made: CrossValidation, fold: int) -> None:
    def out_of_memory(pixels: torch.Tensor) -> torch.Tensor:
        raise MemoryError(f"a lot of fold {fold}")

    made._run(fold).trainer.model.features.forward = out_of_memory


def collapse(made: CrossValidation, fold: int) -> None:
    made._run(fold).trainer._health._of_real *= 1e9


def break_it(made: CrossValidation, fold: int) -> None:
    made._run(fold).trainer.data = None


@pytest.mark.parametrize(
    "spoilt",
    [
        {1: poison, 2: starve},
        {2: poison, 1: starve},
        {2: collapse},
        {1: break_it, 2: poison},
    ],
)
def test_what_fails_is_told_as_if_the_folds_were_trained_one_after_another(
    spoilt: dict[int, Callable[[CrossValidation, int], None]], small: Small, data: TrainingData, splits: Splits
) -> None:
    config = small(training__collapse__warmup_epochs=0, training__collapse__patience=1)
    told = []
    for teams in (ONE_BY_ONE, FoldTeams(at_once=2)):
        made = validation(teams, data, splits, config)
        made.advance_once(3, 9)
        for fold, spoil in spoilt.items():
            spoil(made, fold)
        with pytest.raises(Exception) as caught:  # noqa: PT011 - compared below
            made.advance_once(3, 9)
        told.append((caught.type, str(caught.value)))
        assert made.measure(3).epochs == 1
    assert told[0] == told[1]
    assert f"fold {min(spoilt)}" in told[0][1] or spoilt[min(spoilt)] is break_it


@pytest.mark.parametrize("changes", [{"model__norm": "batch"}, {"training__compile": "default"}])
def test_what_cannot_be_trained_side_by_side_is_trained_one_after_another(
    changes: dict[str, Any], small: Small, data: TrainingData, splits: Splits, roomy: FakeMeter
) -> None:
    for teams in (FoldTeams(at_once=2), PLANNED):
        assert validation(teams, data, splits, small(**changes))._scheduler._fixed == 1
