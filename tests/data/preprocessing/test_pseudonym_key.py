"""The key of the hashes: made once, whole, for its owner alone, and never replaced."""

import multiprocessing
import os
import stat
from pathlib import Path

import pytest

from diagram_ray.data.preprocessing import pseudonym_key
from diagram_ray.data.preprocessing.pseudonym_key import read_key
from diagram_ray.errors import UsageError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and no key named by the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(pseudonym_key.PLACE, raising=False)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_when_first_asked_for_and_stays(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    place = home / ".config" / "diagram_ray" / "patient.key"
    key = read_key(None)
    assert len(key) == 64
    assert place.read_bytes().strip() == key
    assert (mode(place), mode(place.parent)) == (0o600, 0o700)
    assert [path.name for path in place.parent.iterdir()] == ["patient.key"], "a draft was left"
    assert read_key(None) == key
    assert len(caplog.records) == 1
    assert key.decode() not in caplog.text
    place.unlink()
    assert read_key(None) != key


def test_the_environment_names_another_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pseudonym_key.PLACE, str(home / "of us" / "key"))
    key = read_key(None)
    assert (home / "of us" / "key").read_bytes().strip() == key
    assert not (home / ".config").exists()
    assert read_key(home / "of us" / "key") == key


def test_a_key_that_is_there_is_used_as_it_is(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = home / "own.key"
    path.write_bytes(b"\n  sixteen bytes 16 \n")
    path.chmod(0o600)
    assert read_key(path) == b"sixteen bytes 16"
    assert not caplog.records
    path.chmod(0o640)
    assert read_key(path) == b"sixteen bytes 16"
    assert "other users may read" in caplog.text
    assert "sixteen" not in caplog.text


def test_what_is_no_key(home: Path) -> None:
    (home / "short").write_bytes(b"fifteen bytes!!")
    (home / "long").write_bytes(b"x" * 5000)
    (home / "blank").write_bytes(b" " * 100)
    os.mkfifo(home / "pipe")
    (home / "pipe").chmod(0o600)
    for name, reason in (
        ("short", "has 15 bytes; a key has at least 16"),
        ("long", "has more than 4096 bytes"),
        ("blank", "has 0 bytes"),
        ("", "cannot be read: Is a directory"),
        ("pipe", "is not a file"),
        ("typo", "cannot be read: No such file"),
    ):
        with pytest.raises(UsageError, match=reason) as caught:
            read_key(home / name)
        assert str(caught.value).startswith("--key ")
    assert not (home / "typo").exists(), "a mistyped --key must not become a new key"


def test_a_place_where_none_can_be_made(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "file").touch()
    monkeypatch.setenv(pseudonym_key.PLACE, str(home / "file" / "key"))
    with pytest.raises(UsageError, match=r"^\$DIAGRAM_RAY_KEY .*give --key FILE"):
        read_key(None)
    (home / "nowhere").symlink_to(home / "missing")
    monkeypatch.setenv(pseudonym_key.PLACE, str(home / "nowhere"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_key(None)
    assert not (home / "missing").exists()
    monkeypatch.setenv(pseudonym_key.PLACE, str(home / "file"))
    with pytest.raises(UsageError, match="has 0 bytes"):
        read_key(None)
    assert (home / "file").read_bytes() == b"", "what is there is never overwritten"


def test_another_process_that_was_faster_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking and making, somebody else makes the key."""
    place = home / "key"
    monkeypatch.setenv(pseudonym_key.PLACE, str(place))
    link = os.link

    def late(draft: str, target: Path) -> None:
        place.write_bytes(b"made by the other process")
        place.chmod(0o600)
        link(draft, target)

    monkeypatch.setattr(os, "link", late)
    assert read_key(None) == b"made by the other process"
    assert [path.name for path in home.iterdir()] == ["key"]


def _read_at_once(barrier: "multiprocessing.synchronize.Barrier", results: "multiprocessing.Queue[bytes]") -> None:
    barrier.wait()
    results.put(read_key(None))


def test_processes_that_start_at_once_agree(home: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    workers = [context.Process(target=_read_at_once, args=(barrier, results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    found = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    assert len(found) == 1
