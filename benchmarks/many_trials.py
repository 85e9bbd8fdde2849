"""What a trial costs the platform when there are many: `python -m benchmarks.many_trials [--trials 10000]`, minutes.

A study whose objective takes no time, through all that a study goes through: warm workers in Ray, the ledger and the
trials' files synced to the disk, the ladder, Optuna's TPE, the page and the metrics. Then, with all training taken out,
time is the platform's: wall and processor time a trial, the driver's memory, how long the sampler takes to propose.
"""

import argparse
import math
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from rich.console import Console

from benchmarks.kills import descendants
from benchmarks.train_step import random_data
from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed import driver, study_session
from diagram_ray.distributed.session import ray_session
from diagram_ray.results import Measurement, Study, Trial
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.study.config import read_study
from diagram_ray.study.study_folder import Plan
from diagram_ray.training.runs.inputs import StudyInputs

PROCESSORS = 2
FOLDS = 2
STUDY = {
    "name": "many",
    "base": {"training.epochs": 2},
    "space": {
        "training.weight_decay": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "training.learning_rate.classifier": {"type": "float", "low": 1e-4, "high": 1e-1, "log": True},
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "training.k": {"type": "int", "low": 1, "high": 8},
    },
    "folds": FOLDS,
    "ladder": {"rungs": [[1, 1], [FOLDS, 2]], "reduction": 3},
    "race": {"rule": "none"},
    "control": {"shuffles": 0},
}


class Instant:
    """A cross-validation that takes no time: its AUC is a smooth function of the configuration, best in the middle."""

    def __init__(self, config: ExperimentConfig, data: TrainingData, splits: Splits, device: str) -> None:
        train = config.training
        places = (
            math.log10(train.weight_decay) + 3,
            math.log10(train.learning_rate.classifier) + 2.5,
            4 * config.model.dropout - 1,
            (train.k - 4) / 4,
        )
        self._height = 0.5 + 0.45 * math.exp(-sum(place**2 for place in places) / 4)
        self._data, self._splits = data, splits
        self._epochs = [0] * FOLDS

    def advance(self, folds: int, epochs: int) -> Iterator[list[dict[str, Any]]]:
        while min(self._epochs[:folds]) < epochs:
            behind = [fold for fold in range(folds) if self._epochs[fold] == min(self._epochs[:folds])]
            for fold in behind:
                self._epochs[fold] += 1
            yield [{"fold": fold, "epoch": self._epochs[fold], "auc": self._auc(fold)} for fold in behind]

    def _auc(self, fold: int) -> float:
        return self._height * (1 - 0.1 ** self._epochs[fold]) + 0.001 * fold

    def measure(self, folds: int) -> Measurement:
        scores = tuple(self._auc(fold) for fold in range(folds))
        return Measurement(folds, max(self._epochs), scores, scores, 0.0)

    def scores(self, folds: int) -> np.ndarray:
        rows = [self._splits.fold(self._data, fold).test_images for fold in range(folds)]
        return self._height * self._data.labels[np.concatenate(rows)].astype(np.float64)

    def predictions(self) -> pa.Table:
        data, folds = self._data, [self._splits.patients[patient] for patient in self._data.patient_ids.tolist()]
        return pa.table(
            {
                "fold": pa.array(folds, pa.int32()),
                "image_id": data.image_ids,
                "patient_id": data.patient_ids,
                "label": data.labels,
                "score": self._height * data.labels,
            }
        )

    identity: Mapping[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": list(self._epochs)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._epochs = list(state["epochs"])

    def export(self, folder: Path) -> None:
        write_atomic(folder / "config.yaml", "instant")


class Watched(Sampler):
    """The sampler, with a clock; every `every` trials it tells how things stand."""

    every = 1000

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._spent: list[float] = []
        self._began, self._busy = time.perf_counter(), busy()

    def ask(self, number: int, trials: Mapping[int, Trial]) -> dict[str, Any]:
        if number and number % self.every == 0:
            self._say(number)
        began = time.thread_time()
        found = super().ask(number, trials)
        self._spent.append(time.thread_time() - began)
        return found

    def _say(self, number: int) -> None:
        now, work = time.perf_counter(), busy()
        wall = 1000 * (now - self._began) / self.every
        in_driver, others = (1000 * (new - old) / self.every for new, old in zip(work, self._busy, strict=True))
        suggest = 1000 * float(np.median(self._spent[-200:]))
        print(f"{number:6} {wall:9.1f} {in_driver:9.1f} {others:9.1f} {suggest:9.2f} {resident():9.0f}", flush=True)
        self._began, self._busy = now, work


def resident() -> float:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def busy() -> tuple[float, float]:
    """Processor seconds of this process, and of all that it has started."""
    ticks = 0
    for pid in descendants(os.getpid()):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return time.process_time(), ticks / os.sysconf("SC_CLK_TCK")


def run(folder: Path, trials: int) -> None:
    file, data = folder / "study.yaml", random_data((32, 24), 12, 24, 16)
    file.write_text(yaml.safe_dump(STUDY | {"trials": trials}))
    plan = Plan(*read_study(file), data="nowhere", out=folder / "study")
    inputs = StudyInputs(data, make_splits(data, FOLDS, 0), {"name": "random", "fingerprint": data.fingerprint})
    print(f"{'trial':>6} {'wall':>9} {'driver':>9} {'others':>9} {'suggest':>9} {'MiB':>9}   ms a trial")
    began, work = time.perf_counter(), busy()
    driver.run_study(plan, inputs, Console(stderr=True, quiet=True), Instant)
    wall = time.perf_counter() - began
    in_driver, others = (new - old for new, old in zip(busy(), work, strict=True))
    table = Study.load(folder / "study").trials
    assert len(table) == trials
    assert set(table["state"]) <= {"COMPLETE", "PRUNED"}
    print(
        f"{trials} trials in {wall:.0f} s: {1000 * wall / trials:.1f} ms a trial; processor time "
        f"{1000 * in_driver / trials:.1f} ms of the driver and {1000 * others / trials:.1f} ms of Ray and its workers; "
        f"{resident():.0f} MiB at the end"
    )
    print(f"{dict(table['state'].value_counts())}, best AUC {table['auc_mean'].max():.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=1000, help="trials after which it is told how things stand")
    asked = parser.parse_args()
    Watched.every = asked.every
    study_session.Sampler = Watched
    with tempfile.TemporaryDirectory() as folder, ray_session(num_cpus=PROCESSORS):
        run(Path(folder), asked.trials)


if __name__ == "__main__":
    main()
