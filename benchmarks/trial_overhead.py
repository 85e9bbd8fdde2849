"""What a trial costs beside its training: `python -m benchmarks.trial_overhead`, two to four minutes on two processors.

Trials of one short epoch, two at a time, in one local Ray:

ours        a study, whose trials follow each other in warm processes
documented  Ray Tune with a TorchTrainer inside each trial, as Ray's documentation shows it

Overhead is the time of all processors from the first trial's request to the last table, less the seconds that were
trained and scored, for each trial. Starting Ray itself is in neither.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ray import train, tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback
from rich.console import Console

from benchmarks.train_step import random_data
from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.driver import run_study
from diagram_ray.distributed.session import ray_session
from diagram_ray.results import Study
from diagram_ray.study.config import read_study
from diagram_ray.study.study_folder import Plan
from diagram_ray.training.runs.inputs import StudyInputs
from diagram_ray.training.trainer import Trainer

PROCESSORS = 2
SMALL = {"model.width": 4, "model.generator_width": 4, "model.latent_size": 4, "training.epochs": 1}
STUDY = {
    "name": "overhead",
    "base": SMALL,
    "space": {"training.weight_decay": {"type": "float", "low": 0.0, "high": 0.1}},
    "folds": 2,
    "ladder": {"rungs": [[2, 1]], "reduction": 3},
    "race": {"rule": "none"},
    "control": {"shuffles": 0},
}


def ours(folder: Path, data: TrainingData, trials: int) -> tuple[float, float]:
    """(seconds, of which trained) of a study."""
    file = folder / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | {"trials": trials}))
    plan = Plan(*read_study(file), data="nowhere", out=folder / "study")
    inputs = StudyInputs(data, make_splits(data, 2, 0), {"name": "random", "fingerprint": data.fingerprint})
    started = time.perf_counter()
    run_study(plan, inputs, Console(stderr=True, quiet=True))
    seconds = time.perf_counter() - started
    trials_of = Study.load(folder / "study").trials
    assert (trials_of["state"] == "COMPLETE").all() and len(trials_of) == trials  # noqa: PT018
    return seconds, float(trials_of["seconds"].sum())


def documented(folder: Path, data: TrainingData, trials: int) -> tuple[float, float]:
    """The same of trials that start a trainer each."""

    def train_fn(config: dict[str, Any]) -> None:
        started = time.perf_counter()
        everything = np.arange(len(data.images))
        trainer = Trainer(override(ExperimentConfig(), SMALL, "trial"), data, everything, np.arange(len(data.patches)))
        trainer.advance()
        trainer.score(everything)
        train.report({"trained": time.perf_counter() - started})

    def trial(config: dict[str, Any]) -> None:
        name = f"trial-{tune.get_context().get_trial_id()}"
        TorchTrainer(
            train_fn,
            train_loop_config=config,
            scaling_config=train.ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.9}),
            run_config=train.RunConfig(name=name, storage_path=str(folder), callbacks=[TuneReportCallback()]),
        ).fit()

    tuner = tune.Tuner(
        tune.with_resources(trial, {"CPU": 0.1}),
        param_space={"weight_decay": tune.uniform(0.0, 0.1)},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=PROCESSORS),
        run_config=tune.RunConfig(name="tune", storage_path=str(folder), verbose=0),
    )
    started = time.perf_counter()
    results = tuner.fit()
    seconds = time.perf_counter() - started
    return seconds, sum(result.metrics["trained"] for result in results)


def main() -> None:
    """Measures both in one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--documented", type=int, default=6, help="trials of the documented way, which takes long")
    asked = parser.parse_args()
    data = random_data((64, 48), 48, 96, 32)
    with tempfile.TemporaryDirectory() as folder, ray_session(num_cpus=PROCESSORS):
        for name, measure, trials in (("ours", ours, asked.trials), ("documented", documented, asked.documented)):
            place = Path(folder) / name
            place.mkdir()
            seconds, trained = measure(place, data, trials)
            overhead = (PROCESSORS * seconds - trained) / trials
            print(
                f"{name:11} {trials} trials in {seconds:.1f} s: {overhead:.2f} processor seconds a trial beside "
                f"{trained / trials:.2f} s of training; {seconds / trials:.2f} s of waiting a trial"
            )


if __name__ == "__main__":
    main()
