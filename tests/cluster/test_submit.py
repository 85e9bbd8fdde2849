"""A study as a job on a protected cluster: it runs to its report, is refused without the token, and can be stopped."""

import json
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest

from diagram_ray.results import Study

pytestmark = [pytest.mark.ray, pytest.mark.slow]

FORGOTTEN = {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN_PATH": None}
WRONG = {"RAY_AUTH_TOKEN_PATH": None, "RAY_AUTH_TOKEN": "f" * 64}


def test_runs_to_its_report(cluster: Any, study: Path, data: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = cluster.submit("runs", str(study), "--data", data, "--out", str(out), "--json", "--log-json")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    *events, result = (json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{"))
    rounds = [(each["study"], each["trial"], each["epoch"]) for each in events if each["event"] == "round"]
    assert {("small", trial, epoch) for trial in (0, 1) for epoch in (1, 2)} == set(rounds)
    assert result["trials"] == {"complete": 2}
    assert (out / "report.html").read_text().startswith("<!doctype html>")
    assert len(Study.load(out).trials) == 2
    job = cluster.api("/api/jobs/runs")
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert job["entrypoint"].startswith("python -m diagram_ray.tune ")
    assert json.dumps(result) in cluster.api("/api/jobs/runs/logs")["logs"]
    _check_no_secret(cluster, ended.stdout + ended.stderr + (out / "study.yaml").read_text() + json.dumps(job))


def _check_no_secret(cluster: Any, text: str) -> None:
    assert Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text() not in text


@pytest.mark.parametrize(
    ("changes", "told"), [(FORGOTTEN, "RAY_AUTH_MODE is currently 'disabled'"), (WRONG, "invalid or incorrect")]
)
def test_submitting_needs_the_token(cluster: Any, changes: dict[str, str | None], told: str) -> None:
    ended = cluster.submit("refused", "--dry-run", **changes)
    assert ended.returncode == 1
    assert told in ended.stderr
    assert "refused" not in [job["submission_id"] for job in cluster.api("/api/jobs/")]
    with pytest.raises(urllib.error.HTTPError, match=r"401|403"):
        cluster.api("/api/jobs/", "f" * 64)


@pytest.mark.parametrize(
    ("changes", "told"), [(FORGOTTEN, "no token was sent"), (WRONG, "is RAY_AUTH_TOKEN the token")]
)
def test_joining_needs_the_token(
    cluster: Any, study: Path, data: str, tmp_path: Path, changes: dict[str, str | None], told: str
) -> None:
    own = cluster.environment | {"RAY_ADDRESS": cluster.address} | changes
    command = ["-m", "diagram_ray.tune", str(study), "--data", data, "--out", str(tmp_path / "out")]
    ended = subprocess.run(
        [sys.executable, *command], env={name: value for name, value in own.items() if value is not None},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 2
    (sentence,) = (line for line in ended.stderr.splitlines() if line.startswith("error: "))
    assert told in sentence
    assert f"RAY_ADDRESS={cluster.address}" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [(["--data", "/nowhere", "--out", "/nowhere/out"], "/nowhere: not a prepared dataset"),
     (["--data", "/nowhere", "--out", "runs/x"], "--out runs/x: in a Ray job the study's folder must be an absolute")],
)  # fmt: skip
def test_exit_code_reaches_the_job(cluster: Any, study: Path, arguments: list[str], told: str) -> None:
    job = f"wrong-{arguments[-1].replace('/', '')}"
    assert cluster.submit(job, str(study), *arguments).returncode == 1  # Ray's own: the job's is in its status
    found = cluster.api(f"/api/jobs/{job}")
    assert (found["status"], found["driver_exit_code"]) == ("FAILED", 2)
    assert told in found["message"]


def test_a_stopped_job_goes_on(cluster: Any, study: Path, data: str, tmp_path: Path, wait_for: Any) -> None:
    out = tmp_path / "out"
    begun = cluster.submit("stopped", str(study), "--data", data, "--out", str(out), "--trials", "200", wait=False)
    assert begun.returncode == 0, begun.stderr
    ledger = out / "ledger.jsonl"
    wait_for(lambda: ledger.is_file() and '"ended"' in ledger.read_text())
    stopped = cluster.ray("job", "stop", "--address", cluster.dashboard, "stopped")
    assert stopped.returncode == 0, stopped.stderr
    assert cluster.api("/api/jobs/stopped")["status"] == "STOPPED"
    logs = cluster.api("/api/jobs/stopped/logs")["logs"]
    assert f"stopped, and what is done is kept; go on: python -m diagram_ray.tune --resume {out}" in logs
    done = sum(line.count('"ended"') for line in ledger.read_text().splitlines())
    before = [line for line in ledger.read_text().splitlines() if '"ended"' in line]
    resumed = cluster.submit("resumed", "--resume", str(out), "--trials", str(done + 2), "--json")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert [line for line in ledger.read_text().splitlines() if '"ended"' in line][:done] == before
    assert Study.load(out).trials["state"].eq("COMPLETE").sum() == done + 2
