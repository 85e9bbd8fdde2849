"""Kills processes of a study with SIGKILL at random moments: `python benchmarks/kills.py [--kills 20]`, minutes.

A study of phantoms is run undisturbed once. Then it is run again and again: each time the driver, a process that
trains, or Ray's node process is killed at a random moment; a study whose driver or node is gone is resumed. Weights,
scores and tables must be those of the undisturbed run to the last bit, but for what says how long it took, and the
doctor must find nothing wrong. Ends with status 1 otherwise.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from safetensors.numpy import load_file

STUDY = [
    "base={model.width: 4, model.generator_width: 4, model.latent_size: 4, training.epochs: 4}",
    "space={training.weight_decay: {type: float, low: 0.0, high: 0.1}}",
    "ladder.rungs=[[3, 2], [3, 4]]",
    "folds=3",
    "parallel.lookback=2",
    "trials=6",
    "control.shuffles=0",
]
PATIENCE = 600
"""Seconds after which a study hangs."""
TIMES = ("seconds", "worker_seconds")
"""Columns that may differ."""


def start(study: Path, data: Path, resume: bool) -> "subprocess.Popen[bytes]":
    """The command, in a session of its own."""
    command = [sys.executable, "-m", "diagram_ray.tune"]
    if resume:
        command += ["--resume", str(study)]
    else:
        settings = [part for value in STUDY for part in ("--set", value)]
        command += ["search_spaces/quickstart.yaml", "--data", str(data), "--out", str(study), *settings]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


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


KINDS = {"trial": "ray::_Inner", "node": "/raylet/raylet"}
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


def disturbed(study: Path, data: Path, whom: str, after: float) -> str:
    """Runs the study and kills someone `after` so much of its events; says what was done."""
    process = start(study, data, resume=False)
    wanted, wait = int(after), after % 1.0
    while process.poll() is None and events(study) < wanted:
        time.sleep(0.01)
    time.sleep(wait)
    found = victims(process.pid, whom)
    told = f"{whom} after {events(study)} events and {wait:.2f} s"
    if process.poll() is not None or not found:
        told += " (it was over)"
    else:
        os.kill(random.choice(found), signal.SIGKILL)
    _, words = process.communicate(timeout=PATIENCE)
    if whom != "trial" and process.returncode:
        process = start(study, data, resume=True)
        _, words = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"{told}: ended with {process.returncode}: {words.decode()[-2000:]}")
    return told


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


def main() -> None:
    """Runs all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    random.seed(asked.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data, calm = folder / "data", folder / "calm"
        prepare = [sys.executable, "-m", "diagram_ray.prepare", "phantom", "--patients", "24", "--image-size", "64x48"]
        subprocess.run([*prepare, "--out", str(data)], check=True, capture_output=True)
        began = time.monotonic()
        _, words = (process := start(calm, data, resume=False)).communicate()
        if process.returncode:
            raise SystemExit(words.decode())
        total = events(calm)
        print(f"undisturbed: {total} events, {time.monotonic() - began:.0f} s", flush=True)
        bad = 0
        for number in range(asked.kills):
            study, whom = folder / f"study-{number}", random.choice(("driver", "trial", "node"))
            told = disturbed(study, data, whom, random.uniform(0.0, total))
            found = differences(calm, study)
            bad += bool(found)
            print(
                f"{number + 1}: killed the {told}: {', '.join(found) + ' differ' if found else 'the same'}", flush=True
            )
    print(f"{asked.kills - bad} of {asked.kills} the same to the last bit")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
