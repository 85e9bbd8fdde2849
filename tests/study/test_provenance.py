"""Which commit the code is of: what a job says, what a work tree is at, and nothing where neither is known."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from diagram_ray.study import provenance

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The code is in a folder that is no work tree, and not in a job."""
    monkeypatch.delenv(provenance.JOB, raising=False)
    monkeypatch.setattr(provenance.diagram_ray, "__file__", str(tmp_path / "diagram_ray" / "__init__.py"))
    return tmp_path


def test_what_a_job_says_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(provenance.JOB, json.dumps({"metadata": {"commit": f"{COMMIT}-dirty"}}))
    assert provenance.commit() == f"{COMMIT}-dirty"


@pytest.mark.parametrize(
    "said",
    ["", "{", "[]", "null", "{}", '{"metadata": null}', '{"metadata": {"commit": 7}}',
     '{"metadata": {"commit": "<script>"}}', '{"metadata": {"commit": "a-secret-token"}}',
     json.dumps({"metadata": {"commit": COMMIT + "\n"}})],
)  # fmt: skip
def test_what_is_no_commit_is_none(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(provenance.JOB, said)
    assert provenance.commit() is None


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_work_tree_tells_its_commit_and_whether_it_was_changed(nowhere: Path) -> None:
    def git(*arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *own, *arguments], cwd=nowhere, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    assert provenance.commit() is None  # there is none yet
    (nowhere / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    git("tag", "-a", "v1", "-m", "v1")
    assert provenance.commit() == git("rev-parse", "HEAD").strip()
    (nowhere / "code.py").write_text("2")
    assert provenance.commit() == git("rev-parse", "HEAD").strip() + "-dirty"


def test_a_package_inside_another_tree_has_none_of_its_commits(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nowhere / ".git").mkdir()
    inside = nowhere / "site-packages" / "diagram_ray" / "__init__.py"
    monkeypatch.setattr(provenance.diagram_ray, "__file__", str(inside))
    assert provenance.commit() is None
