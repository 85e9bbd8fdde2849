"""Search for the best configuration by cross-validation: a study file, a prepared dataset, a study folder.

    python -m diagram_ray.tune                       # made-up mammograms, a small search, a report: a few minutes
    python -m diagram_ray.tune search_spaces/mias_density.yaml --data runs/mias --out runs/density
    python -m diagram_ray.tune --resume runs/density --trials 40
    python -m diagram_ray.tune --resume runs/density --leakage-price
    python -m diagram_ray.tune --resume runs/density --repeats 5 --nested --dry-run
    python -m diagram_ray.tune search_spaces/ddsm_k_lr.yaml --data s3://bucket/ddsm --out s3://bucket/k
    python -m diagram_ray.tune --replay runs/density --set ladder.reduction=2
    python -m diagram_ray.tune --replay runs/density --simulate workers=1000,trials=5000,startup=120,cost=1.2
    python -m diagram_ray.tune search_spaces/paper.yaml --data ddsm=runs/ddsm --data inbreast=runs/inbreast

Leaves study.yaml, splits.json, ledger.jsonl, trials/curves/predictions.parquet, control.json, best/ and report.html;
repeats.json and nested.json where --repeats and --nested ask for them.
Ctrl-C ends it cleanly; what is done is kept, and --resume goes on with it.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.errors import UsageError
from diagram_ray.storage.paths import Place, reached
from diagram_ray.study.pipeline import is_staged
from diagram_ray.tune.study_plan import BUDGET, assignments_of, new_plan, resumed_plan, show, with_controls
from diagram_ray.tune.surroundings import run

app = cli.new_app()

StudyFile = Annotated[
    Path | None, typer.Argument(metavar="[STUDY.yaml]", help="Default: search_spaces/quickstart.yaml")
]
Data = Annotated[
    list[str] | None, typer.Option("--data", help="Prepared dataset: a folder or a URI. Of stages: NAME=DATASET")
]
Out = Annotated[str | None, typer.Option("--out", help="Folder or URI of the study. Default: runs/<name>-<n>")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key of the study or model")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Number of trials")]
Budget = Annotated[str | None, typer.Option("--time-budget", help="For example 2h or 90m")]
InitFrom = Annotated[
    str | None,
    typer.Option("--init-from", metavar="STUDY|MODEL", help="Trials start with F and E of this study, model or file"),
]
Resume = Annotated[
    str | None,
    typer.Option("--resume", metavar="STUDY", help="Goes on with the study or the stages in this folder or URI"),
]
Replay = Annotated[
    str | None,
    typer.Option("--replay", metavar="STUDY", help="What other ladders and races would have cost in this study"),
]
Simulate = Annotated[
    str | None,
    typer.Option(
        "--simulate",
        metavar="KEY=VALUE,...",
        help="With --replay, which may be a recording as well: time and cost on a cluster of so many workers, with "
        "trials, startup and seconds (of an epoch of one fold), preemptions and cost (of a worker in an hour)",
    ),
]
Leakage = Annotated[
    bool,
    typer.Option("--leakage-price", help="Trains the winner with folds assigned by image, too: what it adds"),
]
Repeats = Annotated[
    int | None, typer.Option("--repeats", min=1, help="Cross-validates the winner so often, on folds assigned anew")
]
Nested = Annotated[
    bool,
    typer.Option("--nested", help="Makes the search again without each fold, and measures it there: see --dry-run"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Prints the plan and what it can cost; starts nothing")]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
LogJson = Annotated[bool, typer.Option("--log-json", help="The log as JSON, a line for every event")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.tune search_spaces/mias_density.yaml --data runs/mias --trials 8")
def tune(
    study: StudyFile = None,
    data: Data = None,
    out: Out = None,
    set_: Set = None,
    trials: Trials = None,
    time_budget: Budget = None,
    init_from: InitFrom = None,
    resume: Resume = None,
    replay: Replay = None,
    simulate: Simulate = None,
    leakage_price: Leakage = False,
    repeats: Repeats = None,
    nested: Nested = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Search for the best configuration by cross-validation.

    Without arguments: makes a dataset of phantoms in runs/phantom, searches as search_spaces/quickstart.yaml says on
    this machine, and writes a report. Ctrl-C ends a study cleanly; --resume goes on with it.
    """

    def work() -> dict[str, Any]:
        options = {"trials": trials, "time_budget": time_budget, "init_from": init_from, "repeats": repeats}
        controls = {"control.leakage": leakage_price, "control.nested": nested}
        changes = [*(set_ or []), *assignments_of(options | controls)]
        if replay is not None:
            from diagram_ray.replay.cost_tables import show_alternatives, show_forecasts

            study_of = reached(replay)
            return (
                show_forecasts(study_of, simulate, set_ or []) if simulate else show_alternatives(study_of, set_ or [])
            )
        if simulate is not None:
            raise UsageError("--simulate needs --replay: a study, or a recording of benchmarks/record.py")
        if resume is not None:
            fixed = [text for text in set_ or [] if not text.startswith(BUDGET)]
            _refuse({"STUDY.yaml": study, "--out": out, "--set": fixed, "--init-from": init_from})
        begun = reached(resume) if resume is not None else None
        if is_staged(begun or study):
            return _stages(begun, study, data or [], out, changes, dry_run)
        if begun is not None:
            plan = resumed_plan(begun, _only(data), trials, time_budget, repeats, set_ or [])
        else:
            plan = new_plan(study, _only(data), out, changes)
        plan = with_controls(plan, leakage=leakage_price, nested=nested)
        if dry_run:
            return show(plan)
        return run(plan, make_phantom=resume is None and study is None and data is None)

    cli.run(work, as_json=as_json, debug=debug, log_json=log_json)


def _stages(
    resume: Place | None, path: Path | None, data: list[str], out: str | None, changes: list[str], dry_run: bool
) -> dict[str, Any]:
    from diagram_ray.tune.stages import new_stages, resumed_stages, run_stages, show_stages

    if resume is None:
        config, folder = new_stages(path or Path(), data, out, changes)
        return show_stages(config) if dry_run else run_stages(config, folder)
    _refuse({"--data": data, "--trials, --time-budget and what else changes the plan": changes})
    return run_stages(*resumed_stages(resume))


def _only(data: list[str] | None) -> str | None:
    if data and len(data) > 1:
        raise UsageError(f"--data {data[1]}: a study has one dataset; a file of stages may have several")
    return data[0] if data else None


def _refuse(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value:
            raise UsageError(
                f"{name} cannot be given with --resume: the study goes on as it was begun; "
                "--trials, --time-budget, --repeats, --data and --set budget.… may be given"
            )
