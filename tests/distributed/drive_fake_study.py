"""A driver process for tests: runs the fake study in OUT on the cluster of RAY_ADDRESS, or resumes it.

python drive_fake_study.py OUT [KEY=VALUE ...]
"""

from pathlib import Path
from typing import Annotated

import fake_training
import typer
from rich.console import Console

from diagram_ray import cli
from diagram_ray.data.dataset import TrainingData
from diagram_ray.data.splits import make_splits
from diagram_ray.distributed.session import ray_session
from diagram_ray.distributed.study_run import Materials, run_study
from diagram_ray.distributed.tuner import MakeValidation
from diagram_ray.search.study import read_study
from diagram_ray.search.study_folder import Plan, read_plan

STUDY = Path(__file__).with_name("fake_study.yaml")


def run(out: Path, assignments: list[str]) -> dict:
    return run_on(out, assignments, fake_training.tiny_data(), fake_training.FakeValidation)


def run_on(out: Path, assignments: list[str], data: TrainingData, make: MakeValidation) -> dict:
    materials = Materials(data, make_splits(data, 3, 0), {"name": "fake", "fingerprint": data.fingerprint})
    if (out / "study.yaml").exists():
        plan = read_plan(out)
    else:
        plan = Plan(*read_study(STUDY, assignments), data="nowhere", out=out)
    return run_study(plan, materials, Console(stderr=True, force_terminal=False), make)


def work(out: Path, assignments: list[str]) -> dict:
    with ray_session():
        result = run(out, assignments)
    if result["interrupted"] == "interrupted":
        raise KeyboardInterrupt
    return result


app = cli.new_app()


@app.command()
def drive(out: Path, assignments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    cli.run(lambda: work(out, assignments or []), as_json=True, debug=False)


if __name__ == "__main__":
    app()
