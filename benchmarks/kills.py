"""Kills processes of a study with SIGKILL at random moments: `python -m benchmarks.kills [--kills 20]`, minutes.

A study of phantoms is run undisturbed once. Then it is run again and again: each time the driver, a process that
trains, or Ray's node process is killed at a random moment; a study whose driver or node is gone is resumed. Weights,
scores and tables must be those of the undisturbed run to the last bit, but for what says how long it took, and the
doctor must find nothing wrong. Ends with status 1 otherwise.

With --together all kills strike one study of --trials trials, one after the other, and no process of it may be left.
With --workers each trial is trained by a Ray Train worker group, whose processes are killed as well:

    python -m benchmarks.kills --together --kills 50 --trials 40
    python -m benchmarks.kills --workers 2 --trials 2
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

STUDY = [
    "base={model.width: 4, model.generator_width: 4, model.latent_size: 4, training.epochs: 4}",
    "space={training.weight_decay: {type: float, low: 0.0, high: 0.1}}",
    "ladder.rungs=[[3, 2], [3, 4]]",
    "folds=3",
    "parallel.lookback=2",
    "control.shuffles=0",
]
MARK = "DIAGRAM_RAY_KILLS"
"""An environment variable by which the processes of a study are known, also those whose parents are gone."""
PATIENCE = 600
"""Seconds after which a study hangs."""
TIMES = ("seconds", "worker_seconds")
"""Columns that may differ."""
LATEST = 0.95
"""Part of the undisturbed study's events after which nobody is killed: it must not be over before the last blow."""


@dataclass(frozen=True)
class Asked:
    """The study that is run."""

    data: Path
    trials: int
    workers: int = 1
    """Processes that train a trial together."""

    @property
    def settings(self) -> list[str]:
        """What it adds to the study file's."""
        group = [f"scaling.workers={self.workers}", "scaling.cpus_per_worker=0.9", "parallel.trials=1"]
        return [*STUDY, f"trials={self.trials}", *(group if self.workers > 1 else [])]

    @property
    def kinds(self) -> list[str]:
        """Whom to kill."""
        return ["driver", "trial", "node"] + (["worker"] if self.workers > 1 else [])


def start(study: Path, asked: Asked, resume: bool) -> "subprocess.Popen[bytes]":
    """The command, in a session of its own."""
    command = [sys.executable, "-m", "diagram_ray.tune"]
    if resume:
        command += ["--resume", str(study)]
    else:
        settings = [part for value in asked.settings for part in ("--set", value)]
        command += ["search_spaces/quickstart.yaml", "--data", str(asked.data), "--out", str(study), *settings]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {MARK: str(study)},
    )


def left(study: Path) -> list[int]:
    """Processes of the study, wherever they hang."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"{MARK}={study}\0".encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def events(study: Path) -> int:
    """Lines of the ledger."""
    path = study / "ledger.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def descendants(root: int) -> list[int]:
    """The processes that `root` has started, and those that they have."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    mine = {root}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    return sorted(mine - {root})


KINDS = {"trial": "ray::_Inner", "node": "/raylet/raylet", "worker": "ray::RayTrainWorker"}
"""Whom to kill -> what its command line begins with, or has in it."""


def victims(root: int, whom: str) -> list[int]:
    """The driver, the processes that train, or the node's."""
    if whom == "driver":
        return [root]
    found = []
    for pid in descendants(root):
        try:
            if KINDS[whom] in Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]:
                found.append(pid)
        except OSError:
            continue
    return found


def strike(process: "subprocess.Popen[bytes]", wish: str) -> str:
    """Kills someone of the study, the driver if there is no such process. Returns whom, or nothing if it is over."""
    if process.poll() is not None:
        return ""
    found = victims(process.pid, wish)
    os.kill(random.choice(found or [process.pid]), signal.SIGKILL)
    return wish if found else "driver"


def disturbed(study: Path, asked: Asked, whom: str, after: float) -> str:
    """Runs the study and kills someone `after` so much of its events; says what was done."""
    process = start(study, asked, False)
    _await(process, study, after)
    moment = f"after {events(study)} events and {after % 1.0:.2f} s"
    whom = strike(process, whom)
    told = f"{whom or 'driver, who was done,'} {moment}"
    _, words = process.communicate(timeout=PATIENCE)
    if whom in ("driver", "node") and process.returncode:
        process = go_on(study, asked)
        _, words = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"{told}: ended with {process.returncode}: {words.decode()[-2000:]}")
    return told


def go_on(study: Path, asked: Asked) -> "subprocess.Popen[bytes]":
    """The study begun, or resumed; begun again where it was killed before it had a plan."""
    begun = (study / "study.yaml").is_file()
    if not begun:
        shutil.rmtree(study, ignore_errors=True)
    return start(study, asked, begun)


def harassed(
    study: Path, go: Callable[[], "subprocess.Popen[bytes]"], blows: Iterable[tuple[float, str]]
) -> Counter[str]:
    """Runs one study that `go` begins or goes on with, under blows: (moment in events of its ledger, whom to kill).

    Where there is no such process at that moment, the driver is killed. Without its node's process a study goes on with
    the workers that it has, until Ray notices; it may even come to its end. Returns whom how often.
    """
    killed: Counter[str] = Counter()
    process = go()
    for moment, wish in sorted(blows):
        _await(process, study, moment)
        while process.poll() is not None:  # it has noticed only now that its node was gone
            _check_stopped(process, f"after {dict(killed)}, before the blow at event {moment:.1f},")
            process = go()
            _await(process, study, moment)
        whom = strike(process, wish) or "driver"  # which has ended this very moment
        killed[whom] += 1
        print(f"{sum(killed.values())}: killed the {whom} after {events(study)} events", flush=True)
        if whom == "driver":
            _check_stopped(process, f"killed after {dict(killed)}")
            process = go()
    _, words = process.communicate(timeout=PATIENCE)
    if process.returncode and killed["node"]:
        _, words = (process := go()).communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"ended with {process.returncode}: {words.decode()[-2000:]}")
    return killed


def _check_stopped(process: "subprocess.Popen[bytes]", when: str) -> None:
    """Ends the program unless the process stopped with a reason, or was killed."""
    _, words = process.communicate(timeout=PATIENCE)
    if process.returncode == 0 or b"Traceback" in words:
        raise SystemExit(f"{when} it ended with {process.returncode}: {words.decode()[-2000:]}")


def _await(process: "subprocess.Popen[bytes]", study: Path, moment: float) -> None:
    """So many events and parts of a second, or the process's end."""
    while events(study) < int(moment) and process.poll() is None:
        time.sleep(0.01)
    time.sleep(moment % 1.0)


def differences(study: Path, other: Path) -> list[str]:
    """What is not the same."""
    found = []
    for name, order in (
        ("trials", ["number"]), ("curves", ["trial", "fold", "epoch"]), ("predictions", ["trial", "fold", "image_id"]),
    ):  # fmt: skip
        one, two = (
            pd.read_parquet(folder / f"{name}.parquet").sort_values(order).reset_index(drop=True)
            for folder in (study, other)
        )
        kept = [column for column in one.columns if column not in TIMES]
        if not one[kept].equals(two[kept]):
            found.append(name)
    for path in sorted((study / "best").glob("*.safetensors")):
        one, two = load_file(path), load_file(other / "best" / path.name)
        if one.keys() != two.keys() or any((one[key] != two[key]).any() for key in one):
            found.append(path.name)
    examined = subprocess.run([sys.executable, "-m", "diagram_ray.doctor", str(other)], capture_output=True, text=True)
    return found + ([f"doctor: {examined.stdout}"] if examined.returncode else [])


def one_by_one(folder: Path, asked: Asked, calm: Path, kills: int) -> bool:
    """A study for each kill. Whether all ended as the undisturbed one."""
    good = 0
    for number in range(kills):
        study, whom = folder / f"study-{number}", random.choice(asked.kinds)
        told = disturbed(study, asked, whom, random.uniform(0.0, LATEST * events(calm)))
        found = differences(calm, study)
        good += not found
        print(f"{number + 1}: killed the {told}: {', '.join(found) + ' differ' if found else 'the same'}", flush=True)
    print(f"{good} of {kills} the same to the last bit")
    return good == kills


def together(folder: Path, asked: Asked, calm: Path, kills: int) -> bool:
    """One study for all kills. Whether it ended as the undisturbed one, and nothing is left of its processes."""
    study, began = folder / "study", time.monotonic()
    blows = [(random.uniform(0.0, LATEST * events(calm)), random.choice(asked.kinds)) for _ in range(kills)]
    killed = harassed(study, partial(go_on, study, asked), blows)
    found, cells = differences(calm, study), pd.read_parquet(study / "predictions.parquet")
    twice = int(cells.duplicated(["trial", "fold", "image_id"]).sum())
    number = len(pd.read_parquet(study / "trials.parquet"))
    end = time.monotonic() + 30  # Ray's last processes take a moment
    while (rest := left(study)) and time.monotonic() < end:
        time.sleep(0.1)
    print(f"{sum(killed.values())} kills ({dict(killed)}) in {time.monotonic() - began:.0f} s: {number} trials")
    print(f"{twice} predictions twice; {len(rest)} processes left; differs from the undisturbed: {found or 'nothing'}")
    return not (found or twice or rest) and number == asked.trials


def main() -> None:
    """Runs all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1, help="processes of a trial")
    parser.add_argument("--together", action="store_true", help="all kills in one study")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked, calm = Asked(folder / "data", options.trials, options.workers), folder / "calm"
        prepare = [sys.executable, "-m", "diagram_ray.prepare", "phantom", "--patients", "24", "--image-size", "64x48"]
        subprocess.run([*prepare, "--out", str(asked.data)], check=True, capture_output=True)
        began = time.monotonic()
        _, words = (process := start(calm, asked, False)).communicate()
        if process.returncode:
            raise SystemExit(words.decode())
        print(f"undisturbed: {events(calm)} events, {time.monotonic() - began:.0f} s", flush=True)
        way = together if options.together else one_by_one
        sys.exit(not way(folder, asked, calm, options.kills))


if __name__ == "__main__":
    main()
