"""Nodes of Ray clusters that a token protects, started and ended on this machine, and the clients of such clusters."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.repository import ROOT

BIN = Path(sys.executable).parent
PORTS = (
    "port", "dashboard-port", "ray-client-server-port", "metrics-export-port", "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port", "node-manager-port", "object-manager-port",
)  # fmt: skip
OF_A_WORKER = tuple(name for name in PORTS if name not in ("port", "dashboard-port", "ray-client-server-port"))
START = 300.0
"""Seconds that anything may take to be there: other tests may have the machine."""

ATTEMPTS, ATTEMPT = 4, 240.0
"""Times that a node is started, and the seconds that it gets."""


@dataclass(frozen=True)
class Cluster:
    """Where the head and its dashboard are, and the environment of a client that has the token."""

    address: str
    dashboard: str
    environment: dict[str, str]
    metrics: str
    """Where Prometheus would ask the head; it answers without a token."""

    def api(self, path: str, token: str | None = None) -> Any:
        """The dashboard's answer as JSON; with the cluster's token where none is given."""
        own = Path(self.environment["RAY_AUTH_TOKEN_PATH"]).read_text() if token is None else token
        request = urllib.request.Request(self.dashboard + path, headers={"Authorization": f"Bearer {own}"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def ray(self, *arguments: str, timeout: float = 240, **changes: str | None) -> subprocess.CompletedProcess[str]:
        """Runs `ray ARGUMENTS` as a client, with `changes` of its environment (None removes a variable)."""
        environment = {name: value for name, value in (self.environment | changes).items() if value is not None}
        command = [str(BIN / "ray"), *arguments]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=timeout)

    def submit(
        self, job: str, *command: str, wait: bool = True, metadata: Mapping[str, str] = {}, **changes: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Submits `python -m diagram_ray.tune COMMAND` as `job`, as cluster/README.md says, and waits for it."""
        options = ["--address", self.dashboard, "--submission-id", job, "--working-dir", "."]
        options += ["--metadata-json", json.dumps(metadata)] if metadata else []
        entry = ("python", "-m", "diagram_ray.tune", *command)
        return self.ray("job", "submit", *options, *([] if wait else ["--no-wait"]), "--", *entry, **changes)


def protected_environment(home: Path) -> dict[str, str]:
    token = home / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    own = {"HOME": str(home), "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    quiet = {
        "PYTHONUNBUFFERED": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    return kept | own | quiet


@contextmanager
def run_node(
    log: Path, environment: dict[str, str], ports: dict[str, str], *options: str, ip: str = "127.0.0.1",
    inside: tuple[str, ...] = (),
) -> Iterator["subprocess.Popen[bytes]"]:  # fmt: skip
    """`ray start` in the foreground, `inside` of another command; SIGTERM ends it and all that it has started.

    Beside other tests that takes long, and Ray gives up for good where a node's agent is not there within 15 s
    (ray#65983; no setting changes it), its raylet within 30, or the head within 40: then it is started again.
    """
    given = [f"--{name}={number}" for name, number in ports.items()]
    ray = [str(BIN / "ray"), "start", "--block", f"--node-ip-address={ip}", "--disable-usage-stats"]
    command = [*inside, *ray, *options, *given]
    for attempt in range(1, ATTEMPTS + 1):
        with log.open("w") as file:
            process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            if attempt == ATTEMPTS or _comes_up(process, log):
                yield process
                return
        finally:
            _end(process)


def _comes_up(node: "subprocess.Popen[bytes]", log: Path) -> bool:
    end = time.monotonic() + ATTEMPT
    while "Ray runtime started" not in log.read_text():
        if node.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def _end(node: "subprocess.Popen[bytes]") -> None:
    """A raylet whose detached actors do not listen would take half a minute; `end_processes` ends what is left."""
    node.send_signal(signal.SIGTERM)
    try:
        node.wait(5)
    except subprocess.TimeoutExpired:
        node.kill()
        node.wait()


def end_processes(*variables: str) -> None:
    """Kills those that have all of these in their environment, wherever they hang."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if set(variables) <= set(path.read_text(errors="replace").split("\0")):
                os.kill(int(path.parent.name), signal.SIGKILL)


def free_ports(count: int) -> list[int]:
    """Ports below those that Ray gives to its workers, and below those that the kernel gives out.

    Processes that look at the same time begin at different places.
    """
    found: list[int] = []
    for number in range(7100 + os.getpid() * 50 % 2000, 10000):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", number)) != 0:
                found.append(number)
        if len(found) == count:
            return found
    raise OSError("no free ports")


def await_ready(
    ready: Callable[[], bool],
    log: Path | None = None,
    process: "subprocess.Popen[Any] | None" = None,
    seconds: float = START,
) -> None:
    """Until `ready`. Where it takes too long, or the `process` that is to bring it about has ended, shows its log."""
    end = time.monotonic() + seconds
    while not ready():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > end:
            why = "the process ended" if ended else f"not in {seconds:g} s"
            raise TimeoutError(f"{why}: {log.read_text()[-3000:] if log else ready}")
        time.sleep(0.5)
