"""Places: URIs are given without secrets, and folders in a store are whole or not there."""

from pathlib import Path

import pytest

from diagram_ray.errors import UsageError
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.opening import open_place
from diagram_ray.storage.paths import copy_folder, place_at, put_folder, remove


@pytest.mark.parametrize("secret", ["user:hunter2@", "hunter2@"])
def test_a_uri_with_a_password_is_refused_and_not_shown(secret: str) -> None:
    for use in (place_at, open_place):
        with pytest.raises(UsageError, match=r"^s3://bucket/studies/x: give the URI without user, password") as told:
            use(f"s3://{secret}bucket/studies/x")
        assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("tail", ["?key=hunter2", "?hunter2", "#hunter2"])
def test_so_is_one_with_parameters(tail: str) -> None:
    with pytest.raises(UsageError, match=r"^s3://bucket/x: give the URI without") as told:
        place_at(f"s3://bucket/x{tail}")
    assert "hunter2" not in str(told.value)


def test_azures_containers_are_no_users() -> None:
    assert str(place_at("abfss://container@account.dfs.core.windows.net/x/")) == (
        "abfss://container@account.dfs.core.windows.net/x"
    )
    with pytest.raises(UsageError, match="give the URI without"):
        place_at("abfss://user:hunter2@account.dfs.core.windows.net/x")


def test_what_is_what() -> None:
    assert place_at("runs/x") == Path("runs/x")
    assert place_at("file:///runs/x") == Path("/runs/x")
    place = place_at("s3://bucket/a/b.txt/")
    assert isinstance(place, StorePath)
    assert (place.name, place.stem, str(place.parent), str(place.with_name("c"))) == (
        "b.txt", "b", "s3://bucket/a", "s3://bucket/a/c",
    )  # fmt: skip


def test_a_folder_is_whole_when_its_last_file_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.yaml", "a", "z"):
        (tmp_path / name).write_text(name)
    folder, copy = StorePath("memory://bucket/model"), StorePath("memory://bucket/copy")
    put_folder(tmp_path, folder, "config.yaml")
    written: list[str] = []
    before = StorePath.copy_to
    monkeypatch.setattr(StorePath, "copy_to", lambda path, to: (written.append(path.name), before(path, to))[1])
    (copy / "old").write_bytes(b"of another model")
    copy_folder(folder, copy, "config.yaml")
    assert written == ["a", "z", "config.yaml"]
    assert {path.name: path.read_text() for path in copy.iterdir()} == {name: name for name in written}
    assert [path.name for path in folder.parent.glob("**/config.yaml")] == ["config.yaml"] * 2
    remove(folder)
    remove(copy)
    assert not folder.exists()
