"""Audit a prepared dataset: whether a number that is measured on it can be trusted.

    python -m diagram_ray.audit runs/phantom
    python -m diagram_ray.audit s3://bucket/ours --out audit.html --strict

Looks for pictures that stand under two patients, labels that contradict each other, parts of the dataset that do, and
shortcuts: ways to tell the label without looking at the breast. Leaves audit.json and audit.html in the dataset.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.errors import DataError, DiagramError, UsageError

if TYPE_CHECKING:
    from diagram_ray.auditing.record import Audit
    from diagram_ray.distributed.audit_dataset import Pictures

AUTOMATIC = 2000
"""Images up to which a study audits its dataset by itself, if nobody has."""

app = cli.new_app()

Dataset = Annotated[str, typer.Argument(metavar="DATASET", help="A prepared dataset: a folder or a URI")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE.html", help="Where the page goes. Default: DATASET/audit.html")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with status 1 if a finding is serious")]
Json = Annotated[bool, typer.Option("--json", help="Print audit.json on one line of standard output")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.audit runs/phantom --strict")
def audit(
    dataset: Dataset, out: Out = None, strict: Strict = False, as_json: Json = False, debug: Debug = False
) -> None:
    """Audit a prepared dataset: leaks, contradictions and shortcuts."""
    serious = 0

    def work() -> dict[str, Any]:
        nonlocal serious
        from diagram_ray.data.parquet.layout import read_info

        read_info(dataset)  # a wrong path is reported before anything large is imported
        _check_page(out)
        from diagram_ray.auditing.record import as_dict
        from diagram_ray.distributed.audit_dataset import audit_dataset

        result, pictures = audit_dataset(dataset)
        for finding in result.findings:
            typer.echo(f"{finding.severity}: {finding.sentence} [{finding.code}]")
        if not result.findings:
            typer.echo("nothing found")
        page = _record(dataset, result, pictures, out)
        typer.echo(f"audit: {page}")
        serious = len(result.serious)
        return as_dict(result) | {"page": page}

    cli.run(work, as_json=as_json, debug=debug)
    if strict and serious:
        raise typer.Exit(DiagramError.exit_code)


def audited(uri: str, info: dict[str, Any]) -> dict[str, Any] | None:
    """What is known of the audit of a dataset, whose dataset.json is `info`: fingerprint and findings.

    If nobody has audited it as it is now, and it has at most AUTOMATIC images, it is audited and the result recorded;
    otherwise the answer is an audit of how it was before, or None. A study does not fail for want of an audit.
    """
    from diagram_ray.auditing.record import read_summary, summary

    try:
        recorded = read_summary(uri)
        if recorded and recorded["fingerprint"] == info["fingerprint"]:
            return recorded
        if info["counts"]["images"] > AUTOMATIC:
            return recorded
        from diagram_ray.distributed.audit_dataset import audit_dataset

        result, pictures = audit_dataset(uri)
        _record(uri, result, pictures, None)
        return summary(result)
    except DiagramError as error:
        cli.log.warning("the dataset could not be audited: %s", error)
        return None


def _record(uri: str, result: "Audit", pictures: "Pictures", out: Path | None) -> str | None:
    """Writes audit.json and the page; returns where the page is. A dataset that cannot be written stays without."""
    from diagram_ray.auditing.record import FILE, PAGE, to_json, write_beside
    from diagram_ray.reporting.audit_page import audit_page
    from diagram_ray.storage.atomic import write_atomic

    page = audit_page(result, pictures)
    try:
        if out is not None:
            write_atomic(out, page)
        write_beside(uri, FILE, to_json(result))
        return str(out) if out is not None else write_beside(uri, PAGE, page)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written: {error.strerror}") from None
    except DataError as error:
        cli.log.warning("the audit is not recorded with the dataset: %s", error)
        return str(out) if out is not None else None


def _check_page(out: Path | None) -> None:
    if out is not None and (out.is_dir() or not out.suffix == ".html"):
        raise UsageError(f"--out {out}: expected a file whose name ends in .html")


if __name__ == "__main__":
    app()
