"""Examines a study's folder: what is missing, left over, twice there, or says something else than the ledger.

    python -m diagram_ray.doctor runs/quickstart-1
    python -m diagram_ray.doctor runs/quickstart-1 --fix

Ends with status 1 while something is wrong. --fix removes what was left over and makes the tables anew; what only the
folder knows it never touches. A study that a driver is at work on is not examined.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.storage.paths import Place, reached

if TYPE_CHECKING:
    from diagram_ray.doctor.differences import Finding

app = cli.new_app()

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A folder or URI that tune has written")]
Fix = Annotated[bool, typer.Option("--fix", help="Puts right what can be put right from what is there")]
Json = Annotated[bool, typer.Option("--json", help="Prints the findings as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.doctor runs/quickstart-1")
def doctor(study: Study, fix: Fix = False, as_json: Json = False, debug: Debug = False) -> None:
    """Look for what is wrong in a study's folder, and put it right where that is possible."""
    result: dict[str, Any] = {}

    def work() -> dict[str, Any]:
        result.update(_examine(reached(study), fix))
        return result

    cli.run(work, as_json=as_json, debug=debug)
    raise typer.Exit(1 if result["open"] else 0)


def _examine(folder: Place, fix: bool) -> dict[str, Any]:
    from diagram_ray.doctor.study_checks import examine
    from diagram_ray.study.ledger import open_ledger, torn
    from diagram_ray.study.study_folder import read_plan

    plan = read_plan(folder)
    ladder = plan.study.make_ladder(plan.base.training.epochs)
    cut = torn(folder)
    with open_ledger(folder) as ledger:  # nobody else may write meanwhile
        if cut:
            cli.log.info("the last %d bytes of the ledger were a write that was cut off: they are removed", cut)
        findings = examine(folder, ledger.trials, plan.study, ladder)
        if fix:
            _repair(findings)
        states = [trial.state.value for trial in ledger.trials.values()]
    _tell(findings, fix)
    mended = [fix and finding.repair is not None for finding in findings]
    typer.echo(f"{folder}: {len(states)} trials, {len(findings)} findings, {sum(mended)} put right")
    described = [
        {"where": finding.where, "what": finding.what, "mended": done}
        for finding, done in zip(findings, mended, strict=True)
    ]
    return {"study": str(folder), "trials": len(states), "findings": described, "open": len(findings) - sum(mended)}


def _repair(findings: "list[Finding]") -> None:
    """Puts right what can be; findings may share what does it."""
    for repair in dict.fromkeys(finding.repair for finding in findings if finding.repair is not None):
        repair()


def _tell(findings: "list[Finding]", fix: bool) -> None:
    for finding in findings:
        if finding.repair is not None:
            fate = "put right: " if fix else "--fix puts it right: "
        else:
            fate = "cannot be put right: " if fix else ""
        typer.echo(f"{finding.where}: {fate}{finding.what}")
