"""Trains one model on a prepared dataset, to be used by predict: on all images, or on the training part of one fold.

    python -m diagram_ray.train --data runs/phantom --from runs/my_study --out runs/model
    python -m diagram_ray.train --data runs/phantom --set training.epochs=20 --set model.width=16 --out runs/model
    python -m diagram_ray.train --data runs/inbreast --init-from runs/ddsm_study --fold 0 --out runs/fine-tuned
    python -m diagram_ray.train --resume runs/model

How good the model is cannot be measured on the images it was trained on: the cross-validation of `tune` measures that,
or --fold for one fold. Leaves config.yaml and model.safetensors; beside them curves.parquet, tensorboard/ and
generated/, pictures of the patches that G made. Ctrl-C ends the training after the epoch, and --resume goes on with
it.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from diagram_ray import cli
from diagram_ray.config import ExperimentConfig, build_recorded, override
from diagram_ray.errors import DataError, UsageError
from diagram_ray.evaluation.underfitting import underfits
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place, absolute, check_uri, reached
from diagram_ray.yaml_text import parse_assignment, read_yaml

if TYPE_CHECKING:
    from diagram_ray.data.splits import Splits
    from diagram_ray.data.training_data import TrainingData
    from diagram_ray.training.runs.run import Task, TrainingRun

DOCUMENT, SPLITS, FINISHED = "train.yaml", "splits.json", "config.yaml"

app = cli.new_app()

Data = Annotated[str | None, typer.Option("--data", help="Prepared dataset: a folder or a URI")]
Out = Annotated[str | None, typer.Option("--out", help="Folder or URI to write; must be new or empty")]
From = Annotated[
    str | None, typer.Option("--from", metavar="STUDY", help="Takes the best configuration of a study, or a model's")
]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Sets a key of the configuration")]
InitFrom = Annotated[
    str | None,
    typer.Option("--init-from", metavar="STUDY|MODEL", help="Fine-tunes F and E of a study, a model or one file"),
]
FoldNumber = Annotated[
    int | None, typer.Option("--fold", min=0, help="Leaves this fold out, and scores it; folds of --from if a study")
]
Folds = Annotated[int, typer.Option("--folds", min=2, help="Of --fold, where --from has none")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="MODEL", help="Goes on with this training")]
Checkpoints = Annotated[
    str | None, typer.Option("--checkpoints", metavar="DIR|URI", help="Default: a folder in --out, removed at the end")
]
SaveEvery = Annotated[float, typer.Option("--save-every", min=0.0, help="Minutes between checkpoints")]
Pictures = Annotated[int, typer.Option("--picture-every", min=0, help="Epochs between pictures by G; 0: none")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one")]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@dataclass(frozen=True)
class Request:
    """The arguments of a training, as train.yaml keeps them."""

    data: str
    experiment: ExperimentConfig
    fold: int | None
    init_from: str | None
    checkpoints: str | None
    weights: str | None = None
    """SHA-256 of what `init_from` named when the training began."""


@app.command(epilog="Example: python -m diagram_ray.train --data runs/phantom --from runs/my_study --out runs/model")
def train(
    data: Data = None,
    out: Out = None,
    from_: From = None,
    set_: Set = None,
    init_from: InitFrom = None,
    fold: FoldNumber = None,
    folds: Folds = 5,
    resume: Resume = None,
    checkpoints: Checkpoints = None,
    save_every: SaveEvery = 10.0,
    picture_every: Pictures = 5,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train the best configuration of a study, or the one given, on a prepared dataset."""

    def work() -> dict[str, Any]:
        if resume is not None:
            _refuse({"--out": out, "--from": from_, "--set": set_, "--init-from": init_from, "--fold": fold})
            folder, study = reached(resume), None
            request = _read_request(folder, data, checkpoints)
        elif data is None or out is None:
            raise UsageError(f"{'--data' if data is None else '--out'} is needed, unless --resume is given")
        else:
            folder, study = reached(out), reached(from_) if from_ is not None else None
            request = _new_request(data, folder, study, set_ or [], init_from, fold, checkpoints)
        return _train(request, _How(folder, device, 60.0 * save_every, picture_every), study, folds)

    cli.run(work, as_json=as_json, debug=debug)


def train_best(study: Place, data: str, out: Place) -> dict[str, Any]:
    """Trains the best configuration of a study on all of its data; goes on with what is in `out`. Returns what the
    command prints. Raises DiagramError."""
    cli.configure_logging(debug=False)
    if (out / FINISHED).is_file():
        return {"out": str(out)}
    if (out / DOCUMENT).is_file():
        request = _read_request(out, None, None)
    else:
        request = _new_request(data, out, study, [], None, None, None)
    return _train(request, _How(out, "auto", 600.0, 5), None, 5)


@dataclass(frozen=True)
class _How:
    """Options that do not change the result."""

    out: Place
    device: str
    save_every: float
    picture_every: int


def _new_request(
    data: str, out: Place, study: Place | None, texts: list[str], init_from: str | None, fold: int | None,
    checkpoints: str | None,
) -> Request:  # fmt: skip
    cli.check_free(out)
    assignments = dict(parse_assignment(text) for text in texts)
    override(ExperimentConfig(), assignments, "--set")  # a wrong key is answered before anything is loaded
    experiment = override(_experiment(study, init_from), assignments, "--set")
    check_uri(checkpoints or "")
    return Request(absolute(data), experiment, fold, init_from and absolute(init_from), checkpoints)


def _experiment(study: Place | None, init_from: str | None) -> ExperimentConfig:
    """The base of --set: the configuration of --from, else of fine-tuning if there is --init-from, else the
    defaults."""
    if study is not None:
        from diagram_ray.training.checkpoints.model_folder import read_card

        return read_card(study).experiment
    if init_from is not None:
        from diagram_ray.training.transfer import starting_config

        return starting_config(init_from)
    return ExperimentConfig()


def _read_request(folder: Place, data: str | None, checkpoints: str | None) -> Request:
    path = folder / DOCUMENT
    if not path.is_file():
        raise UsageError(f"{folder}: nothing to resume: it has no {DOCUMENT}")
    if (folder / FINISHED).exists():
        raise UsageError(f"{folder}: nothing to resume: the training is finished")
    document = read_yaml(path)
    try:
        experiment = build_recorded(document["experiment"], str(path))
        initial = document["init_from"] or {}
        return Request(
            absolute(data) if data else str(document["data"]),
            experiment,
            document["fold"],
            initial.get("source"),
            checkpoints or document["checkpoints"],
            initial.get("weights"),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be resumed: {error!r} is missing or of the wrong kind") from None


def _refuse(options: Mapping[str, Any]) -> None:
    for name, value in options.items():
        if value or value == 0:
            raise UsageError(f"{name} cannot be given with --resume: the training goes on as it was begun")


def _train(request: Request, how: _How, study: Place | None, folds: int) -> dict[str, Any]:
    from diagram_ray.signals import cooperative_stop
    from diagram_ray.training.device import choose_device
    from diagram_ray.training.runs.run import Outputs, TrainingRun

    device = choose_device(how.device)
    task = _task(request, how.out, study, folds)
    place = request.checkpoints or str(how.out / "checkpoints")
    run = TrainingRun(task, Outputs(how.out, place, how.save_every, how.picture_every), device)
    if not (how.out / DOCUMENT).exists():
        _write_request(how.out, request, task)
    stop = threading.Event()
    started = time.perf_counter()
    with cooperative_stop(stop.set):
        done = _go(run, stop)
    if not done:
        cli.log.info("stopped, and what is done is kept; go on: python -m diagram_ray.train --resume %s", how.out)
        raise KeyboardInterrupt
    cli.log.info("%d images of %s, %d epochs: %s", len(run.fold.train_images), request.data, run.trainer.epoch, how.out)
    return _result(run, how.out, time.perf_counter() - started)


def _task(request: Request, out: Place, study: Place | None, folds: int) -> "Task":
    from diagram_ray.data.parquet.memory_map import open_training_data
    from diagram_ray.training.checkpoints.run_identity import fit_to_data
    from diagram_ray.training.runs.run import Task
    from diagram_ray.training.transfer import read_initial

    data = open_training_data(request.data, request.experiment.data)
    splits = None if request.fold is None else _splits(data, request, out, study, folds)
    if splits is not None and request.fold is not None:
        splits.fold(data, request.fold)  # a fold that there is not is reported before anything else
    initial = None
    if request.init_from is not None:
        config = fit_to_data(request.experiment, data)
        initial = read_initial(request.init_from, config, data, splits, request.fold)
        if request.weights not in (None, initial.digest):
            raise UsageError(
                f"{out}: was begun with the weights of {request.init_from} with the SHA-256 {request.weights}; they "
                f"are now others: {initial.digest}"
            )
    return Task(request.experiment, data, splits, request.fold, initial)


def _splits(data: "TrainingData", request: Request, out: Place, study: Place | None, folds: int) -> "Splits":
    """The folds that the training was begun with, else those of the study, else new ones."""
    from diagram_ray.data.splits import Splits, make_splits

    for path in (out / SPLITS, *([study / SPLITS] if study is not None else [])):
        if path.is_file():
            return Splits.from_json(path.read_text(encoding="utf-8"), str(path))
    return make_splits(data, folds, request.experiment.training.seed)


def _write_request(out: Place, request: Request, task: "Task") -> None:
    from diagram_ray.study.study_folder import command_line, versions

    if task.splits is not None:
        write_atomic(out / SPLITS, task.splits.to_json())
    document = {
        "data": request.data,
        "fingerprint": task.data.fingerprint,
        "fold": request.fold,
        "init_from": task.initial.describe() if task.initial is not None else None,
        "checkpoints": request.checkpoints,
        "experiment": request.experiment.model_dump(mode="json"),
        "versions": versions(),
        "command": command_line(),
    }
    write_atomic(out / DOCUMENT, yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120))


def _result(run: "TrainingRun", out: Place, seconds: float) -> dict[str, Any]:
    trained = [row for row in run.curves if row["loss_image"] is not None][-1]
    result = {
        "out": str(out),
        "images": len(run.fold.train_images),
        "patches": len(run.fold.train_patches),
        "classes": list(run.task.data.classes),
        "epochs": run.trainer.epoch,
        "seconds": seconds,
        **{name: value for name, value in trained.items() if name.startswith("loss_")},
        "training_auc": trained.get("training_auc"),
    }
    if run.trainer.best_epoch is not None:
        result["best_epoch"] = run.trainer.best_epoch
    if run.task.fold is not None:
        result |= {"fold": run.task.fold, **run.test_scores()}
        typer.echo(f"fold {run.task.fold}: AUC {result['auc']:.3f}, accuracy {result['accuracy']:.3f}")
    if warning := underfits(result["training_auc"], result.get("auc"), trained["epoch"]):
        cli.log.warning("the model %s", warning)
    return result | {"underfits": warning or None}


def _go(run: "TrainingRun", stop: threading.Event) -> bool:
    """Trains, shown as a bar on a terminal and as a line an epoch elsewhere. False if it was stopped."""
    epochs = run.trainer.config.training.epochs
    with cli.progress_bar("epoch", between_lines=0.0) as report:
        return run.go(lambda row: report(row["epoch"], epochs, _figures(row)), stop.is_set)


def _figures(row: Mapping[str, Any]) -> str:
    losses = [f"{key[5:]} {value:.3f}" for key, value in row.items() if key.startswith("loss_") and value is not None]
    parts = [name for name in ("training", "validation") if row.get(f"{name}_auc") is not None]
    scores = [f"{name} AUC {row[f'{name}_auc']:.3f}" for name in parts]
    return "; ".join([f"losses: {', '.join(losses)}", *scores, f"{row['seconds']:.1f} s"])


if __name__ == "__main__":
    app()
