"""Trains one fold of one trial of a study again and says by how much the results differ from the recorded ones.

    python -m diagram_ray.reproduce runs/quickstart-1 --trial 3 --fold 2

On the machine that ran the study, with the same versions, the difference is zero. Ends with status 1 if it is not.
"""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.storage.paths import reached

if TYPE_CHECKING:
    from diagram_ray.training.runs.reproduction import Reproduction

app = cli.new_app()

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A folder or URI that tune has written")]
Trial = Annotated[int, typer.Option("--trial", help="Number of the trial")]
Fold = Annotated[int, typer.Option("--fold", help="Number of the fold, from 0")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one")]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.reproduce runs/quickstart-1 --trial 3 --fold 2")
def reproduce(
    study: Study, trial: Trial, fold: Fold, device: Device = "auto", as_json: Json = False, debug: Debug = False
) -> None:
    """Train one fold of one trial again and compare it with what the study has recorded."""
    same = True

    def work() -> dict[str, Any]:
        nonlocal same
        from diagram_ray.training.runs.reproduction import reproduce

        with cli.progress_bar("epochs", between_lines=5.0) as report:
            result = reproduce(reached(study), trial, fold, device, report)
        same = result.same
        for line in _words(result):
            typer.echo(line)
        return {"trial": trial, "fold": fold, "epochs": result.epochs, "same": same, "largest": result.largest}

    cli.run(work, as_json=as_json, debug=debug)
    raise typer.Exit(0 if same else 1)


def _words(result: "Reproduction") -> list[str]:
    what = f"trial {result.trial}, fold {result.fold}, {result.epochs} epochs trained again"
    if result.same:
        return [f"{what}: {', '.join(result.largest)} are the same to the last bit"]
    lines = [f"{what}: not the same", "largest differences:"]
    lines += [f"  {name:18} {value:.3g}" for name, value in result.largest.items()]
    if result.first:
        lines.append(f"the first: {result.first[1]} after epoch {result.first[0]}")
    lines += [f"{name} was {then}, is {now}" for name, (then, now) in result.other_versions.items()]
    if result.shared_batches:
        lines.append("several workers had trained this fold together: their sums have another order")
    return lines


if __name__ == "__main__":
    app()
