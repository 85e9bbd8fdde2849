"""Trains one model on all images of a prepared dataset, to be used by predict.

    python -m diagram_ray.train --data runs/phantom --from runs/my_study --out runs/model
    python -m diagram_ray.train --data runs/phantom --set training.epochs=20 --set model.width=16 --out runs/model

How good the model is cannot be measured on the images it was trained on: the cross-validation of `tune` tells that.
Leaves config.yaml and model.safetensors.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diagram_ray import cli
from diagram_ray.config import ExperimentConfig, override, parse_assignment

if TYPE_CHECKING:
    from diagram_ray.training.loop import Trainer

app = cli.new_app()

Data = Annotated[str, typer.Option("--data", help="Prepared dataset: a folder or a URI")]
Out = Annotated[Path, typer.Option("--out", help="Folder to write; must be new or empty")]
From = Annotated[
    Path | None, typer.Option("--from", metavar="STUDY", help="Takes the best configuration of a study, or a model's")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key of the configuration")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one")]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.train --data runs/phantom --from runs/my_study --out runs/model")
def train(
    data: Data,
    out: Out,
    from_: From = None,
    set_: Set = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the best configuration of a study, or the one given, on all images of a prepared dataset."""

    def work() -> dict[str, Any]:
        cli.check_free(out)
        assignments = dict(parse_assignment(text) for text in set_ or [])
        override(ExperimentConfig(), assignments, "--set")  # a wrong key is answered before anything is loaded
        return _train(data, _experiment(from_, assignments), out, device)

    cli.run(work, as_json=as_json, debug=debug)


def _experiment(study: Path | None, assignments: dict[str, Any]) -> ExperimentConfig:
    if study is None:
        return override(ExperimentConfig(), assignments, "--set")
    from diagram_ray.training.model_store import read_card

    return override(read_card(study).experiment, assignments, "--set")


def _train(dataset: str, experiment: ExperimentConfig, out: Path, device: str) -> dict[str, Any]:
    import numpy as np

    from diagram_ray.data.shards import read_training_data
    from diagram_ray.training.device import choose_device
    from diagram_ray.training.loop import Trainer
    from diagram_ray.training.model_store import card_for, write_models

    chosen = choose_device(device)
    data = read_training_data(dataset, experiment.data)
    every_image, every_patch = np.arange(len(data.images)), np.arange(len(data.patches))
    trainer = Trainer(experiment, data, every_image, every_patch, device=chosen)
    started = time.perf_counter()
    last = _advance(trainer, trainer.config.training.epochs)
    write_models(out, card_for(trainer.config, data), {"model": trainer.model})
    cli.log.info("%d images of %s, %d epochs: %s", len(data.images), dataset, trainer.epoch, out)
    return {
        "out": str(out),
        "images": len(data.images),
        "patches": len(data.patches),
        "classes": list(data.classes),
        "epochs": trainer.epoch,
        "seconds": time.perf_counter() - started,
        **{name: value for name, value in last.items() if name.startswith("loss_")},
    }


def _advance(trainer: "Trainer", epochs: int) -> dict[str, Any]:
    """Trains the epochs, shown as a bar on a terminal and as a line an epoch elsewhere. The last curve row."""
    row: dict[str, Any] = {}
    columns = (
        TextColumn("epoch"),
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=cli.stderr, disable=not cli.stderr.is_terminal) as progress:
        task = progress.add_task("", total=epochs)
        for _ in range(epochs):
            row = trainer.advance()
            losses = ", ".join(
                f"{key[5:]} {row[key]:.3f}" for key in row if key.startswith("loss_") and row[key] is not None
            )
            progress.update(task, advance=1, description=f"losses: {losses}")
            if progress.disable:
                cli.log.info("epoch %d of %d: losses: %s; %.1f s", row["epoch"], epochs, losses, row["seconds"])
    return row


if __name__ == "__main__":
    app()
