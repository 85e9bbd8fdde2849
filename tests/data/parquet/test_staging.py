"""The place where a dataset is prepared, on a disk: locked, kept or removed, and exchanged whole."""

import threading
from pathlib import Path
from typing import Any

import pytest

from diagram_ray.data.parquet import staging
from diagram_ray.data.parquet.staging import WorkArea
from diagram_ray.errors import UsageError
from diagram_ray.storage import locks
from diagram_ray.storage.object_store import StorePath

SETTINGS = {"image_size": [64, 48], "key_id": "abc"}
INFO = {"format_version": 1, "fingerprint": "f", "classes": [], "counts": {"images": 0, "patches": 0}, **SETTINGS}


def opened(out: Path, update: bool = False, settings: dict[str, Any] = SETTINGS) -> Any:
    return staging.work_area(str(out), settings, update)


def leave_a_piece(area: WorkArea) -> None:
    Path(area.pieces).mkdir(exist_ok=True)
    (Path(area.pieces) / "one.parquet").write_bytes(b"")


def publish(area: WorkArea, mark: str) -> None:
    draft = area.make_draft()
    (draft / mark).touch()
    area.publish(draft, INFO)
    area.remove()


def test_it_stays_only_if_there_is_work_in_it(tmp_path: Path) -> None:
    with opened(tmp_path / "out"):
        assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    assert list(tmp_path.iterdir()) == []
    with opened(tmp_path / "out") as area:
        leave_a_piece(area)
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    with pytest.raises(
        UsageError, match=r"\.out\.partial: image_size \[64, 48\] there, \[1, 2\] now; ask for the same"
    ):
        opened(tmp_path / "out", settings=SETTINGS | {"image_size": [1, 2]}).__enter__()
    with opened(tmp_path / "out") as area:
        publish(area, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dataset.json", "images", "patches", "new"}


def test_a_dataset_is_replaced_whole_and_only_if_asked(tmp_path: Path) -> None:
    with opened(tmp_path / "out", update=True) as area:
        publish(area, "first")
    with pytest.raises(UsageError, match="already holds a dataset; give --update"):
        opened(tmp_path / "out").__enter__()
    with opened(tmp_path / "out", update=True) as area:
        assert area.old == INFO
        assert (tmp_path / "out" / "first").exists()
        publish(area, "second")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out" / "second").exists()
    assert not (tmp_path / "out" / "first").exists()


@pytest.mark.parametrize("renames", [1, 2])
def test_a_replacement_that_is_cut_off_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """Before the first rename or between the two: the next run finds the dataset in its place."""
    with opened(tmp_path / "out") as area:
        publish(area, "first")
    rename, calls = Path.rename, 0

    def killed(path: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls >= renames:
            raise KeyboardInterrupt
        return rename(path, target)

    with opened(tmp_path / "out", update=True) as area, monkeypatch.context() as patch:
        leave_a_piece(area)
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(area, "second")
    with opened(tmp_path / "out", update=True) as area:
        assert area.old == INFO
        assert (tmp_path / "out" / "first").exists()
        publish(area, "third")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_is_no_dataset_is_not_updated(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty and not a dataset"):
        opened(tmp_path / "out", update=True).__enter__()
    (tmp_path / "out" / "dataset.json").write_text("{")
    with pytest.raises(UsageError, match=r"--update: .*dataset.json: cannot be read"):
        opened(tmp_path / "out", update=True).__enter__()
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        "out", "out/mine.txt", "out/dataset.json"
    }  # fmt: skip


def test_one_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as area:
        leave_a_piece(area)
        with pytest.raises(UsageError, match="another run is preparing it at this moment"):
            opened(tmp_path / "out").__enter__()
    with opened(tmp_path / "out"):
        pass


def test_many_that_come_and_go_at_once_are_never_two(tmp_path: Path) -> None:
    """Each removes the lock's folder when it goes, as a preparation does, and the others must not be fooled by that."""
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(60):
            try:
                with opened(tmp_path / "out"):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
            except UsageError as error:
                assert "another run" in str(error)  # noqa: PT017

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_vanishes_while_it_is_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last holder removes it between the failed mkdir and the look whether it is a folder."""
    mkdir, calls = Path.mkdir, 0

    def vanishing(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise FileExistsError(17, "File exists", str(path))
        mkdir(path, mode, parents, exist_ok)

    monkeypatch.setattr(Path, "mkdir", vanishing)
    with opened(tmp_path / "out") as area:
        assert Path(area.path).is_dir()


@pytest.mark.parametrize("kind", ["file", "dangling link"])
def test_what_is_no_folder_in_the_place_of_the_work_area_is_told(tmp_path: Path, kind: str) -> None:
    place = tmp_path / ".out.partial"
    place.touch() if kind == "file" else place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="out: cannot be written: File exists"):
        opened(tmp_path / "out").__enter__()


def test_a_store_that_does_not_answer_for_a_while_does_not_cost_the_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "BEAT", 0.01)
    place = StorePath("memory://store/lock")
    files, path = place.filesystem
    with locks.sole_use(place, "it") as check:
        with monkeypatch.context() as patch:
            asked = threading.Event()

            def fail(path: str) -> bytes:
                asked.set()
                raise ConnectionError("away")

            patch.setattr(files, "cat_file", fail)
            assert asked.wait(10)
        check()
    assert not files.exists(path)
