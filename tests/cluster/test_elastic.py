"""A study on a cluster that grows, shrinks and loses machines: it ends as if nothing had happened."""

import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster.elastic import MOST, Elastic, elastic_cluster
from tests.support.cluster.fake_driver import assert_same, driver, ended, ended_trials, has_ended, make_calm
from tests.support.cluster.nodes import BIN

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]  # each wait has a limit of its own

NOTICE = [
    str(BIN / "ray"), "drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot",
    "--deadline-remaining-seconds", "60",
]  # fmt: skip
"""What a cloud says before it takes a machine back."""


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elastic]:
    """A cluster without machines. Its folder's name is short: that of a socket may have 108 characters."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as folder:
        (Path(folder) / "slow").touch()  # training takes time
        with elastic_cluster(Path(folder), FAKE_FOLDER=folder) as found:
            yield found


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_calm(tmp_path_factory.mktemp("calm") / "study")


def test_grows_from_nothing_and_shrinks_again(elastic: Elastic, calm: Path, tmp_path: Path, wait_for: Any) -> None:
    out, most = tmp_path / "study", 0
    assert elastic.machines() == []

    def largest() -> bool:
        nonlocal most
        most = max(most, len(elastic.machines()))
        return has_ended(out, 14)

    with driver(elastic.address, elastic.environment, out) as process:
        wait_for(largest, tmp_path / "driver.log", process)
        result = ended(process, out)
    assert most == MOST
    assert result["lost"] == {"workers": 0, "fold_epochs": 0}
    assert_same(out, calm)
    wait_for(lambda: elastic.machines() == [])


def test_machines_that_die_cost_time_and_nothing_else(
    elastic: Elastic, calm: Path, tmp_path: Path, wait_for: Any
) -> None:
    out, over, killed = tmp_path / "study", threading.Event(), []
    (elastic.home / "slow").write_text("3")
    draw = random.Random(0)

    def kill_now_and_then() -> None:
        """Every ten seconds; on a slow machine less often, so that the study gets on between two kills."""
        count = 1
        while not over.wait(10.0):
            if has_ended(out, count) and (there := elastic.training()):
                killed.append(draw.choice(there))
                elastic.kill(killed[-1])
                count = ended_trials(out) + 1

    killer = threading.Thread(target=kill_now_and_then)
    with driver(elastic.address, elastic.environment, out) as process:
        wait_for(lambda: has_ended(out, 1), tmp_path / "driver.log", process)
        killer.start()
        try:
            result = ended(process, out)
        finally:
            over.set()
            killer.join()
            (elastic.home / "slow").write_text("1")
    print(f"\n{len(killed)} machines killed; lost: {result['lost']}")
    assert len(killed) >= 2
    assert len(set(killed)) == len(killed)  # a new one takes the place of each
    assert result["lost"]["workers"] >= 1
    assert sum(result["trials"].values()) == 28
    assert "fail" not in result["trials"]
    assert_same(out, calm)


def test_a_machine_that_is_told_to_leave_saves_and_goes(
    elastic: Elastic, calm: Path, tmp_path: Path, wait_for: Any
) -> None:
    out = tmp_path / "study"
    with driver(elastic.address, elastic.environment, out) as process:
        wait_for(lambda: has_ended(out, 1) and elastic.training(), tmp_path / "driver.log", process)
        (leaves, *_) = elastic.training()
        notice = [*NOTICE, "--address", elastic.address, "--node-id", leaves]
        subprocess.run(notice, env=elastic.environment, check=True, capture_output=True, timeout=60)
        wait_for(lambda: leaves not in elastic.training())
        assert process.poll() is None
        result = ended(process, out)
    assert result["lost"] == {"workers": 1, "fold_epochs": 0}
    assert_same(out, calm)
