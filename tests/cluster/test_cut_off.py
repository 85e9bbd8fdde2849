"""Three hosts with a network of their own, made of the kernel's namespaces; one of them is cut off for a while."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.elastic import SOON
from tests.support.cluster.fake_driver import assert_same, driver, ended, has_ended, make_calm
from tests.support.cluster.nodes import OF_A_WORKER, PORTS, end_processes, free_ports, protected_environment, run_node

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(1200),  # each wait has a limit of its own
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2"),
]

SECONDS = 30.0
"""That the host is cut off."""
BETWEEN = 5.0
"""A host that goes on training has no process that does for less than this, between two trials."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


class Hosts:
    """A head at 10.77.0.1 and others, each in a namespace and with a cable to a switch at the head."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = {name: f"dr{os.getpid()}{name}" for name in ("head", *names)}
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(self.names, start=1)}

    @contextmanager
    def up(self) -> Iterator[None]:
        """Makes them, and takes them away."""
        head = self.names["head"]
        with ExitStack() as stack:
            for name in self.names.values():
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
                ip("-n", name, "link", "set", "lo", "up")
            ip("-n", head, "link", "add", "switch", "type", "bridge")
            ip("-n", head, "addr", "add", "10.77.0.1/24", "dev", "switch")
            ip("-n", head, "link", "set", "switch", "up")
            for name in [name for name in self.names if name != "head"]:
                own = self.names[name]
                ip("-n", head, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", own)
                ip("-n", head, "link", "set", name, "master", "switch", "up")
                ip("-n", own, "addr", "add", f"{self.addresses[name]}/24", "dev", "eth0")
                ip("-n", own, "link", "set", "eth0", "up")
            yield

    def inside(self, name: str) -> tuple[str, ...]:
        """Before a command that is to run on a host."""
        return ("ip", "netns", "exec", self.names[name])

    def cable(self, name: str, state: str) -> None:
        """Pulls ("down") or plugs ("up") the cable of a host."""
        ip("-n", self.names["head"], "link", "set", name, state)

    def train(self, name: str) -> bool:
        """Whether a process on this host trains a trial."""
        own = Path(f"/run/netns/{self.names[name]}").stat().st_ino
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                command = path.parents[1].joinpath("cmdline").read_text(errors="replace")
                if command.startswith("ray::_Inner") and path.stat().st_ino == own:
                    return True
        return False


@pytest.fixture
def hosts() -> Iterator[tuple[Hosts, str, dict[str, str]]]:
    """A head that computes nothing and two hosts with a processor each; the head's address, and its environment."""
    made = Hosts(("left", "right"))
    numbers = iter(free_ports(len(PORTS) + 2 * len(OF_A_WORKER)))
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        home = Path(folder)
        (home / "slow").write_text("3")
        stack.callback(end_processes, f"HOME={home}")
        environment = protected_environment(home) | SOON | {"FAKE_FOLDER": folder}
        try:
            stack.enter_context(made.up())
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
        address = ""
        for name, wanted in (("head", PORTS), ("left", OF_A_WORKER), ("right", OF_A_WORKER)):
            ports = {port: str(next(numbers)) for port in wanted}
            address = f"10.77.0.1:{ports['port']}" if name == "head" else address
            options = ("--head", "--num-cpus=0") if name == "head" else (f"--address={address}", "--num-cpus=1")
            temporary = f"--temp-dir={home / name[0]}"
            node = run_node(
                home / f"{name}.log", environment, ports, *options, temporary, ip=made.addresses[name],
                inside=made.inside(name),
            )  # fmt: skip
            stack.enter_context(node)
        yield made, address, environment


def test_a_host_that_is_cut_off_costs_time_and_nothing_else(
    hosts: tuple[Hosts, str, dict[str, str]], tmp_path: Path, wait_for: Any
) -> None:
    """It goes on training on its own meanwhile, beside the one that has taken its trial."""
    made, address, environment = hosts
    out = tmp_path / "study"
    with driver(address, environment, out, made.inside("head")) as process:
        log = tmp_path / "driver.log"
        wait_for(lambda: has_ended(out, 1) and made.train("left") and made.train("right"), log, process)
        made.cable("left", "down")
        threading.Event().wait(SECONDS)  # the fault itself
        assert process.poll() is None
        wait_for(lambda: made.train("right"), log, process, BETWEEN)
        made.cable("left", "up")
        Path(environment["FAKE_FOLDER"], "slow").write_text("0.3")
        result = ended(process, out)
    print(f"\nlost: {result['lost']}")
    assert result["lost"]["workers"] >= 1
    assert_same(out, make_calm(tmp_path / "calm"))
