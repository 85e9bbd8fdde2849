"""Class probabilities of mammograms under a trained model.

    python -m diagram_ray.predict runs/model new_patients/ --out runs/predictions
    python -m diagram_ray.predict runs/my_study a.dcm b.png --out runs/predictions
    python -m diagram_ray.predict runs/model runs/phantom --out runs/predictions --heatmaps

Leaves predictions.csv and predictions.parquet (`path`, `probability_<class>`, `predicted`) and rejects.csv (`path`,
`reason`). A study's fold models answer together, by the mean of their probabilities. Of a prepared dataset, every
image is predicted, and `path` is its image_id. `--heatmaps` adds a picture of each image beside its class activation
map; the tables' column `heatmap` names its file.
"""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.errors import DataError, UsageError
from diagram_ray.storage.paths import Place, check_uri, reached

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diagram_ray.data.decoding.dicom.kind import Allowed
    from diagram_ray.training.inference.heatmaps import Heatmaps
    from diagram_ray.training.inference.predictor import Predictor

    Picture = tuple[str, NDArray[np.uint16]]

SUFFIXES = ("", ".dcm", ".dicom", ".pgm", ".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Suffixes of the files that are taken from a folder; a DICOM file often has none."""
BATCH = 16

app = cli.new_app()

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A folder or URI that train or tune has written")]
Inputs = Annotated[list[str], typer.Argument(metavar="FILES|DIR|DATASET", help="Image files, folders or datasets")]
Out = Annotated[str, typer.Option("--out", help="Folder or URI to write; must be new or empty")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, or auto: a GPU where there is one")]
Maps = Annotated[bool, typer.Option("--heatmaps", help="Draws each image beside its class activation map")]
AnyModality = Annotated[bool, typer.Option("--any-modality", help="Reads DICOM images that are no mammograms, too")]
ForProcessing = Annotated[
    bool, typer.Option("--for-processing", help="Reads DICOM images FOR PROCESSING, too: for a model trained on such")
]
Json = Annotated[bool, typer.Option("--json", help="Prints the result as one JSON object")]
Debug = Annotated[bool, typer.Option("--debug", help="Shows tracebacks")]


def load(model_dir: str | Place, device: str = "cpu") -> "Predictor":
    """The predictor in a folder that train or tune has written. Raises DataError.

    `.predict(path)` gives {path, probabilities: {class: P}, predicted}; `.predict_array(pixels)` the probabilities
    (N, m) of standardised images (N, H, W) uint16.
    """
    from diagram_ray.training.device import choose_device
    from diagram_ray.training.inference.predictor import Predictor

    return Predictor.load(model_dir, choose_device(device))


@app.command(epilog="Example: python -m diagram_ray.predict runs/model new_patients/ --out runs/predictions")
def predict(
    model: Model,
    inputs: Inputs,
    out: Out,
    heatmaps: Maps = False,
    device: Device = "auto",
    any_modality: AnyModality = False,
    for_processing: ForProcessing = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Class probabilities of mammograms (DICOM, PGM, PNG, JPEG, TIFF) or of a prepared dataset's images."""

    def work() -> dict[str, Any]:
        from diagram_ray.data.decoding.dicom.kind import Allowed

        source, target = reached(model), reached(out)
        cli.check_free(target)
        sources = [_source(name) for name in inputs]
        return _predict_all(load(source, device), sources, target, Allowed(any_modality, for_processing), heatmaps)

    cli.run(work, as_json=as_json, debug=debug)


class _Rejects(list[dict[str, str]]):
    """Files that could not be used, and why."""


def _source(source: str) -> str | list[str]:
    """A prepared dataset as it was given, or the image files that a file or folder stands for. Raises UsageError."""
    check_uri(source)
    place = Path(source)
    if "://" in source:
        return [source] if place.suffix.lower() in SUFFIXES[1:] else source
    if place.is_file():
        return [source]
    if not place.is_dir():
        raise UsageError(f"{source}: no such file or folder")
    if (place / "dataset.json").is_file():
        return source
    files = [Path(folder) / name for folder, _, names in os.walk(place) for name in names]
    images = sorted(str(file) for file in files if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    if not images:
        raise UsageError(
            f"{source}: no image file in it; taken are those ending in {', '.join(SUFFIXES[1:])}, or in none"
        )
    return images


def _predict_all(
    predictor: "Predictor", sources: list[str | list[str]], out: Place, allowed: "Allowed", heatmaps: bool
) -> dict[str, Any]:
    from diagram_ray.training.checkpoints.model_folder import new_folder
    from diagram_ray.training.inference.heatmaps import Heatmaps

    rejects = _Rejects()
    with new_folder(out, last="predictions.csv") as folder:
        drawn = Heatmaps(predictor, folder) if heatmaps else None
        rows = list(_rows(predictor, _pictures(predictor, sources, rejects, allowed), drawn))
        if not rows:
            first = f"; the first, {rejects[0]['path']}: {rejects[0]['reason']}" if rejects else ""
            raise DataError(f"none of {len(rejects)} images could be used{first}")
        _write(folder, rows, rejects)
    for reject in rejects:
        cli.log.info("not used: %s: %s", reject["path"], reject["reason"])
    cli.log.info("%d images predicted, %d not used: %s", len(rows), len(rejects), out)
    result = {"out": str(out), "images": len(rows), "rejects": len(rejects), "models": len(predictor.models)}
    return result | ({"heatmaps": drawn.count} if drawn else {})


def _pictures(
    predictor: "Predictor", sources: list[str | list[str]], rejects: _Rejects, allowed: "Allowed"
) -> "Iterator[Picture]":
    for source in sources:
        if isinstance(source, str):
            yield from _dataset(source, predictor.card.image_size)
            continue
        for path in source:
            try:
                yield path, predictor.read(path, allowed)
            except DataError as error:
                rejects.append({"path": path, "reason": str(error)})


def _dataset(uri: str, image_size: tuple[int, int]) -> "Iterator[Picture]":
    """The images of a prepared dataset, a batch in memory at a time. Raises DataError."""
    import pyarrow as pa
    from pyarrow import dataset

    from diagram_ray.data.parquet.layout import open_dataset, read_info
    from diagram_ray.storage.opening import filesystem_of

    size = tuple(read_info(uri).get("image_size", ()))
    if size != image_size:
        raise DataError(f"{uri}: its images have the size {size}; the model was trained on {image_size}")
    files, path = filesystem_of(open_dataset(uri) / "images")
    try:
        images = dataset.dataset(path, filesystem=files, format="parquet")
        for batch in images.to_batches(columns=["image_id", "pixels"], batch_size=BATCH):
            yield from zip(batch["image_id"].to_pylist(), batch["pixels"].to_numpy_ndarray(), strict=True)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{uri}/images: cannot be read: {error}") from None


def _rows(predictor: "Predictor", pictures: "Iterator[Picture]", drawn: "Heatmaps | None") -> Iterator[dict[str, Any]]:
    """The rows of the table, a batch of pictures at a time."""
    import numpy as np

    while batch := list(islice(pictures, BATCH)):
        stacked = np.stack([pixels for _, pixels in batch])
        scores = predictor.predict_array(stacked)
        maps = [{"heatmap": name} for name in drawn.write(stacked, scores)] if drawn else [{}] * len(batch)
        for (path, _), row, of_map in zip(batch, scores, maps, strict=True):
            described = predictor.describe(row)
            named = {f"probability_{name}": value for name, value in described["probabilities"].items()}
            yield {"path": path, **named, "predicted": described["predicted"], **of_map}


def _write(folder: Path, rows: list[dict[str, Any]], rejects: _Rejects) -> None:
    import pandas as pd

    predictions = pd.DataFrame(rows)
    predictions.to_csv(folder / "predictions.csv", index=False)
    predictions.to_parquet(folder / "predictions.parquet", index=False)
    pd.DataFrame(rejects, columns=["path", "reason"]).to_csv(folder / "rejects.csv", index=False)


if __name__ == "__main__":
    app()
