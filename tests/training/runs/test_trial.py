"""One trial's work without Ray: what it tells, what it leaves, and how another worker takes over."""

import errno
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import make_splits
from diagram_ray.errors import CheckpointError, StoreError
from diagram_ray.results import Measurement
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import TrialReport
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import remove
from diagram_ray.study.trial_files import TrialFiles
from diagram_ray.training.runs import trial
from diagram_ray.training.runs.trial import TrialRun
from tests.support.fake_study import training as fake

LADDER = Ladder((Rung(2, 1), Rung(3, 3), Rung(3, 6)), 3)


started: list[TrialRun] = []


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """A run that is only forgotten would end its thread whenever its memory is collected, in the midst of another's."""
    yield
    while started:
        started.pop().close()


def start(folder: Path, k: int = 1, draining: Callable[[], bool] = lambda: False) -> TrialRun:
    data = fake.tiny_data()
    splits = make_splits(data, 3, 0)

    def make(config: ExperimentConfig):
        return fake.FakeValidation(config, data, splits, "cpu")

    config = override(ExperimentConfig(), {"training.k": k}, "test")
    started.append(TrialRun(7, config, LADDER, TrialFiles.of(folder, 7), make, draining))
    return started[-1]


def rounds(run: TrialRun, until: int = LADDER.top) -> list[TrialReport]:
    told = [run.step()]
    while told[-1].rung != until and not told[-1].failed:
        told.append(run.step())
    return told


def test_tells_every_round_and_every_rung(tmp_path: Path) -> None:
    told = rounds(start(tmp_path))
    assert [(r.folds, r.epoch, r.fold_epochs, r.rung) for r in told] == [
        (2, 1, 2, None),
        (2, 1, 2, 0),
        (3, 1, 3, None),
        (3, 2, 6, None),
        (3, 3, 9, None),
        (3, 3, 9, 1),
        (3, 4, 12, None),
        (3, 5, 15, None),
        (3, 6, 18, None),
        (3, 6, 18, 2),
    ]
    assert all(isinstance(r.measurement, Measurement) == (r.rung is not None) for r in told)
    assert all(r.training_auc == pytest.approx((1.0 + r.auc) / 2.0) for r in told)
    assert all(r.training_auc == r.measurement.training_auc for r in told if r.measurement is not None)


def test_leaves_curves_predictions_and_models(tmp_path: Path) -> None:
    rounds(start(tmp_path))
    files = TrialFiles.of(tmp_path, 7)
    curves = pq.read_table(files.curves).to_pylist()
    assert sorted((row["fold"], row["epoch"]) for row in curves) == [(f, e) for f in range(3) for e in range(1, 7)]
    assert len(pq.read_table(files.predictions)) == 12
    assert sorted(file.name for file in files.models.iterdir()) == [
        "config.yaml",
        *(f"fold-{f}.safetensors" for f in range(3)),
    ]


@pytest.mark.parametrize("steps", range(1, 11))
def test_another_worker_goes_on_from_the_last_rung_and_nothing_differs(tmp_path: Path, steps: int) -> None:
    whole, told = cut_after(steps, tmp_path)
    rungs = [r.rung for r in whole[:steps] if r.rung is not None]
    assert told[0].rung == (rungs[-1] if rungs else None)
    assert told == whole[len(whole) - len(told) :]


@pytest.mark.parametrize("steps", range(1, 11))
def test_between_rungs_a_checkpoint_is_kept_from_time_to_time(
    tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "SAVE_EVERY", -1.0)
    whole, told = cut_after(steps, tmp_path)
    at_rung = whole[steps - 1].fold_epochs in [rung.fold_epochs for rung in LADDER.rungs[:-1]]
    if at_rung:
        assert told[0].rung is not None
    else:
        assert told == whole[min(steps, len(whole) - 1) :]


def cut_after(steps: int, tmp_path: Path) -> tuple[list[TrialReport], list[TrialReport]]:
    """What an undisturbed worker tells, and what the second worker tells when the first is gone after `steps`."""
    whole = rounds(start(tmp_path / "whole"))
    first = start(tmp_path / "cut")
    for _ in range(steps):
        first.step()
    first.close()
    told = rounds(start(tmp_path / "cut"))
    assert {each.begun_at for each in told} <= {each.fold_epochs for each in whole[:steps]} | {0}
    assert told[-1] == whole[-1]
    for name in ("curves", "predictions"):
        one, other = (pq.read_table(getattr(TrialFiles.of(tmp_path / p, 7), name)) for p in ("whole", "cut"))
        assert other.equals(one)
    return whole, told


def test_curves_that_are_ahead_of_the_checkpoint_are_cut(tmp_path: Path) -> None:
    whole = rounds(start(tmp_path / "whole"))
    rounds(start(tmp_path / "cut"), until=0)
    curves = TrialFiles.of(tmp_path / "cut", 7).curves
    pq.write_table(pa.concat_tables([pq.read_table(curves)] * 2), curves)
    assert rounds(start(tmp_path / "cut")) == whole[1:]


def test_on_a_machine_that_leaves_every_round_is_saved(tmp_path: Path) -> None:
    whole, draining = rounds(start(tmp_path / "whole")), False
    first = start(tmp_path / "cut", draining=lambda: draining)
    assert [first.step().draining for _ in range(7)] == [False] * 7
    draining = True
    told = first.step()
    assert (told.draining, told.fold_epochs) == (True, 15)
    assert (TrialFiles.of(tmp_path / "cut", 7).checkpoints / "000015" / "checkpoint.json").is_file()
    first.close()
    told = rounds(start(tmp_path / "cut"))
    assert {each.begun_at for each in told} == {15}
    assert told == whole[8:]


def test_the_last_two_checkpoints_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "SAVE_EVERY", -1.0)
    run = start(tmp_path)
    rounds(run, until=0)
    assert [folder.name for folder in TrialFiles.of(tmp_path, 7).checkpoints.iterdir()] == ["000002"]
    rounds(run, until=1)
    kept = sorted(folder.name for folder in TrialFiles.of(tmp_path, 7).checkpoints.iterdir())
    assert kept == ["000006", "000009"]


@pytest.mark.parametrize("damaged", [["000009"], ["000002", "000009"]])
@pytest.mark.parametrize("damage", ["{", None])
def test_a_damaged_checkpoint_costs_its_work_only(tmp_path: Path, damage: str | None, damaged: list[str]) -> None:
    whole = rounds(start(tmp_path / "whole"))
    rounds(start(tmp_path / "cut"), until=1)
    for name in damaged:
        folder = TrialFiles.of(tmp_path / "cut", 7).checkpoints / name
        if damage is None:
            shutil.rmtree(folder)
        else:
            (folder / "state.pt").write_text(damage)
    assert rounds(start(tmp_path / "cut")) == whole[0 if "000002" in damaged else 1 :]


def test_a_checkpoint_of_another_configuration_fails_the_trial(tmp_path: Path) -> None:
    rounds(start(tmp_path), until=0)
    told = start(tmp_path, k=2).step()
    assert "k is 1 there and 2 here" in told.failed


@pytest.mark.parametrize(
    "error",
    [CheckpointError("000002: the checkpoint could not be written: No space left"), OSError(errno.ENOSPC, "full")],
)
def test_where_nothing_can_be_written_the_study_is_halted_and_the_trial_goes_on_later(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rounds(start(tmp_path / "whole"))
    run = start(tmp_path / "cut")
    rounds(run, until=0)
    with monkeypatch.context() as patched:
        patched.setattr(trial, "write_table", lambda *_: (_ for _ in ()).throw(error))
        told = [run.step() for _ in range(4)]
    assert told[:3] == whole[2:5]
    assert (told[3].failed, told[3].storage_failure) == ("", trial.reason_of(error))
    assert rounds(start(tmp_path / "cut")) == whole[1:]


@pytest.mark.parametrize(
    ("k", "reason"), [(13, "fold 0 diverged"), (14, "out of memory: 400 GiB"), (16, "ValueError: k is 16")]
)
def test_failures_are_told_with_their_reason(tmp_path: Path, k: int, reason: str) -> None:
    told = rounds(start(tmp_path, k))
    assert told[-1].failed == reason
    if k == 13:
        assert pq.read_table(TrialFiles.of(tmp_path, 7).curves)["epoch"].to_pylist() == [1, 1, 1]


@pytest.fixture
def place() -> Iterator[StorePath]:
    found = StorePath("memory://bucket/study")
    yield found
    remove(found)


@pytest.mark.parametrize("good", [0, 1, 2, 3, 4, 5, 7, 9, 10, 11])
def test_a_store_that_fails_at_any_write_halts_the_study_and_leaves_no_half_result(
    place: StorePath, tmp_path: Path, good: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rounds(start(tmp_path))
    written, before = [], StorePath.write_bytes

    def write(path: StorePath, data: bytes) -> int:
        if path.parent.parent.parent.name == "checkpoints":  # their own tests let them fail
            return before(path, data)
        if len(written) == good:
            raise StoreError(f"{path}: the object store does not do what it was asked: busy")
        written.append(path.name)
        return before(path, data)

    with monkeypatch.context() as patched:
        patched.setattr(StorePath, "write_bytes", write)
        told = [(run := start(place)).step()]
        while not told[-1].storage_failure:
            if told[-1].rung is not None:
                assert TrialFiles.of(place, 7).scores(told[-1].rung).is_file(), "before the driver hears of it"
            told.append(run.step())
        run.close()
    assert told[-1].failed == ""
    assert told[-1].storage_failure.startswith("memory://bucket/study/trials/0007/")
    assert told[:-1] == whole[: len(told) - 1]
    assert not TrialFiles.of(place, 7).measurement.exists()
    assert rounds(start(place))[-1].measurement == whole[-1].measurement
    folders = (place / "trials" / "0007", tmp_path / "trials" / "0007")
    one, other = ({path.name: path.read_bytes() for path in each.iterdir() if path.is_file()} for each in folders)
    assert one == other
