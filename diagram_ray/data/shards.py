"""A prepared dataset on disk or in an object store: the schemas, and reading it back.

    dataset.json          what it is: written last, so a folder with one is whole
    manifest.parquet      one row an image, no pixels
    images/part-*.parquet pixels (H, W) uint16 with image_id, patient_id, label
    patches/part-*.parquet pixels (s, s) uint16 with patch_id, image_id, patient_id, label, kind, finding, box
    rejects.parquet       path, reason
    sources.parquet       what each image was made from: for `prepare --update`

In an object store, which cannot rename, `prepare --update` leaves all but dataset.json in a folder inside it that
dataset.json names: a reader sees the old dataset or the new one.
Any place that pyarrow or fsspec can open will do: a folder, s3://, gs://, abfs://.
"""

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray.config import DataConfig
from diagram_ray.data.dataset import TrainingData
from diagram_ray.data.opening import open_file
from diagram_ray.errors import DataError, UsageError, told

FORMAT_VERSION = 1
INFO, MANIFEST, REJECTS, SOURCES = "dataset.json", "manifest.parquet", "rejects.parquet", "sources.parquet"
IMAGES, PATCHES = "images", "patches"
UNFINISHED = ".partial"
"""In an object store: the folder inside a dataset's place where preparation keeps what it has done so far."""
KEYS = ("image_id", "patient_id")
"""Columns of the manifest that no image may lack."""
ROI, BACKGROUND = "roi", "background"


def pixel_type(rows: int, columns: int) -> pa.DataType:
    """The Arrow type of one picture: a fixed-shape tensor of uint16."""
    return pa.fixed_shape_tensor(pa.uint16(), (rows, columns))


def image_schema(rows: int, columns: int) -> pa.Schema:
    """Of images/part-*.parquet."""
    strings = [(name, pa.string()) for name in ("image_id", "patient_id", "label")]
    return pa.schema([*strings, ("pixels", pixel_type(rows, columns))])


def patch_schema(size: int) -> pa.Schema:
    """Of patches/part-*.parquet."""
    names = ("patch_id", "image_id", "patient_id", "label", "kind", "finding")
    strings = [(name, pa.string()) for name in names]
    return pa.schema([*strings, ("box", pa.list_(pa.float64(), 4)), ("pixels", pixel_type(size, size))])


def check_vacant(out: str) -> None:
    """Raises UsageError unless a dataset can be written to `out`: a place that is new or empty."""
    files, root = open_place(out)
    try:
        files.invalidate_cache()
        if files.exists(f"{root}/{INFO}"):
            raise UsageError(f"--out {out}: already holds a dataset; give --update, give another --out or remove it")
        if files.exists(root) and (not files.isdir(root) or files.ls(root)) and not _begun(files, root):
            raise UsageError(f"--out {out}: is not empty and not a dataset; give another --out")
    except UsageError:
        raise
    except Exception as error:  # object stores raise kinds of their own
        raise UsageError(f"--out {out}: cannot be opened: {' '.join(str(error).split())}") from None


def _begun(files: Any, root: str) -> bool:
    """Whether what is there was left by a preparation that was cut off."""
    return not is_local(files) and bool(files.exists(f"{root}/{UNFINISHED}"))


def read_info(uri: str) -> dict[str, Any]:
    """dataset.json. Raises DataError if `uri` holds no dataset, or one of a newer format."""
    files, root = open_place(uri)
    try:
        with open_file(files, f"{root}/{INFO}") as file:
            info = json.load(file)
        version = int(info["format_version"])
        if version <= FORMAT_VERSION:
            _ = info["fingerprint"], info["counts"]["images"], info["counts"]["patches"]
            if not isinstance(info["classes"], list):
                raise ValueError(f"classes is {str(info['classes'])[:100]!r}; expected a list")
    except FileNotFoundError:
        raise DataError(f"{uri}: not a prepared dataset: it has no {INFO}; make one with diagram_ray.prepare") from None
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{INFO}: cannot be read: {told(error)}") from None
    if version > FORMAT_VERSION:
        raise DataError(f"{uri}: has format version {version}; this program reads up to {FORMAT_VERSION}")
    return dict(info)


def read_manifest(uri: str) -> pd.DataFrame:
    """One row an image. Raises DataError, also for an image that is listed twice or has no patient."""
    manifest: pd.DataFrame = _read(uri, MANIFEST).to_pandas()
    for name in KEYS:
        if name not in manifest.columns:
            raise DataError(f"{uri}/{MANIFEST}: has no column {name!r}")
        if manifest[name].isna().any():
            raise DataError(f"{uri}/{MANIFEST}: row {int(manifest[name].isna().argmax())} has no {name}")
        if not all(isinstance(value, str) for value in manifest[name]):
            raise DataError(f"{uri}/{MANIFEST}: column {name!r} holds other things than text")
    if (doubled := manifest["image_id"].duplicated()).any():
        raise DataError(f"{uri}/{MANIFEST}: image {manifest['image_id'][doubled.argmax()]} is listed twice")
    return manifest


def read_rejects(uri: str) -> pd.DataFrame:
    """One row a file that could not be used: path, reason. Raises DataError."""
    rejects: pd.DataFrame = _read(uri, REJECTS).to_pandas()
    return rejects


def read_training_data(uri: str, config: DataConfig) -> TrainingData:
    """The images and patches of the two classes that `config` asks for, in the order of their ids.

    With the target 'label' a lesion's patch has its own label, and a background patch is negative; with another
    target each patch has the class of its image. Raises DataError.
    """
    info = read_info(uri)
    manifest = read_manifest(uri).sort_values("image_id").reset_index(drop=True)
    classes = _classes(manifest, info, config, uri)
    manifest["class"] = _class_of(manifest[config.target], classes)
    chosen = manifest[manifest["class"] >= 0]
    _check_counts(chosen["class"], classes, config, uri)
    images = _read(uri, "images", ("image_id", "pixels"))
    _check_rows(images, info, "images", uri)
    rows = _rows(images, chosen["image_id"], uri)
    patches, patch_labels = _patches(uri, info, chosen, config, classes)
    patient_of = dict(zip(chosen["image_id"], chosen["patient_id"], strict=True))
    return TrainingData(
        images=_pixels(images, rows),
        labels=chosen["class"].to_numpy(np.int64),
        image_ids=_strings(chosen["image_id"]),
        patient_ids=_strings(chosen["patient_id"]),
        patches=_pixels(patches, np.arange(len(patches))),
        patch_labels=patch_labels,
        patch_patient_ids=_strings(patient_of[image] for image in patches["image_id"].to_pylist()),
        classes=tuple(classes),
        fingerprint=str(info["fingerprint"]),
    )


def read_sides(uri: str, image_ids: Iterable[str]) -> pa.Table:
    """`image_id, laterality` ("L", "R" or null) of the images asked for, by id. Raises DataError."""
    manifest = read_manifest(uri).set_index("image_id")
    names = sorted(map(str, image_ids))
    known = manifest["laterality"].to_dict() if "laterality" in manifest else {}
    sides = [known.get(name) if known.get(name) in ("L", "R") else None for name in names]
    return pa.table({"image_id": pa.array(names, pa.string()), "laterality": pa.array(sides, pa.string())})


def _check_rows(table: pa.Table, info: dict[str, Any], what: str, uri: str) -> None:
    """A shard that is missing would go unnoticed otherwise."""
    expected = info["counts"][what]
    if len(table) != expected:
        raise DataError(
            f"{uri}/{what}: holds {len(table)} {what}, and {INFO} says {expected}: is a part-*.parquet missing?"
        )


def _patches(
    uri: str, info: dict[str, Any], chosen: pd.DataFrame, config: DataConfig, classes: dict[str, list[str]]
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The patches of the chosen images that have a class, by id, and their classes."""
    table = _read(uri, "patches", ("patch_id", "image_id", "label", "kind", "pixels")).sort_by("patch_id")
    _check_rows(table, info, "patches", uri)
    frame = table.select(["patch_id", "image_id", "label", "kind"]).to_pandas()
    of_image = frame["image_id"].map(chosen.set_index("image_id")["class"])
    if config.target == "label":
        labels = _class_of(frame["label"], classes).where(frame["kind"] == ROI, 0).where(of_image.notna(), -1)
    else:
        labels = of_image.fillna(-1).astype(int)
    kept = np.flatnonzero(labels.to_numpy() >= 0)
    return table.take(pa.array(kept)), labels.to_numpy(np.int64)[kept].astype(np.int64)


def _classes(manifest: pd.DataFrame, info: dict[str, Any], config: DataConfig, uri: str) -> dict[str, list[str]]:
    """Class name -> values of the target column. Raises DataError unless there are two of them."""
    if config.target not in manifest.columns:
        near = difflib.get_close_matches(config.target, list(manifest.columns), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(manifest.columns)}"
        raise DataError(f"{uri}: data.target: the manifest has no column {config.target!r}; {hint}")
    found = sorted({_text(value) for value in manifest[config.target].dropna()})
    classes = config.classes
    if classes is None:
        values = [str(name) for name in info["classes"]] if config.target == "label" else found
        classes = {value: [value] for value in values}
    for name, values in classes.items():
        if strange := set(values) - set(found):
            raise DataError(
                f"{uri}: data.classes: class {name[:40]!r}: no image has {config.target} "
                f"{min(strange)[:40]!r}; found: {', '.join(value[:40] for value in found[:12])}"
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
    return values.map(lambda value: -1 if pd.isna(value) else numbers.get(_text(value), -1)).astype(int)


def _text(value: object) -> str:
    """A value as it is written in data.classes: 2, not 2.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _rows(table: pa.Table, wanted: Iterable[str], uri: str) -> NDArray[np.intp]:
    """Where the `wanted` ids are in the table."""
    places = {name: row for row, name in enumerate(table["image_id"].to_pylist())}
    for name in wanted:
        if name not in places:
            raise DataError(f"{uri}/images: image {name} of the manifest is missing")
    return np.array([places[name] for name in wanted], dtype=np.intp)


def _pixels(table: pa.Table, rows: NDArray[np.intp]) -> NDArray[np.uint16]:
    """The pictures in the chosen rows, in one array."""
    column = table["pixels"]
    shape = tuple(column.type.shape)
    pixels = np.empty((len(rows), *shape), dtype=np.uint16)
    start = 0
    for chunk in column.chunks:
        mine = np.flatnonzero((rows >= start) & (rows < start + len(chunk)))
        if len(mine):
            pixels[mine] = chunk.to_numpy_ndarray()[rows[mine] - start]
        start += len(chunk)
    return pixels


def _strings(values: Iterable[str]) -> NDArray[np.str_]:
    return np.array(list(values), dtype=np.str_)


def _read(uri: str, name: str, needed: Iterable[str] = ()) -> pa.Table:
    """A Parquet file, or all files of a folder. Raises DataError, also if one of the columns `needed` is missing."""
    files, root = open_dataset(uri)
    try:
        if is_local(files) and not all(Path(path).is_file() for path in files.find(f"{root}/{name}")):
            raise ValueError("not a regular file")  # a named pipe would never answer
        table = pq.read_table(f"{root}/{name}", filesystem=files)
        names = set(table.column_names)  # fails where they are not UTF-8
        table.validate(full=True)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{name}: cannot be read: {told(error)}") from None
    for column in needed:
        if column not in names:
            raise DataError(f"{uri}/{name}: has no column {column!r}")
    return table


def open_dataset(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a dataset, and the folder where its tables and shards are. Raises DataError."""
    folder = str(read_info(uri).get("folder", ""))
    if not re.fullmatch(r"[\w-]*", folder):
        raise DataError(f"{uri}/{INFO}: folder {folder!r}: expected a name")
    files, root = open_place(uri)
    return files, f"{root}/{folder}".rstrip("/")


def is_local(files: Any) -> bool:
    """Whether an fsspec file system is this machine's own."""
    return "file" in ((files.protocol,) if isinstance(files.protocol, str) else files.protocol)


def open_place(uri: str) -> tuple[Any, str]:
    """The fsspec file system of a folder or URI, and the folder's path on it. Raises DataError."""
    try:
        files, root = fsspec.core.url_to_fs(uri)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}: cannot be opened: {told(error)}") from None
    return files, str(root).rstrip("/")
