"""A study that can be watched while it runs: Ray's own views, its pages in a browser, and a real Prometheus."""

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster.browser import CHROMIUM, View, browser
from tests.support.cluster.nodes import Cluster, free_ports
from tests.support.repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

GRAFANA = ROOT / "cluster" / "grafana"
RULES = GRAFANA / "alerts.yaml"
OF_GPUS = {"ray_node_gpus_utilization"}
"""Ray's own series that are there where GPUs are."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
METADATA = {"study": "small", "commit": COMMIT}
GROUP = ["scaling.workers=2", "scaling.cpus_per_worker=0.9", "parallel.trials=1", "budget.cost_per_worker_hour=0.5"]
RUNS = "/api/train/v2/runs/v1"
ON_TWO = re.compile(r"^on [\d.]+ CPU, [\d.]+ CPU$", re.MULTILINE)
"""What the study's page says of a trial that a group of two trains."""
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="prometheus is not installed")


def panels() -> list[str]:
    """What the Grafana dashboard asks, of all studies."""
    shown = json.loads((GRAFANA / "diagram_ray.json").read_text())["panels"]
    return [target["expr"].replace("$study", ".*") for panel in shown for target in panel["targets"]]


def alerts() -> list[dict[str, Any]]:
    """The rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def watched(cluster: Cluster, study: Path, data: str, tmp_path_factory: pytest.TempPathFactory, wait_for: Any) -> Path:
    """The folder of a study whose trials are trained by groups of two. It runs until it is stopped."""
    out = tmp_path_factory.mktemp("watched") / "out"
    settings = [part for setting in GROUP for part in ("--set", setting)]
    command = [str(study), "--data", data, "--out", str(out), "--trials", "500", *settings]
    begun = cluster.submit("watched", *command, wait=False, metadata=METADATA)
    assert begun.returncode == 0, begun.stderr
    ledger = out / "ledger.jsonl"

    def trains() -> bool:
        job = cluster.api("/api/jobs/watched")
        assert job["status"] in ("PENDING", "RUNNING"), cluster.api("/api/jobs/watched/logs")["logs"][-3000:]
        return ledger.is_file() and '"ended"' in ledger.read_text()

    wait_for(trains)
    return out


def runs(cluster: Cluster) -> dict[str, str]:
    """Ray Train's runs: name -> state."""
    return {run["name"]: run["status"] for run in cluster.api(RUNS)["train_runs"]}


def test_ray_lists_it_by_name(cluster: Cluster, watched: Path) -> None:
    assert runs(cluster) == {"small-group-0": "RUNNING"}
    actors = cluster.api("/api/v0/actors?detail=true&limit=1000")["data"]["result"]["result"]
    assert "small-group-0: trials" in [actor["repr_name"] for actor in actors]
    job = next(job for job in cluster.api("/api/jobs/") if job["submission_id"] == "watched")
    assert job["metadata"].items() >= METADATA.items()
    document = yaml.safe_load((watched / "study.yaml").read_text())
    assert document["versions"]["commit"] == COMMIT
    told = f"study small: dataset {document['dataset']['fingerprint'][:12]}, commit {COMMIT}"
    assert told in cluster.api("/api/jobs/watched/logs")["logs"]
    for path in (RUNS, "/api/jobs/"):
        request = urllib.request.Request(cluster.dashboard + path)
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(request, timeout=30)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_its_pages_name_it_in_a_browser(cluster: Cluster, watched: Path, tmp_path: Path) -> None:
    token = {"ray-authentication-token": Path(cluster.environment["RAY_AUTH_TOKEN_PATH"]).read_text()}
    (tmp_path / "profile").mkdir()
    with browser(tmp_path / "profile") as chromium:
        page = (watched / "page.url").read_text().strip()
        # Between two trials none is anywhere: the page is read until it shows one.
        seen = chromium.read(
            page, lambda text: "Best so far" in text and ON_TWO.search(text) is not None, tmp_path / "study.png"
        )
        chromium.read(page, lambda text: "Best so far" in text, tmp_path / "phone.png", View(400, 900, dark=True))
        address = f"{cluster.dashboard}/#/jobs/watched"
        job = chromium.read(address, lambda text: "diagram_ray.tune" in text, tmp_path / "job.png", cookies=token)
    assert "watched" in job
    assert str(watched) in job  # as its command says it
    assert "RUNNING" in job
    for words in (
        "small",
        "48 images",
        COMMIT,
        "of 500",
        "95% interval",
        "worker-hours of training at 0.5",
    ):
        assert words in seen


class Prometheus:
    """One that reads the head's metrics every second."""

    def __init__(self, port: int) -> None:
        self._root = f"http://127.0.0.1:{port}/api/v1/"

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer. Raises URLError while there is none, HTTPError for a query that is not valid."""
        with urllib.request.urlopen(f"{self._root}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)["data"]

    def ask(self, expression: str) -> list[dict[str, Any]]:
        """The series that an expression yields now."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def has(self, expression: str) -> bool:
        """Whether it yields any. False while there is nobody to ask."""
        try:
            return bool(self.ask(expression))
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False


@contextmanager
def prometheus(cluster: Cluster, home: Path) -> Iterator[Prometheus]:
    """With the alert rules."""
    (port,) = free_ports(1)
    target = urllib.parse.urlsplit(cluster.metrics).netloc
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "ray", "static_configs": [{"targets": [target]}]}],
    }
    (home / "prometheus.yaml").write_text(yaml.safe_dump(config))
    options = [f"--config.file={home / 'prometheus.yaml'}", f"--storage.tsdb.path={home / 'series'}"]
    with (home / "prometheus.log").open("wb") as log:
        command = ["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(30)


@needs_prometheus
def test_prometheus_answers_all_that_is_asked(cluster: Cluster, watched: Path, tmp_path: Path, wait_for: Any) -> None:
    queries = [*panels(), *(rule["expr"] for rule in alerts())]
    asked = {name for text in queries for name in re.findall(r"\bray_\w+", text)}
    assert len(asked) >= 15
    with prometheus(cluster, tmp_path) as server:
        for name in sorted(asked - OF_GPUS):
            wait_for(lambda name=name: server.has(name), tmp_path / "prometheus.log")
        wait_for(lambda: server.has("rate(ray_diagram_ray_images_total[5m]) > 0"))
        for text in panels():
            if not any(name in text for name in OF_GPUS):
                wait_for(lambda text=text: server.has(text))  # between two trials no device is in use
        own = {name for name in server.get("label/__name__/values") if name.startswith("ray_diagram_ray")}
        assert own <= asked
        assert {one["metric"]["study"] for one in server.ask('{__name__=~"ray_diagram_ray.*"}')} == {"small"}
        (best,) = server.ask("ray_diagram_ray_best_auc")
        assert 0.0 <= float(best["value"][1]) <= 1.0
        nodes = cluster.api("/api/v0/nodes?detail=true")["data"]["result"]["result"]
        used = {one["metric"]["ip"] for one in server.ask("ray_diagram_ray_trial_device == 1")}
        assert used <= {node["node_ip"] for node in nodes if not node["is_head_node"]}
        wait_for(lambda: {rule["health"] for rule in _rules(server)} == {"ok"})
        assert len(_rules(server)) == len(alerts())
        assert {rule["state"] for rule in _rules(server)} <= {"inactive", "pending"}


def _rules(server: Prometheus) -> list[dict[str, Any]]:
    return [rule for group in server.get("rules")["groups"] for rule in group["rules"]]


TRIAL = 'ray_diagram_ray_trial_device{{study="s", trial="{}", ip="10.0.0.{}", GpuIndex="{}"}}'
USE = 'ray_node_gpus_utilization{{ip="10.0.0.{}", GpuIndex="{}"}}'


@needs_prometheus
def test_gpu_use_by_trial(tmp_path: Path) -> None:
    """Two trials on a GPU, one on another machine's, one that has ended, one on a processor."""
    (asked,) = (text for text in panels() if "trial_device" in text and "gpus_utilization" in text)
    places = {(1, 1, "0"): 1, (2, 1, "0"): 1, (3, 2, "0"): 1, (4, 2, "0"): 0, (5, 3, ""): 1}
    series = [{"series": TRIAL.format(*place), "values": f"{value}x3"} for place, value in places.items()]
    series += [{"series": USE.format(machine, 0), "values": f"{use}x3"} for machine, use in ((1, 80), (2, 30))]
    expected = [
        {"labels": f'{{study="s", trial="{trial}"}}', "value": use} for trial, use in ((1, 80), (2, 80), (3, 30))
    ]
    test = {"expr": asked, "eval_time": "2m", "exp_samples": expected}
    whole = {
        "rule_files": [str(RULES)],
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [test]}],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(whole))
    done = subprocess.run(["promtool", "test", "rules", "test.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_the_alert_rules_are_valid() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_say_what_to_do() -> None:
    assert all({"summary", "action"} <= rule["annotations"].keys() for rule in alerts())


def test_its_run_ends(cluster: Cluster, watched: Path, wait_for: Any) -> None:
    stopped = cluster.ray("job", "stop", "--address", cluster.dashboard, "watched")
    assert stopped.returncode == 0, stopped.stderr
    wait_for(lambda: runs(cluster) == {"small-group-0": "FINISHED"})
