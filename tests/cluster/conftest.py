"""A protected cluster of two nodes for the tests: a head that computes nothing, and a worker process."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from diagram_ray.data.phantom import make_phantom
from tests.support.cluster.nodes import (
    OF_A_WORKER,
    PORTS,
    Cluster,
    await_ready,
    end_processes,
    free_ports,
    protected_environment,
    run_node,
)

STUDY = """\
name: small
base: {model.width: 4, model.generator_width: 4, training.epochs: 2}
space: {training.k: {type: int, low: 1, high: 2}}
folds: 3
trials: 2
ladder: {rungs: [[3, 2]], reduction: 2}
control: {shuffles: 0}
"""


@pytest.fixture(scope="package")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="package")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prepared dataset of twelve phantoms, 64x48."""
    from diagram_ray.data.preprocessing.prepare_image import Options
    from diagram_ray.data.readers import inbreast
    from diagram_ray.distributed import prepare_dataset
    from diagram_ray.distributed.session import ray_session

    folder = tmp_path_factory.mktemp("small")
    make_phantom(folder / "raw", 12, 0, 0.3, 208, workers=1)
    with ray_session(num_cpus=2):
        options = Options((64, 48), 32, 2, b"a key of the test", "negative")
        prepare_dataset.prepare_dataset(
            inbreast.index(str(folder / "raw")), str(folder / "data"), options, "phantom", lambda _: None
        )
    return str(folder / "data")


@pytest.fixture(scope="package")
def cluster() -> Iterator[Cluster]:
    """Started with a token of its own, and ended by the ids of the two processes that were started."""
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        home = Path(folder)
        environment = protected_environment(home)
        stack.callback(end_processes, f"HOME={home}")
        numbers = [str(number) for number in free_ports(len(PORTS) + len(OF_A_WORKER))]
        head = dict(zip(PORTS, numbers[: len(PORTS)], strict=True))
        worker = dict(zip(OF_A_WORKER, numbers[len(PORTS) :], strict=True))
        address = f"127.0.0.1:{head['port']}"
        found = Cluster(
            address,
            f"http://127.0.0.1:{head['dashboard-port']}",
            environment,
            f"http://127.0.0.1:{head['metrics-export-port']}/metrics",
        )
        options = ("--head", "--num-cpus=0", f"--temp-dir={home / 't'}", "--dashboard-host=127.0.0.1")
        node = stack.enter_context(run_node(home / "head.log", environment, head, *options))
        await_ready(
            lambda: found.ray("job", "list", "--address", found.dashboard).returncode == 0, home / "head.log", node
        )
        # A folder of its own, as on another machine: in a shared one a node unpacks the job's files over the other's.
        options = (f"--address={address}", "--num-cpus=2", f"--temp-dir={home / 'w'}")
        node = stack.enter_context(run_node(home / "worker.log", environment, worker, *options))
        await_ready(lambda: "2.0 CPU" in found.ray("status", "--address", address).stdout, home / "worker.log", node)
        yield found


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    return await_ready
