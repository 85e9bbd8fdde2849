"""Search for the best configuration by cross-validation: a study file, a prepared dataset, a study folder.

    python -m diagram_ray.tune                       # made-up mammograms, a small search, a report: a few minutes
    python -m diagram_ray.tune search_spaces/mias_density.yaml --data runs/mias --out runs/density
    python -m diagram_ray.tune --resume runs/density --trials 40

Leaves study.yaml, splits.json, ledger.jsonl, trials/curves/predictions.parquet, control.json, best/ and report.html.
Ctrl-C ends it cleanly; what is done is kept, and --resume goes on with it.
"""

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.config import ExperimentConfig
from diagram_ray.errors import UsageError
from diagram_ray.search.study import read_study, seconds
from diagram_ray.search.study_folder import Plan, check_free, read_plan

QUICKSTART = Path("search_spaces") / "quickstart.yaml"
PHANTOM = Path("runs") / "phantom"
PARTS_OF_A_JOB = {"runtime_resources", "working_dir_files"}
"""Folders above the one in which Ray runs a job that was submitted with a working folder."""

app = cli.new_app()

StudyFile = Annotated[
    Path | None, typer.Argument(metavar="[STUDY.yaml]", help="Default: search_spaces/quickstart.yaml")
]
Data = Annotated[str | None, typer.Option("--data", help="Prepared dataset: a folder or a URI")]
Out = Annotated[str | None, typer.Option("--out", help="Folder of the study. Default: runs/<name>-<n>")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key of the study or model")]
Trials = Annotated[int | None, typer.Option("--trials", min=1, help="Number of trials")]
Budget = Annotated[str | None, typer.Option("--time-budget", help="For example 2h or 90m")]
InitFrom = Annotated[
    str | None,
    typer.Option("--init-from", metavar="STUDY|MODEL", help="Trials start with F and E of this study, model or file"),
]
Resume = Annotated[Path | None, typer.Option("--resume", help="Goes on with the study in this folder")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Prints the plan and what it can cost; starts nothing")]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
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
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Search for the best configuration by cross-validation.

    Without arguments: makes a dataset of phantoms in runs/phantom, searches as search_spaces/quickstart.yaml says on
    this machine, and writes a report. Ctrl-C ends a study cleanly; --resume goes on with it.
    """

    def work() -> dict[str, Any]:
        if resume is not None:
            _refuse({"STUDY.yaml": study, "--out": out, "--set": set_, "--init-from": init_from})
            plan = _resumed(resume, data, trials, time_budget)
        else:
            plan = _new_plan(study, data, out, [*(set_ or []), *_assignments(trials, time_budget, init_from)])
        if dry_run:
            return _show(plan)
        return _run(plan, make_phantom=resume is None and study is None and data is None)

    cli.run(work, as_json=as_json, debug=debug)


def _new_plan(study: Path | None, data: str | None, out: str | None, assignments: list[str]) -> Plan:
    config, base = read_study(study or _quickstart(), assignments, _fine_tuning)
    if config.init_from is not None:
        config = config.model_copy(update={"init_from": _absolute(config.init_from)})
    if study is not None and data is None:
        raise UsageError(f"{study}: which dataset? give --data DATASET, as python -m diagram_ray.prepare has made it")
    _check_folder(out)
    return Plan(config, base, _absolute(data or str(PHANTOM)), Path(out) if out else None)


def _check_folder(out: str | None) -> None:
    if out is not None and "://" in out:
        raise UsageError(f"--out {out}: a study's folder must be on a local or shared disk for now")
    if set(Path.cwd().parts) >= PARTS_OF_A_JOB and not Path(out or "").is_absolute():
        raise UsageError(
            f"--out {out or '(not given)'}: in a Ray job the study's folder must be an absolute path that all nodes "
            "share, for example /studies/name: the job's own folder is removed with it"
        )
    if out is not None:
        check_free(Path(out))


def _resumed(folder: Path, data: str | None, trials: int | None, time_budget: str | None) -> Plan:
    plan = read_plan(folder)
    changes: dict[str, Any] = {}
    if trials is not None:
        changes["trials"] = trials
    if time_budget is not None:
        seconds(time_budget, "--time-budget")
        changes["time_budget"] = time_budget
    study = plan.study.model_copy(update=changes)
    return replace(plan, study=study, data=_absolute(data) if data else plan.data)


def _refuse(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value:
            raise UsageError(
                f"{name} cannot be given with --resume: the study goes on as it was begun; "
                "--trials, --time-budget and --data may be given"
            )


def _fine_tuning(source: str) -> ExperimentConfig:
    from diagram_ray.training.transfer import starting_config

    return starting_config(source)


def _assignments(trials: int | None, time_budget: str | None, init_from: str | None) -> list[str]:
    given = {"trials": trials, "time_budget": time_budget, "init_from": init_from}
    return [f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None]


def _absolute(data: str) -> str:
    """study.yaml must still name the dataset when the study is resumed from another folder."""
    return data if "://" in data else str(Path(data).resolve())


def _quickstart() -> Path:
    for place in (Path(), Path(__file__).resolve().parent.parent):
        if (place / QUICKSTART).is_file():
            return place / QUICKSTART
    raise UsageError(f"{QUICKSTART}: not found here or beside the package; name a study file")


def _show(plan: Plan) -> dict[str, Any]:
    """The plan as text, and what it can cost."""
    study = plan.study
    ladder = study.make_ladder(plan.base.training.epochs)
    at_once = study.parallel.trials or max(1, (os.cpu_count() or 1) // study.scaling.workers)
    lookback = study.parallel.lookback or 2 * at_once
    result = {
        "name": study.name,
        "data": plan.data,
        "trials": study.trials,
        "folds": study.folds,
        "rungs": [[rung.folds, rung.epochs] for rung in ladder.rungs],
        "largest_fold_epochs": ladder.exhaustive(study.trials),
        "expected_fold_epochs": ladder.expected(study.trials, unpruned=lookback),
        "trials_at_once": at_once,
        "workers_per_trial": study.scaling.workers,
        "lookback": lookback,
        "searched": list(study.space),
    }
    for key, value in result.items():
        typer.echo(f"{key.replace('_', ' '):22} {value}")
    return result


def _run(plan: Plan, make_phantom: bool) -> dict[str, Any]:
    if not make_phantom:
        from diagram_ray.data.shards import read_info

        read_info(plan.data)  # a wrong path is told before torch and Ray are imported
    from diagram_ray.distributed.session import ray_session
    from diagram_ray.distributed.study_run import INTERRUPTED, load, run_study

    with ExitStack() as stack:
        if make_phantom:
            stack.enter_context(ray_session())  # one Ray for the dataset and the search
            _make_phantom()
        materials = load(plan)
        if not plan.resume:
            materials = replace(materials, info=materials.info | {"audit": _audit(plan.data, materials.info)})
        stack.enter_context(ray_session())
        result = run_study(plan, materials, cli.stderr)
    _summarise(result)
    if result["interrupted"] == INTERRUPTED:
        cli.log.info(
            "stopped, and what is done is kept; go on: python -m diagram_ray.tune --resume %s", result["study"]
        )
        raise KeyboardInterrupt
    from diagram_ray.report import write_report

    report = write_report([Path(result["study"])])
    typer.echo(f"report: {report}")
    return result | {"report": str(report)}


def _summarise(result: dict[str, Any]) -> None:
    typer.echo(f"study: {result['study']}")
    typer.echo(f"trials: {', '.join(f'{count} {state}' for state, count in result['trials'].items())}")
    if best := result["best"]:
        params = ", ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in best["params"].items()
        )
        typer.echo(f"best: trial {best['number']}, AUC {best['auc_mean']:.3f} ± {best['auc_sd']:.3f} ({params})")
    if result["control_auc"] is not None:
        typer.echo(f"no-signal control (labels shuffled by patient): AUC {result['control_auc']:.3f}, expected 0.5")


def _audit(data: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """The audit that the study records and its report tells; what is wrong with the dataset is said at once."""
    from diagram_ray.audit import audited

    audit = audited(data, info)
    if audit is None or audit["fingerprint"] != info["fingerprint"]:
        cli.log.warning("the dataset has not been audited: python -m diagram_ray.audit %s", data)
        return audit
    told = [finding for finding in audit["findings"] if finding["severity"] != "info"]
    for finding in told:
        cli.log.warning("audit: %s: %s", finding["severity"], finding["sentence"])
    if not told:
        cli.log.info("audit: nothing that would make a number measured on %s untrustworthy", data)
    return audit


def _make_phantom() -> None:
    """The built-in dataset, unless it is there already."""
    from diagram_ray.data.shards import read_info
    from diagram_ray.prepare import PHANTOM_PATIENTS, prepare_phantom

    if (PHANTOM / "dataset.json").is_file():
        info = read_info(str(PHANTOM))
        if info["source_format"] != "phantom" or info["counts"]["patients"] != PHANTOM_PATIENTS:
            raise UsageError(f"{PHANTOM}: holds another dataset; remove it, or say --data {PHANTOM} if it is meant")
        cli.log.info("%s: the phantom dataset is there already", PHANTOM)
        return
    prepare_phantom(str(PHANTOM), PHANTOM.with_name("phantom-files"), PHANTOM_PATIENTS)


if __name__ == "__main__":
    app()
