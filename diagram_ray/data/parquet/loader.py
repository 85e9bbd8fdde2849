"""A prepared dataset as training needs it: images and patches of the two classes, in the order of their ids."""

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet.layout import (
    IMAGES,
    INFO,
    PATCHES,
    read_info,
    read_manifest,
    read_table,
    shards_of,
)
from diagram_ray.data.records import ROI
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError, one_line
from diagram_ray.storage.opening import open_file
from diagram_ray.storage.paths import Place

Fill = Callable[[NDArray[np.uint16]], None]
"""Writes pictures into an array."""
Hold = Callable[[str, tuple[int, ...], Fill], NDArray[np.uint16]]
"""Holds pixels: (IMAGES or PATCHES, shape, what fills it) -> the filled array, wherever it is held."""
ROWS = 16
"""Rows that are read at once: memory stays small."""


def in_memory(name: str, shape: tuple[int, ...], fill: Fill) -> NDArray[np.uint16]:
    """Holds pixels in this process."""
    pixels = np.empty(shape, dtype=np.uint16)
    fill(pixels)
    return pixels


def read_training_data(uri: str, config: DataConfig, hold: Hold = in_memory) -> TrainingData:
    """The images and patches of the two classes that `config` asks for, in the order of their ids.

    With the target 'label' a lesion's patch has its own label, and a background patch is negative; with another
    target each patch has the class of its image. Raises DataError, and what `hold` raises.
    """
    info = read_info(uri)
    manifest = read_manifest(uri).sort_values("image_id").reset_index(drop=True)
    classes = _classes(manifest, info, config, uri)
    manifest["class"] = _class_of(manifest[config.target], classes)
    chosen = manifest[manifest["class"] >= 0]
    _check_counts(chosen["class"], classes, config, uri)
    images = read_table(uri, IMAGES, ["image_id"])
    _check_rows(images, info, IMAGES, uri)
    patches = read_table(uri, PATCHES, ["patch_id", "image_id", "label", "kind"]).to_pandas()
    _check_rows(patches, info, PATCHES, uri)
    rows, patch_labels = _patches(patches, chosen, config, classes)
    patient_of = dict(zip(chosen["image_id"], chosen["patient_id"], strict=True))
    return TrainingData(
        images=_held(uri, IMAGES, _rows(images, chosen["image_id"], uri), len(images), hold),
        labels=chosen["class"].to_numpy(np.int64),
        image_ids=_strings(chosen["image_id"]),
        patient_ids=_strings(chosen["patient_id"]),
        patches=_held(uri, PATCHES, rows, len(patches), hold),
        patch_labels=patch_labels,
        patch_patient_ids=_strings(patient_of[image] for image in patches["image_id"].iloc[rows]),
        classes=tuple(classes),
        fingerprint=str(info["fingerprint"]),
    )


def _held(uri: str, name: str, rows: NDArray[np.intp], count: int, hold: Hold) -> NDArray[np.uint16]:
    """The pictures in these rows, of `count` in the files. Read in the order of the files, a few at a time."""
    shards = shards_of(uri, name)
    places = np.full(count, -1)
    places[rows] = np.arange(len(rows))

    def fill(pixels: NDArray[np.uint16]) -> None:
        with _one_sentence(uri, name):
            for start, pictures in _batches(shards):
                here = places[start : start + len(pictures)]
                if (chosen := here >= 0).any():
                    pixels[here[chosen]] = pictures.to_numpy_ndarray()[chosen]

    with _one_sentence(uri, name), open_file(shards[0]) as file:
        shape = tuple(pq.read_schema(file).field("pixels").type.shape)
    return hold(name, (len(rows), *shape), fill)


def _batches(shards: Iterable[Place]) -> Iterator[tuple[int, Any]]:
    """First row and pixels. A scan of the whole folder would decode files ahead, in six times the pixels' memory."""
    start = 0
    for place in shards:
        with open_file(place) as file, pq.ParquetFile(file, pre_buffer=False) as shard:
            for batch in shard.iter_batches(ROWS, columns=["pixels"], use_threads=False):
                batch.validate(full=True)
                yield start, batch.column("pixels")
                start += len(batch)


@contextmanager
def _one_sentence(uri: str, name: str) -> Iterator[None]:
    """Object stores and pyarrow raise many kinds at damaged files."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{uri}/{name}: cannot be read: {one_line(error)}") from None


def _check_rows(table: pa.Table | pd.DataFrame, info: dict[str, Any], what: str, uri: str) -> None:
    """A shard that is missing would go unnoticed otherwise."""
    expected = info["counts"][what]
    if len(table) != expected:
        raise DataError(
            f"{uri}/{what}: holds {len(table)} {what}, and {INFO} says {expected}: is a part-*.parquet missing?"
        )


def _patches(
    frame: pd.DataFrame, chosen: pd.DataFrame, config: DataConfig, classes: dict[str, list[str]]
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The rows of patches with a class whose images are chosen, in the order of their ids; and the classes."""
    of_image = frame["image_id"].map(chosen.set_index("image_id")["class"])
    if config.target == "label":
        labels = _class_of(frame["label"], classes).where(frame["kind"] == ROI, 0).where(of_image.notna(), -1)
    else:
        labels = of_image.fillna(-1).astype(int)
    numbers = labels.to_numpy(np.int64)
    order = np.argsort(frame["patch_id"].to_numpy(str), kind="stable")
    kept = order[numbers[order] >= 0]
    return kept.astype(np.intp), numbers[kept].astype(np.int64)


def _classes(manifest: pd.DataFrame, info: dict[str, Any], config: DataConfig, uri: str) -> dict[str, list[str]]:
    """Class name -> values of the target column. Raises DataError unless there are two of them."""
    if config.target not in manifest.columns:
        near = difflib.get_close_matches(config.target, list(manifest.columns), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(manifest.columns)}"
        raise DataError(f"{uri}: data.target: the manifest has no column {config.target!r}; {hint}")
    present = sorted({value_text(value) for value in manifest[config.target].dropna()})
    classes = config.classes
    if classes is None:
        values = [str(name) for name in info["classes"]] if config.target == "label" else present
        classes = {value: [value] for value in values}
    for name, values in classes.items():
        if strange := set(values) - set(present):
            raise DataError(
                f"{uri}: data.classes: class {name[:40]!r}: no image has {config.target} "
                f"{min(strange)[:40]!r}; found: {', '.join(value[:40] for value in present[:12])}"
            )
    if len(classes) != 2:
        raise DataError(
            f"{uri}: {config.target} has {len(classes)} values ({', '.join(name[:40] for name in list(classes)[:12])}) "
            "and two classes are needed; group them, the negative class first: "
            'data.classes={"low": ["1", "2"], "high": ["3"]}'
        )
    if doubled := [
        value for value, count in Counter(value for group in classes.values() for value in group).items() if count > 1
    ]:
        raise DataError(f"data.classes: {doubled[0]!r} is in more than one class")
    return classes


def _check_counts(labels: "pd.Series[int]", classes: dict[str, list[str]], config: DataConfig, uri: str) -> None:
    for number, name in enumerate(classes):
        if not (labels == number).any():
            other = list(classes)[1 - number]
            raise DataError(
                f"{uri}: no image is of class {name!r} ({config.target}); all {len(labels)} are of class "
                f"{other!r}, and a classifier needs both"
            )


def _class_of(values: "pd.Series[Any]", classes: dict[str, list[str]]) -> "pd.Series[int]":
    """The class number of each value; -1 for those in no class."""
    numbers = {value: number for number, group in enumerate(classes.values()) for value in group}
    return values.map(lambda value: -1 if pd.isna(value) else numbers.get(value_text(value), -1)).astype(int)


def value_text(value: object) -> str:
    """A value as it is written in data.classes: 2, not 2.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _rows(table: pa.Table, image_ids: Iterable[str], uri: str) -> NDArray[np.intp]:
    """Where the `wanted` ids are in the table."""
    places = {name: row for row, name in enumerate(table["image_id"].to_pylist())}
    for name in image_ids:
        if name not in places:
            raise DataError(f"{uri}/images: image {name} of the manifest is missing")
    return np.array([places[name] for name in image_ids], dtype=np.intp)


def _strings(values: Iterable[str]) -> NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)
