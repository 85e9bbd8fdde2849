"""A prepared dataset on disk or in an object store: the schemas, and reading it back.

    dataset.json          what it is: written last, so a folder with one is whole
    manifest.parquet      one row an image, no pixels
    images/part-*.parquet pixels (H, W) uint16 with image_id, patient_id, label
    patches/part-*.parquet pixels (s, s) uint16 with patch_id, image_id, patient_id, label, kind, finding, box
    rejects.parquet       path, reason
    sources.parquet       what each image was made from: for `prepare --update`

In an object store, which cannot rename, `prepare --update` leaves all but dataset.json in a folder inside it that
dataset.json names: a reader sees the old dataset or the new one.
Any place that fsspec can open will do: a folder, s3://, or with an extra of this package gs:// and abfs://.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from diagram_ray.errors import DataError, UsageError, one_line
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.opening import filesystem_of, open_file, open_place
from diagram_ray.storage.paths import Place

FORMAT_VERSION = 1
INFO, MANIFEST, REJECTS, SOURCES = "dataset.json", "manifest.parquet", "rejects.parquet", "sources.parquet"
IMAGES, PATCHES = "images", "patches"
UNFINISHED = ".partial"
"""The folder inside a dataset's place in an object store where preparation keeps what it has done so far."""
KEYS = ("image_id", "patient_id")
"""Columns of the manifest that no image may lack."""


def pixel_type(rows: int, columns: int) -> pa.DataType:
    """The Arrow type of one picture: a fixed-shape tensor of uint16."""
    return pa.fixed_shape_tensor(pa.uint16(), (rows, columns))


def image_schema(rows: int, columns: int) -> pa.Schema:
    """The schema of images/part-*.parquet."""
    strings = [(name, pa.string()) for name in ("image_id", "patient_id", "label")]
    return pa.schema([*strings, ("pixels", pixel_type(rows, columns))])


def patch_schema(size: int) -> pa.Schema:
    """The schema of patches/part-*.parquet."""
    names = ("patch_id", "image_id", "patient_id", "label", "kind", "finding")
    strings = [(name, pa.string()) for name in names]
    return pa.schema([*strings, ("box", pa.list_(pa.float64(), 4)), ("pixels", pixel_type(size, size))])


def check_vacant(out: str) -> None:
    """Raises UsageError unless a dataset can be written to `out`: a place that is new or empty."""
    place = open_place(out)
    try:
        if (place / INFO).exists():
            raise UsageError(f"--out {out}: already holds a dataset; give --update, give another --out or remove it")
        if place.exists() and (not place.is_dir() or any(place.iterdir())) and not _begun(place):
            raise UsageError(f"--out {out}: is not empty and not a dataset; give another --out")
    except UsageError:
        raise
    except Exception as error:  # object stores raise kinds of their own
        raise UsageError(f"--out {out}: cannot be opened: {' '.join(str(error).split())}") from None


def _begun(place: Place) -> bool:
    """Whether what is there was left by a preparation that was cut off."""
    return isinstance(place, StorePath) and (place / UNFINISHED).exists()


def read_info(uri: str) -> dict[str, Any]:
    """The content of dataset.json. Raises DataError if `uri` holds no dataset, or one of a newer format."""
    place = open_place(uri)
    try:
        with open_file(place / INFO) as file:
            info = json.load(file)
        version = int(info["format_version"])
        if version <= FORMAT_VERSION:
            _ = info["fingerprint"], info["counts"]["images"], info["counts"]["patches"]
            if not isinstance(info["classes"], list):
                raise ValueError(f"classes is {str(info['classes'])[:100]!r}; expected a list")
    except FileNotFoundError:
        raise DataError(f"{uri}: not a prepared dataset: it has no {INFO}; make one with diagram_ray.prepare") from None
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{INFO}: cannot be read: {one_line(error)}") from None
    if version > FORMAT_VERSION:
        raise DataError(f"{uri}: has format version {version}; this program reads up to {FORMAT_VERSION}")
    return dict(info)


def read_manifest(uri: str) -> pd.DataFrame:
    """The manifest, one row for each image. Raises DataError, also for an image that is listed twice or has no
    patient."""
    manifest: pd.DataFrame = read_table(uri, MANIFEST).to_pandas()
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
    """The files that could not be used, one row each: path, reason. Raises DataError."""
    rejects: pd.DataFrame = read_table(uri, REJECTS).to_pandas()
    return rejects


def read_sides(uri: str, image_ids: Iterable[str]) -> pa.Table:
    """The columns `image_id, laterality` ("L", "R" or null) of some images, by id. Raises DataError."""
    manifest = read_manifest(uri).set_index("image_id")
    names = sorted(map(str, image_ids))
    laterality = manifest["laterality"].to_dict() if "laterality" in manifest else {}
    sides = [laterality.get(name) if laterality.get(name) in ("L", "R") else None for name in names]
    return pa.table({"image_id": pa.array(names, pa.string()), "laterality": pa.array(sides, pa.string())})


def read_table(uri: str, name: str, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file of a dataset, or all files of a folder; these columns or all. Raises DataError."""
    place = open_dataset(uri) / name
    try:
        check_files(place)
        files, path = filesystem_of(place)
        table = pq.read_table(path, columns=columns, filesystem=files)
        missing = set(columns or ()) - set(table.column_names)  # fails where names are not UTF-8
        table.validate(full=True)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{name}: cannot be read: {one_line(error)}") from None
    if missing:
        raise DataError(f"{uri}/{name}: has no column {min(missing)!r}")
    return table


def check_files(place: Place) -> None:
    """Raises ValueError if on this machine `place` or anything in it is no file: a named pipe would never answer."""
    if isinstance(place, StorePath):
        return
    inside = place.rglob("*") if place.is_dir() else [place]
    if not all(path.is_file() or path.is_dir() for path in inside):
        raise ValueError("not a regular file")


def shards_of(uri: str, name: str) -> list[Place]:
    """The Parquet files of a dataset's folder IMAGES or PATCHES, in the order of their names. Raises DataError."""
    folder = open_dataset(uri) / name
    try:
        check_files(folder)
        shards: list[Place] = sorted(folder.glob("*.parquet"), key=str)
    except Exception as error:  # object stores raise kinds of their own
        raise DataError(f"{uri}/{name}: cannot be read: {one_line(error)}") from None
    if not shards:
        raise DataError(f"{uri}/{name}: holds no part-*.parquet")
    return shards


def open_dataset(uri: str) -> Place:
    """The folder where a dataset's tables and shards are. Raises DataError."""
    folder = str(read_info(uri).get("folder", ""))
    if not re.fullmatch(r"[\w-]*", folder):
        raise DataError(f"{uri}/{INFO}: folder {folder!r}: expected a name")
    place = open_place(uri)
    return place / folder if folder else place
