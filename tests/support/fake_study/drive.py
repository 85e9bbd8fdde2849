"""A driver process for tests: runs the fake study in OUT, or resumes it.

python -m tests.support.fake_study.drive OUT [KEY=VALUE ...]
"""

import os
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from rich.console import Console

from diagram_ray import cli
from diagram_ray.config import override
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed import supervision
from diagram_ray.distributed.driver import run_study
from diagram_ray.distributed.session import ray_session
from diagram_ray.distributed.work import CrossValidationFactory
from diagram_ray.search.messages import Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.racing import Cases, make_race
from diagram_ray.search.scheduler import StudyState
from diagram_ray.storage.paths import Place, place_at
from diagram_ray.study.case_scores import CaseScoreReader
from diagram_ray.study.config import read_study
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.study_folder import Plan, read_plan
from diagram_ray.study.tables import write_tables
from diagram_ray.study.trial_files import TrialFiles
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.runs.inputs import StudyInputs
from diagram_ray.training.runs.trial import TrialRun
from diagram_ray.tune.study_plan import with_controls
from tests.support.fake_study import STUDY
from tests.support.fake_study.training import FakeValidation, tiny_data


def run(out: Place, assignments: list[str]) -> dict:
    return run_on(out, assignments, tiny_data(), FakeValidation)


def run_on(out: Place, assignments: list[str], data: TrainingData, make: CrossValidationFactory) -> dict:
    info = {"name": "fake", "fingerprint": data.fingerprint}
    sides = pa.table({"image_id": data.image_ids.tolist(), "laterality": ["L"] * len(data.image_ids)})
    inputs = StudyInputs(data, make_splits(data, 3, 0), info, sides=sides)
    if (out / "study.yaml").exists():
        plan = read_plan(out)
        if "control.nested=true" in assignments:
            plan = with_controls(plan, nested=True)
    else:
        plan = Plan(*read_study(STUDY, assignments), data="nowhere", out=out)
    return run_study(plan, inputs, Console(stderr=True, force_terminal=False), make)


def run_by_hand(out: Path, assignments: list[str], data: TrainingData, make: CrossValidationFactory) -> None:
    """The same study without Ray, one trial after another."""
    study, base = read_study(STUDY, assignments)
    base, splits, ladder = fit_to_data(base, data), make_splits(data, 3, 0), study.make_ladder(base.training.epochs)
    out.mkdir()
    with open_ledger(out) as ledger:
        sampler = Sampler(study.space, study.sampler, study.seed, study.parallel.lookback, study.first)
        rules = Rules(study.trials, 1, study.parallel.lookback, ladder, make_race(study.race))
        cases = Cases.of(data, splits, study.race.resamples, study.seed)
        state = StudyState(rules, sampler, ledger, CaseScoreReader(out, ladder, cases))
        while not state.finished:
            trial = state.next_start()
            config, files = override(base, trial.params, ""), TrialFiles.of(out, trial.number)
            run = TrialRun(trial.number, config, ladder, files, lambda c: make(c, data, splits, "cpu"))
            while (told := run.step()).rung is None or state.measured(trial.number, told.rung, told.measurement):
                pass
            run.close()
        write_tables(out, ledger.trials)


def work(out: Place, assignments: list[str]) -> dict:
    supervision.GRACE = 4.0
    with ray_session(num_cpus=int(os.environ.get("FAKE_CPUS", "2"))):
        result = run(out, assignments)
    if result["interrupted"] == "interrupted":
        raise KeyboardInterrupt
    return result


app = cli.new_app()


@app.command()
def drive(out: str, assignments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    cli.run(lambda: work(place_at(out), assignments or []), as_json=True, debug=False)


if __name__ == "__main__":
    app()
