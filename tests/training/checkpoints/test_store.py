"""Checkpoints on disks and object stores that fail, and in files that are damaged."""

import errno
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from diagram_ray.errors import CheckpointError, MismatchError
from diagram_ray.storage.object_store import Retry
from diagram_ray.training.checkpoints import store as checkpoint_store
from diagram_ray.training.checkpoints.manifest import describe
from diagram_ray.training.checkpoints.store import CheckpointStore
from tests.support.object_store import s3_server

IDENTITY = {"training.k": 1, "training.betas": (0.5, 0.999), "dataset": "f" * 8}
FULL = OSError(errno.ENOSPC, "No space left on device")


class SlowDownError(Exception):
    """As object stores raise: no OSError."""


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.LogCaptureFixture]:
    monkeypatch.setattr(logging.getLogger("diagram_ray"), "propagate", True)
    with caplog.at_level(logging.WARNING):
        yield caplog


def open_store(place: str | Path, **more: Any) -> CheckpointStore:
    waits = more.pop("waits", [])
    retry = Retry(attempts=4, first=1.0, factor=3.0, wait=waits.append)
    return CheckpointStore(place, {**IDENTITY, **more.pop("identity", {})}, retry=retry, **more)


def state_of(number: int) -> dict[str, Any]:
    """As a cross-validation's: weights in channels last, Adam's moments, integer keys, plain values."""
    torch.manual_seed(number)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, betas=(0.5, 0.9))
    model(torch.randn(2, 3, 5, 5)).square().sum().backward()
    optimizer.step()
    trainer = {"epoch": number, "model": model.state_dict(), "optimizers": {"classifier": optimizer.state_dict()}}
    best = {"model": model.state_dict(), "score": [0.5, -1.0], "epoch": 1}
    return {"folds": {0: {"trainer": trainer | {"best": best}, "scores": torch.arange(3.0), "seconds": 1.5}, 1: None}}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


PLACES = ["{}/a/b", "flaky://bucket/run"]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_saved_is_loaded_exactly(place: str, files: Any, tmp_path: Path) -> None:
    place = place.format(tmp_path)
    assert open_store(place).load() is None
    with open_store(place) as store:
        for number in (1, 2):
            store.save(number, state_of(number))
    position, state = open_store(place).load()
    assert position == 2
    assert same(state, state_of(2))


def test_the_models_weights_are_in_safetensors_and_nowhere_else(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    with open_store(tmp_path) as store:
        store.save(7, state_of(1))
    folder = tmp_path / "000007"
    weights = load_file(folder / "weights.safetensors")
    expected = state_of(1)["folds"][0]["trainer"]["model"]
    assert same(weights["folds/0/trainer/model/0.weight"], expected["0.weight"].contiguous())
    assert len(weights) == 2 * len(expected)
    rest = torch.load(folder / "state.pt", weights_only=True)
    assert rest["folds"][0]["trainer"]["model"] == list(expected)
    manifest = json.loads((folder / "checkpoint.json").read_text())
    assert (manifest["position"], manifest["identity"]["training.k"]) == (7, 1)


def test_training_goes_on_while_a_copy_is_written(files: Any) -> None:
    files.gate.clear()
    with open_store("flaky://run") as store:
        state = state_of(1)
        store.save(1, state)
        assert files.begun.wait(60)
        state["folds"][0]["trainer"]["model"]["0.weight"].zero_()
        state["folds"][0]["trainer"]["optimizers"]["classifier"]["state"][0]["exp_avg"].zero_()
        assert open_store("flaky://run").load() is None  # not whole yet
        files.gate.set()
    assert same(open_store("flaky://run").load()[1], state_of(1))


def test_one_is_written_at_a_time(files: Any) -> None:
    files.gate.clear()
    store = open_store("flaky://run")
    store.save(1, state_of(1))
    assert files.begun.wait(60)
    second = threading.Thread(target=store.save, args=(2, state_of(2)))
    second.start()
    assert files.written == ["+000001/weights.safetensors"]
    files.gate.set()
    second.join()
    store.close()
    names = ("weights.safetensors", "state.pt", "checkpoint.json")
    assert files.written == [f"{sign}00000{number}/{name}" for number in (1, 2) for name in names for sign in "+-"]


def test_the_last_are_kept(tmp_path: Path) -> None:
    with open_store(tmp_path, keep_last=2) as store:
        for number in range(1, 8):
            store.save(number, state_of(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000006", "000007"]
    store = open_store(tmp_path, keep_last=2)
    assert store.load()[0] == 7
    with store:
        store.save(8, state_of(8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000007", "000008"]


def test_a_position_that_is_there_is_not_written_again(files: Any) -> None:
    with open_store("flaky://run") as store:
        store.save(1, state_of(1))
    count = len(files.written)
    with open_store("flaky://run") as store:
        store.load()
        store.save(1, state_of(1))
    assert len(files.written) == count


def test_it_is_due_after_some_time(tmp_path: Path) -> None:
    now = [100.0]
    with open_store(tmp_path, every=60.0, clock=lambda: now[0]) as store:
        seen = []
        for now[0] in (150.0, 161.0, 161.0, 222.0):
            seen.append(store.due)
            if now[0] == 161.0:
                store.save(len(seen), {})
    assert seen == [False, True, False, True]


# --- other runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({"training.k": 2}, "training.k is 1 there and 2 here$"),
        ({"dataset": "e" * 8}, "dataset is 'ffffffff' there and 'eeeeeeee' here$"),
        ({"splits": "0"}, "splits is not given there and '0' here$"),
        ({"training.betas": (0.9, 0.999)}, r"training.betas is \[0.5, 0.999\] there and \[0.9, 0.999\] here$"),
        ({"training.k": 2, "dataset": "e", "a": 1, "b": 2}, "training.k is 1 there.*; a is not given.*; and 1 more$"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(
    identity: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with open_store(tmp_path) as store:
        store.save(3, {"epoch": 3})
    with pytest.raises(MismatchError, match=f"000003: a checkpoint of another run: .*{message}"):
        open_store(tmp_path, identity=identity).load()
    assert open_store(tmp_path).load() == (3, {"epoch": 3})


# --- damage -----------------------------------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


NAMES = ("weights.safetensors", "state.pt", "checkpoint.json")
DAMAGES = [(name, damage) for name in NAMES for damage in (cut, empty, Path.unlink, to_folder)]


@pytest.mark.parametrize(("name", "damage"), [*DAMAGES, (NAMES[0], flip), (NAMES[1], flip)])
def test_a_damaged_one_is_passed_over_and_written_anew(
    name: str, damage: Any, tmp_path: Path, warnings: pytest.LogCaptureFixture
) -> None:
    with open_store(tmp_path, keep_last=2) as store:
        for number in (1, 2):
            store.save(number, state_of(number))
    damage(tmp_path / "000002" / name)
    waits: list[float] = []
    with open_store(tmp_path, keep_last=2, waits=waits) as store:
        position, state = store.load()
        assert position == 1
        assert same(state, state_of(1))
        assert not waits  # asking again does not mend a file
        assert "000002" in warnings.text
        assert "an earlier checkpoint is looked for" in warnings.text
        if damage is not to_folder:
            store.save(2, state_of(2))
    if damage is not to_folder:
        assert open_store(tmp_path).load()[0] == 2
        assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]


def test_what_is_ahead_of_the_run_is_removed(tmp_path: Path) -> None:
    with open_store(tmp_path, keep_last=2) as store:
        for number in (1, 5):
            store.save(number, state_of(number))
    cut(tmp_path / "000005" / "state.pt")
    with open_store(tmp_path, keep_last=2) as store:
        store.load()
        store.save(2, state_of(2))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000001", "000002"]


def test_all_damaged_is_none(tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    with open_store(tmp_path) as store:
        store.save(1, {})
    shutil.rmtree(tmp_path / "000001")
    (tmp_path / "000001").mkdir()
    (tmp_path / "no checkpoint").mkdir()
    assert open_store(tmp_path).load() is None


@pytest.mark.parametrize(
    "manifest",
    ["[]", "{", '{"format_version": 2}', '{"format_version": 1}', '{"format_version": 1, "files": {"a": 3}}', "\x00"],
)
def test_a_strange_manifest_is_damage(manifest: str, tmp_path: Path, warnings: pytest.LogCaptureFixture) -> None:
    with open_store(tmp_path, keep_last=2) as store:
        store.save(1, {})
        store.save(2, {})
    (tmp_path / "000002" / "checkpoint.json").write_text(manifest)
    assert open_store(tmp_path).load() == (1, {})


class Hostile:
    """Makes a folder called `owned` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("owned",)


def test_code_in_a_state_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_store(tmp_path / "run") as store:
        store.save(1, {})
    folder = tmp_path / "run" / "000001"
    torch.save({"config": Hostile()}, folder / "state.pt")
    manifest = json.loads((folder / "checkpoint.json").read_text())
    manifest["files"] |= describe({"state.pt": (folder / "state.pt").read_bytes()})
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    assert open_store(tmp_path / "run").load() is None
    assert "state.pt" in warnings.text or "damaged" in warnings.text
    assert not (tmp_path / "owned").exists()


# --- disks and object stores that fail --------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [FULL, SlowDownError("503 Slow Down"), ConnectionResetError("reset by peer")])
@pytest.mark.parametrize("passed", [0, 1, 2])
def test_a_write_that_fails_is_tried_again(
    error: Exception, passed: int, files: Any, warnings: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    files.writes += [*[None] * passed, error, None, error]  # the second attempt may fail later than the first
    with open_store("flaky://run", waits=waits) as store:
        store.save(1, state_of(1))
    assert waits == [1.0, 3.0]
    assert str(error) in warnings.text
    assert same(open_store("flaky://run").load()[1], state_of(1))


@pytest.mark.parametrize("passed", [0, 1, 2])
@pytest.mark.parametrize("through", ["save", "wait", "close"])
def test_a_write_that_keeps_failing_ends_clearly_and_keeps_the_last_good_one(
    through: str, passed: int, files: Any, warnings: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []
    store = open_store("flaky://bucket/run", waits=waits)
    store.save(1, state_of(1))
    store.wait()
    files.writes += [*[None] * passed, FULL] * 4
    store.save(2, state_of(2))
    with pytest.raises(
        CheckpointError, match=r"000002: the check.* No space left on device; the last good one is 0*1$"
    ):
        store.save(3, state_of(3)) if through == "save" else getattr(store, through)()
    assert waits == [1.0, 3.0, 9.0]
    assert not files.writes
    position, state = open_store("flaky://bucket/run").load()
    assert position == 1
    assert same(state, state_of(1))
    assert [path for path in files.store if "000002" in path] == []
    store.close()  # it was said once


def test_the_first_that_cannot_be_written_says_there_is_none(files: Any) -> None:
    files.writes += [FULL] * 4
    store = open_store("flaky://run")
    store.save(1, {})
    with pytest.raises(CheckpointError, match="there is no earlier one"):
        store.close()


def test_a_full_local_disk_leaves_the_last_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = checkpoint_store.write_atomic

    def full(path: Path, content: bytes) -> None:
        if path.parent.name == "000002" and path.name == "state.pt":
            raise FULL
        write(path, content)

    monkeypatch.setattr(checkpoint_store, "write_atomic", full)
    store = open_store(tmp_path)
    store.save(1, state_of(1))
    store.save(2, state_of(2))
    with pytest.raises(CheckpointError, match="No space left"):
        store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["000001"]
    assert open_store(tmp_path).load()[0] == 1


def test_a_read_that_fails_is_tried_again_and_never_taken_for_damage(files: Any) -> None:
    with open_store("flaky://run", keep_last=2) as store:
        store.save(1, {})
        store.save(2, {})
    waits: list[float] = []
    files.reads += [SlowDownError("503"), None, SlowDownError("503"), SlowDownError("503")]
    assert open_store("flaky://run", waits=waits).load() == (2, {})
    assert waits == [1.0, 1.0, 3.0]
    files.reads += [SlowDownError("503")] * 4
    with pytest.raises(CheckpointError, match=r"000002/checkpoint.json: cannot be fetched: 503"):
        open_store("flaky://run").load()


def test_old_ones_that_cannot_be_removed_do_no_harm(
    files: Any, monkeypatch: pytest.MonkeyPatch, warnings: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not allowed")

    monkeypatch.setattr(files, "rm", refuse)
    with open_store("flaky://run") as store:
        for number in range(1, 4):
            store.save(number, {"number": np.int64(number).item()})
    assert open_store("flaky://run").load() == (3, {"number": 3})


# --- a real object store ----------------------------------------------------------------------------------------------


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[Any]:
    with s3_server(tmp_path / "log") as opened:
        yield opened


def test_checkpoints_in_an_object_store(bucket: Any, warnings: pytest.LogCaptureFixture) -> None:
    place = "s3://bucket/run/checkpoints"
    assert open_store(place).load() is None
    with open_store(place, keep_last=2) as store:
        for number in (1, 2, 3):
            store.save(number, state_of(number))
    assert sorted(path.rpartition("/")[2] for path in bucket.ls("bucket/run/checkpoints")) == ["000002", "000003"]
    position, state = open_store(place).load()
    assert position == 3
    assert same(state, state_of(3))
    with pytest.raises(MismatchError, match=r"training\.k is 1 there and 2 here"):
        open_store(place, identity={"training.k": 2}).load()
    weights = "bucket/run/checkpoints/000003/weights.safetensors"
    bucket.pipe_file(weights, bucket.cat_file(weights)[:-9])
    with open_store(place, keep_last=2) as store:
        assert store.load()[0] == 2
        store.save(3, state_of(3))
        store.wait()
        assert open_store(place).load()[0] == 3
        store.clear()
    bucket.invalidate_cache()
    assert not bucket.exists("bucket/run")
    assert bucket.exists("bucket")
