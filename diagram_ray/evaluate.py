"""What trained models are worth on a labelled dataset that none of them was trained on.

    python -m diagram_ray.evaluate runs/my_study data/other-hospital --out runs/there
    python -m diagram_ray.evaluate models/a models/b data/other-hospital --by density --by view --out runs/there
    python -m diagram_ray.evaluate models/a data/folder --set 'data.classes={"benign": ["no"], "malignant": ["yes"]}'

The last argument is a prepared dataset, the others are studies or model folders. Leaves evaluation.html,
evaluation.json, figures.csv, subgroups.csv and predictions.parquet. A model that has seen one of the patients is
refused.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.errors import UsageError
from diagram_ray.storage.paths import Place, reached
from diagram_ray.yaml_text import parse_assignment

if TYPE_CHECKING:
    import pandas as pd

    from diagram_ray.data.training_data import TrainingData
    from diagram_ray.evaluation.held_out import Evaluation

PAGE, DOCUMENT = "evaluation.html", "evaluation.json"

app = cli.new_app()

Places = Annotated[
    list[str], typer.Argument(metavar="MODEL [MODEL ...] DATASET", help="Studies or models, and a prepared dataset")
]
Out = Annotated[str, typer.Option("--out", help="Folder or URI to write; must be new or empty")]
By = Annotated[list[str] | None, typer.Option("--by", metavar="COLUMN", help="Subgroups by a column of the manifest")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="data.target or data.classes of the dataset")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one")]
Json = Annotated[bool, typer.Option("--json", help="Prints the figures as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.evaluate runs/my_study data/other-hospital --out runs/there")
def evaluate(
    places: Places,
    out: Out,
    by: By = None,
    set_: Set = None,
    device: Device = "auto",
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure trained models on labelled images of patients whom they have not seen."""

    def work() -> dict[str, Any]:
        if len(places) < 2:
            raise UsageError("a model and a dataset are needed: MODEL [MODEL ...] DATASET")
        from diagram_ray.reporting.evaluation_tables import as_document

        target = reached(out)
        cli.check_free(target)
        settings = dict(parse_assignment(text) for text in set_ or [])
        evaluation = evaluate_models(places[:-1], places[-1], settings, by, device)
        _write(target, evaluation)
        for sentence in _sentences(evaluation):
            typer.echo(sentence)
        typer.echo(f"evaluation: {target / PAGE}")
        return {"out": str(target)} | as_document(evaluation)

    cli.run(work, as_json=as_json, debug=debug)


def evaluate_models(
    models: Sequence[str | Place],
    dataset: str,
    settings: Mapping[str, Any] | None = None,
    by: Sequence[str] | None = None,
    device: str = "cpu",
) -> "Evaluation":
    """The figures of studies and model folders on a prepared dataset, as the command gives them.

    `settings` are `data.target` and `data.classes`, `by` the columns of the manifest that make subgroups. Raises
    LeakageError if a model has seen one of the patients, DataError if the dataset does not fit a model.
    """
    from diagram_ray.data.parquet.layout import read_manifest
    from diagram_ray.evaluation.held_out import Evaluation, differences, evaluate_scores
    from diagram_ray.evaluation.subgroups import usual_columns
    from diagram_ray.training.device import choose_device
    from diagram_ray.training.inference import held_out_scores as held_out
    from diagram_ray.training.inference.predictor import Predictor

    folders = list(dict.fromkeys(map(reached, models)))
    predictors = [Predictor.load(folder, choose_device(device)) for folder in folders]
    question = held_out.question_for(predictors[0].card, settings or {})
    cards = {folder: predictor.card for folder, predictor in zip(folders, predictors, strict=True)}
    data = held_out.read_labelled(dataset, question, cards)
    manifest = read_manifest(dataset)
    manifest = manifest[manifest["image_id"].isin(data.image_ids)]
    names, tables = _names(folders), [held_out.score(predictor, data) for predictor in predictors]
    columns = usual_columns(tables[0], manifest) if by is None else by
    evaluated = [
        evaluate_scores(name, table, held_out.training_side(folder), manifest, columns)
        for name, table, folder in zip(names, tables, folders, strict=True)
    ]
    notes = [
        note
        for folder, card in cards.items()
        for note in _notes(folder, card.experiment.data, question, held_out.is_known_whom(folder))
    ]
    about = _about(dataset, data)
    return Evaluation(about, evaluated, differences(names, tables), _joined(names, tables), list(dict.fromkeys(notes)))


def _names(folders: Sequence[Place]) -> list[str]:
    """Short names of the models: the last part of their paths, or all of it where two would be the same."""
    counts = Counter(folder.name for folder in folders)
    return [folder.name if counts[folder.name] == 1 else str(folder) for folder in folders]


def _about(dataset: str, data: "TrainingData") -> dict[str, Any]:
    patients = len(set(data.patient_ids.tolist()))
    counts = {name: int((data.labels == number).sum()) for number, name in enumerate(data.classes)}
    return {
        "place": dataset,
        "fingerprint": data.fingerprint,
        "classes": list(data.classes),
        "images": len(data.labels),
        "patients": patients,
        "labels": counts,
    }


def _notes(folder: Place, learned: Any, asked: Any, known: bool) -> list[str]:
    notes = []
    if learned != asked:
        notes.append(
            f"{folder} was trained for another question than the dataset is asked: {learned.target} "
            f"{_groups(learned.classes)}there, {asked.target} {_groups(asked.classes)}here."
        )
    if not known:
        notes.append(
            f"{folder} does not say whom it was trained on: that it has not seen these patients was not checked."
        )
    return notes


def _groups(classes: Mapping[str, Sequence[str]] | None) -> str:
    return "" if classes is None else "".join(f"({name}: {', '.join(values)}) " for name, values in classes.items())


def _joined(names: Sequence[str], tables: "Sequence[pd.DataFrame]") -> "pd.DataFrame":
    joined = tables[0].drop(columns="score")
    return joined.assign(**{f"score_{name}": table["score"] for name, table in zip(names, tables, strict=True)})


def _sentences(evaluation: "Evaluation") -> list[str]:
    from diagram_ray.reporting.evaluation_page import verdict

    return [verdict(model, evaluation) for model in evaluation.models] + evaluation.notes


def _write(out: Place, evaluation: "Evaluation") -> None:
    import pandas as pd

    from diagram_ray.reporting.evaluation_page import evaluation_page
    from diagram_ray.reporting.evaluation_tables import as_document, figure_rows, subgroup_rows
    from diagram_ray.training.checkpoints.model_folder import new_folder

    with new_folder(out, last=DOCUMENT) as folder:
        evaluation.predictions.to_parquet(folder / "predictions.parquet", index=False)
        pd.DataFrame(figure_rows(evaluation)).to_csv(folder / "figures.csv", index=False)
        pd.DataFrame(subgroup_rows(evaluation)).to_csv(folder / "subgroups.csv", index=False)
        (folder / PAGE).write_text(evaluation_page(evaluation), encoding="utf-8")
        (folder / DOCUMENT).write_text(json.dumps(as_document(evaluation), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
