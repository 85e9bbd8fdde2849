"""A study as a job on a protected cluster: it runs to its report, is refused without the token, and can be stopped."""

import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from diagram_ray.data.phantom import make_phantom
from diagram_ray.results import Study

pytestmark = pytest.mark.ray

STUDY = """\
name: small
base: {model.width: 4, model.generator_width: 4, training.epochs: 2}
space: {training.k: {type: int, low: 1, high: 2}}
folds: 3
trials: 2
ladder: {rungs: [[3, 2]], reduction: 2}
control: {shuffles: 0}
"""
GRAFANA = Path(__file__).parents[2] / "cluster" / "grafana"
FORGOTTEN = {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN_PATH": None}
WRONG = {"RAY_AUTH_TOKEN_PATH": None, "RAY_AUTH_TOKEN": "f" * 64}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prepared dataset of twelve phantoms, 64x48."""
    from diagram_ray.data.preparation import Options
    from diagram_ray.data.readers import inbreast
    from diagram_ray.distributed import ingest
    from diagram_ray.distributed.session import ray_session

    folder = tmp_path_factory.mktemp("small")
    make_phantom(folder / "raw", 12, 0, 0.3, 208, workers=1)
    with ray_session(num_cpus=2):
        options = Options((64, 48), 32, 2, b"a key of the test", "negative")
        ingest.prepare_dataset(
            inbreast.index(str(folder / "raw")), str(folder / "data"), options, "phantom", lambda _: None
        )
    return str(folder / "data")


def api(cluster: Any, path: str, token: str | None = None) -> Any:
    """The dashboard's answer as JSON; with the cluster's token where none is given."""
    own = Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text() if token is None else token
    request = urllib.request.Request(cluster.dashboard + path, headers={"Authorization": f"Bearer {own}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


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
    job = api(cluster, "/api/jobs/runs")
    assert (job["status"], job["driver_exit_code"]) == ("SUCCEEDED", 0)
    assert job["entrypoint"].startswith("python -m diagram_ray.tune ")
    assert json.dumps(result) in api(cluster, "/api/jobs/runs/logs")["logs"]
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
    assert "refused" not in [job["submission_id"] for job in api(cluster, "/api/jobs/")]
    with pytest.raises(urllib.error.HTTPError, match=r"401|403"):
        api(cluster, "/api/jobs/", "f" * 64)


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
    found = api(cluster, f"/api/jobs/{job}")
    assert (found["status"], found["driver_exit_code"]) == ("FAILED", 2)
    assert told in found["message"]


def scraped(cluster: Any) -> dict[str, list[Sample]]:
    """What Prometheus would read of the head: name -> samples."""
    with urllib.request.urlopen(cluster.metrics, timeout=30) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    found: dict[str, list[Sample]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, []).append(sample)
    return found


def _check_metrics(cluster: Any, wait_for: Any) -> None:
    """Every metric that the Grafana dashboard and the alert rules ask for is there, with the tags they ask for."""
    wait_for(lambda: {"ray_diagram_ray_best_auc", "ray_diagram_ray_fold_epochs_total"} <= scraped(cluster).keys())
    found = scraped(cluster)
    texts = [(GRAFANA / name).read_text() for name in ("diagram_ray.json", "alerts.yaml")]
    asked = {name for text in texts for name in re.findall(r"\bray_\w+", text)}
    assert len(asked) >= 10
    assert asked - found.keys() <= {"ray_node_gpus_utilization"}  # Ray's own, where there are GPUs
    assert {name for name in found if name.startswith("ray_diagram_ray")} <= asked
    trials = {sample.labels["state"]: sample.value for sample in found["ray_diagram_ray_trials"]}
    assert trials["complete"] >= 1.0
    assert {sample.labels["study"] for sample in found["ray_diagram_ray_trials"]} == {"small"}
    assert 0.0 <= found["ray_diagram_ray_best_auc"][0].value <= 1.0
    rules = [rule for group in yaml.safe_load(texts[1])["groups"] for rule in group["rules"]]
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in rules)


def test_a_stopped_job_goes_on(cluster: Any, study: Path, data: str, tmp_path: Path, wait_for: Any) -> None:
    out = tmp_path / "out"
    begun = cluster.submit("stopped", str(study), "--data", data, "--out", str(out), "--trials", "200", wait=False)
    assert begun.returncode == 0, begun.stderr
    ledger = out / "ledger.jsonl"
    wait_for(lambda: ledger.is_file() and '"ended"' in ledger.read_text())
    _check_metrics(cluster, wait_for)
    stopped = cluster.ray("job", "stop", "--address", cluster.dashboard, "stopped")
    assert stopped.returncode == 0, stopped.stderr
    assert api(cluster, "/api/jobs/stopped")["status"] == "STOPPED"
    logs = api(cluster, "/api/jobs/stopped/logs")["logs"]
    assert f"stopped, and what is done is kept; go on: python -m diagram_ray.tune --resume {out}" in logs
    done = sum(line.count('"ended"') for line in ledger.read_text().splitlines())
    before = [line for line in ledger.read_text().splitlines() if '"ended"' in line]
    resumed = cluster.submit("resumed", "--resume", str(out), "--trials", str(done + 2), "--json")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert [line for line in ledger.read_text().splitlines() if '"ended"' in line][:done] == before
    assert Study.load(out).trials["state"].eq("COMPLETE").sum() == done + 2
