"""The report of one or several studies: one HTML file that needs nothing else, to read, print or send.

python -m diagram_ray.report runs/quickstart-1
python -m diagram_ray.report runs/with_gan runs/without_gan --out comparison.html
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.storage.paths import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

app = cli.new_app()

Studies = Annotated[
    list[str], typer.Argument(metavar="STUDY [STUDY ...]", help="Folders or URIs that tune has written")
]
Out = Annotated[str | None, typer.Option("--out", help="HTML file to write. Default: STUDY/report.html")]
Json = Annotated[bool, typer.Option("--json", help="Prints the figures as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


def write_report(study_paths: "Sequence[str | Place]", out: str | Place | None = None) -> Place:
    """Writes the report of one or several studies; returns where. Raises DataError, or UsageError for `out`."""
    from diagram_ray.reporting.page import write_report

    return write_report(study_paths, out)


@app.command(epilog="Example: python -m diagram_ray.report runs/quickstart-1")
def report(studies: Studies, out: Out = None, as_json: Json = False, debug: Debug = False) -> None:
    """Write the report of a study, or of several side by side.

    Of several studies, it is written into the folder that holds them all, unless --out says otherwise.
    """

    def work() -> dict[str, Any]:
        from diagram_ray.reporting.page import make_report

        path, figures = make_report(studies, out)
        for study in figures:
            typer.echo(f"{study['name']}: {study['verdict']}")
        typer.echo(f"report: {path}")
        return {"report": str(path), "studies": figures}

    cli.run(work, as_json=as_json, debug=debug)


if __name__ == "__main__":
    app()
