"""A study with its surroundings: the phantom, the audit, Ray, the report."""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import typer

from diagram_ray import cli
from diagram_ray.errors import DiagramError, UsageError
from diagram_ray.monitoring.mlflow import check_mlflow, write_mlflow
from diagram_ray.results import Study
from diagram_ray.storage.paths import place_at
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.study_folder import Plan, read_plan
from diagram_ray.tune.study_plan import PHANTOM


def run(plan: Plan, make_phantom: bool) -> dict[str, Any]:
    """Runs or resumes a study, and writes its report; returns what the command prints. Raises DiagramError."""
    check_mlflow(plan.study.mlflow)
    if not make_phantom:
        from diagram_ray.data.parquet.layout import read_info

        read_info(plan.data)  # a wrong path is reported before torch and Ray are imported
    from diagram_ray.distributed.driver import run_study
    from diagram_ray.distributed.session import ray_session
    from diagram_ray.distributed.supervision import INTERRUPTED
    from diagram_ray.training.runs.inputs import load

    with ExitStack() as stack:
        if make_phantom:
            stack.enter_context(ray_session())  # one Ray for the dataset and the search
            _make_phantom()
        inputs = load(plan)
        if not plan.resume:
            inputs = replace(inputs, info=inputs.info | {"audit": _audit(plan.data, inputs.info)})
        stack.enter_context(ray_session())
        result = run_study(plan, inputs, cli.stderr)
    _log_runs(result["study"])
    _summarise(result)
    if result["interrupted"] == INTERRUPTED:
        cli.log.info(
            "stopped, and what is done is kept; go on: python -m diagram_ray.tune --resume %s", result["study"]
        )
        raise KeyboardInterrupt
    from diagram_ray.reporting.page import make_report

    report, (figures,) = make_report([result["study"]])
    typer.echo(f"verdict: {figures['verdict']}")
    typer.echo(f"report: {report}")
    return result | {
        "verdict": figures["verdict"],
        "baselines": figures["baselines"],
        "reference": figures["reference"],
        "report": str(report),
    }


def _log_runs(study: str) -> None:
    """Logs the study to MLflow where its file asks for it. That MLflow does not answer costs no result."""
    folder = place_at(study)
    config = read_plan(folder).study.mlflow
    if config.tracking_uri is None:
        return
    try:
        with open_ledger(folder) as ledger:  # nobody else may log it meanwhile
            write_mlflow(config, Study(folder).document, ledger.trials)
    except DiagramError as error:
        cli.log.warning("%s; the study itself is whole, and tune --resume %s logs what is missing", error, study)


def _summarise(result: dict[str, Any]) -> None:
    typer.echo(f"study: {result['study']}")
    typer.echo(f"trials: {', '.join(f'{count} {state}' for state, count in result['trials'].items())}")
    if best := result["best"]:
        params = ", ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in best["params"].items()
        )
        fitted = "" if best["training_auc"] is None else f", training AUC {best['training_auc']:.3f}"
        score = f"AUC {best['auc_mean']:.3f} ± {best['auc_sd']:.3f}{fitted}"
        typer.echo(f"best: trial {best['number']}, {score} ({params})")
        if best["underfits"]:
            typer.echo(f"warning: trial {best['number']} {best['underfits']}")
    if lost := result["lost"]["workers"]:
        again = result["lost"]["fold_epochs"]
        typer.echo(f"{lost} workers were lost on the way; {again} fold-epochs had to be trained once more")
    for step, reason in result["failed_steps"].items():
        typer.echo(f"{step} failed: {reason}")
    if result["control_auc"] is not None:
        typer.echo(f"no-signal control (labels shuffled by patient): AUC {result['control_auc']:.3f}, expected 0.5")
    if best and result["leaky_auc"] is not None:
        by_image, price = result["leaky_auc"], result["leaky_auc"] - best["auc_mean"]
        typer.echo(
            f"price of leakage: AUC {by_image:.3f} with folds assigned by image, {price:+.3f} against by patient"
        )
    if best and result["repeated_auc"] is not None:
        typer.echo(f"further repeats of the winner: mean AUC {result['repeated_auc']:.3f} on folds assigned anew")
    if best and result["nested_auc"] is not None:
        typer.echo(f"nested cross-validation: what such a search finds has AUC {result['nested_auc']:.3f}")


def _audit(data: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """The audit that the study records and its report shows; what is wrong with the dataset is logged at once."""
    from diagram_ray.audit import audited

    audit = audited(data, info)
    if audit is None or audit["fingerprint"] != info["fingerprint"]:
        cli.log.warning("the dataset has not been audited: python -m diagram_ray.audit %s", data)
        return audit
    findings = [finding for finding in audit["findings"] if finding["severity"] != "info"]
    for finding in findings:
        cli.log.warning("audit: %s: %s", finding["severity"], finding["sentence"])
    if not findings:
        cli.log.info("audit: nothing that would make a number measured on %s untrustworthy", data)
    return audit


def _make_phantom() -> None:
    """Prepares the built-in dataset, unless it is there already."""
    from diagram_ray.data.parquet.layout import read_info
    from diagram_ray.prepare import PHANTOM_PATIENTS, prepare_phantom

    if (PHANTOM / "dataset.json").is_file():
        info = read_info(str(PHANTOM))
        if info["source_format"] != "phantom" or info["counts"]["patients"] != PHANTOM_PATIENTS:
            raise UsageError(f"{PHANTOM}: holds another dataset; remove it, or say --data {PHANTOM} if it is meant")
        cli.log.info("%s: the phantom dataset is there already", PHANTOM)
        return
    prepare_phantom(str(PHANTOM), PHANTOM.with_name("phantom-files"), PHANTOM_PATIENTS)
