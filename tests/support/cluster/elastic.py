"""A head whose autoscaler starts and ends machines on this one, as a cloud would: Ray's own fake provider."""

import json
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.cluster.nodes import PORTS, await_ready, end_processes, free_ports, protected_environment, run_node

MOST = 3
"""Machines with one processor each."""
HEAD, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""The names that the provider gives to the head and its kind."""
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
SOON = {
    "RAY_health_check_initial_delay_ms": "2000", "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "3000", "RAY_health_check_failure_threshold": "4",
}  # fmt: skip
"""When a machine that does not answer is taken for lost."""
LISTS = (
    "initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands",
    "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude", "rsync_filter",
)  # fmt: skip


@dataclass(frozen=True)
class Elastic:
    """The head's address, the environment of its clients, and what its dashboard tells."""

    address: str
    dashboard: str
    environment: dict[str, str]
    home: Path

    def api(self, path: str) -> Any:
        """The dashboard's answer."""
        token = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def _listed(self, what: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api(f"/api/v0/{what}?detail=true&limit=1000")["data"]["result"]["result"]
        return [one for one in found if one["state"] == "ALIVE"]

    def machines(self) -> list[str]:
        """Ids of the machines that are there, but for the head."""
        return sorted(one["node_id"] for one in self._listed("nodes") if not one["is_head_node"])

    def training(self) -> list[str]:
        """Ids of the machines that train a trial."""
        return sorted({one["node_id"] for one in self._listed("actors") if one["class_name"].endswith("_Inner")})

    def kill(self, machine: str) -> None:
        """Takes the machine's power away."""
        end_processes(f"RAY_CLOUD_INSTANCE_ID={machine}", f"HOME={self.home}")


@contextmanager
def elastic_cluster(home: Path, **variables: str) -> Iterator[Elastic]:
    """A head alone; its autoscaler starts machines when there is work and ends those that are idle.

    All their processes know the `variables`.
    """
    numbers = free_ports(len(PORTS))
    ports = {name: str(number) for name, number in zip(PORTS, numbers, strict=True)}
    address = f"127.0.0.1:{ports['port']}"
    names = {"RAY_CLOUD_INSTANCE_ID": HEAD, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    own = {"RAY_enable_autoscaler_v2": "1", "RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    environment = protected_environment(home) | variables | SOON
    found = Elastic(address, f"http://127.0.0.1:{ports['dashboard-port']}", environment, home)
    (home / "autoscaling.json").write_text(json.dumps(_autoscaling(address)))
    options = (
        "--head", "--num-cpus=0", f"--temp-dir={home / 't'}", "--dashboard-host=127.0.0.1",
        f"--autoscaling-config={home / 'autoscaling.json'}",
    )  # fmt: skip
    with ExitStack() as stack:
        # The machines are the provider's children, and outlive it for a minute.
        stack.callback(end_processes, f"HOME={home}")
        node = stack.enter_context(run_node(home / "head.log", environment | own | names, ports, *options))
        await_ready(lambda: _answers(found), home / "head.log", node)
        yield found


def _autoscaling(address: str) -> dict[str, Any]:
    provider = {"type": "external", "module": PROVIDER, "launch_multiple": True, "head_node_id": HEAD}
    types = {
        HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "worker": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": MOST},
    }
    empty = {name: [] for name in LISTS} | {name: {} for name in ("auth", "docker", "file_mounts")}
    return empty | {
        "cluster_name": "elastic", "max_workers": MOST, "idle_timeout_minutes": 0.1, "upscaling_speed": 10,
        "provider": provider | {"gcs_address": address}, "available_node_types": types, "head_node_type": HEAD_TYPE,
        "head_node": {}, "worker_nodes": {}, "file_mounts_sync_continuously": False,
    }  # fmt: skip


def _answers(cluster: Elastic) -> bool:
    try:
        return cluster.machines() == []
    except OSError:
        return False
