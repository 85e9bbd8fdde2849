"""What an audit keeps of each picture: some numbers, a hash and a sketch. Pixels are read one row group at a time."""

import hashlib
from collections.abc import Collection, Iterable, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from diagram_ray.auditing.likeness import hashes, sketch
from diagram_ray.data.preprocessing.standardise import LEVELS, SHARES
from diagram_ray.errors import DataError
from diagram_ray.storage.opening import open_file, open_place
from diagram_ray.storage.paths import Place

BINS = 32
"""The number of bins of the histogram of the breast's grey levels."""
HISTOGRAM = [f"grey_bin_{number:02d}" for number in range(BINS)]
BRIGHTNESS = ["picture_mean", "picture_sd", *(f"picture_p{share:02d}" for share in SHARES)]
"""Mean, standard deviation and percentiles of the breast's grey levels in the prepared picture, over 0..1."""
PICTURE = ["picture_part", *HISTOGRAM, *BRIGHTNESS]
"""The columns of what a prepared picture's pixels say of its breast without any shape."""
KEYS = ["image_id", "patient_id", "label"]
PATCH = ["patch_id", *KEYS, "kind"]

META = pd.DataFrame(
    {
        **{name: pd.Series(dtype=object) for name in ("image_id", "patient_id", "label", "digest", "sketch", "part")},
        "row": pd.Series(dtype=np.int64),
        **{name: pd.Series(dtype=np.uint64) for name in ("hash0", "hash1")},
        **{name: pd.Series(dtype=np.float64) for name in PICTURE},
    }
)
"""The columns of a described part."""
PATCH_META = pd.DataFrame({name: pd.Series(dtype=object) for name in PATCH})


def describe_part(place: Place) -> pd.DataFrame:
    """The images of one file of a dataset, one row each, without their pixels. Raises DataError.

    At most one row group's pixels are in memory.
    """
    groups = _groups(place, [*KEYS, "pixels"])
    return pd.concat([META, *(_described(table, start) for start, table in groups)]).assign(part=str(place))


def _described(table: pa.Table, start: int) -> pd.DataFrame:
    """The images of one row group; the first is row `start` of its file."""
    pixels = picture_array(table)
    sketches = np.stack([sketch(picture) for picture in pixels])
    frame = pd.DataFrame(table.select(KEYS).to_pylist(), columns=KEYS, dtype=object)
    frame["digest"] = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in pixels]  # as in the manifest
    frame["sketch"] = [array.tobytes() for array in sketches]
    frame["part"], frame["row"] = "", np.arange(start, start + len(frame), dtype=np.int64)
    frame[["hash0", "hash1"]] = hashes(sketches)
    frame[PICTURE] = picture_numbers(pixels)
    return frame[META.columns].astype(META.dtypes.to_dict())


def picture_numbers(pictures: Iterable[NDArray[np.uint16]]) -> pd.DataFrame:
    """The columns PICTURE of prepared pictures (H, W), 0 being background, in their order."""
    return pd.DataFrame([_greys(picture) for picture in pictures], columns=PICTURE, dtype=np.float64)


def _greys(pixels: NDArray[np.uint16]) -> list[float]:
    """The part of the picture that is breast, the part of the breast in each bin of the grey scale, its brightness."""
    inside = pixels[pixels > 0]
    if not len(inside):
        return [0.0] * len(PICTURE)
    counts = np.histogram(inside, bins=BINS, range=(0, LEVELS))[0] / len(inside)
    levels = inside / LEVELS
    return [len(inside) / pixels.size, *counts, levels.mean(), levels.std(), *np.percentile(levels, SHARES)]


def read_patches(place: Place) -> pd.DataFrame:
    """The rows of one file of patches, without their pixels. Raises DataError."""
    tables = [table.to_pandas() for _, table in _groups(place, PATCH)]
    return pd.concat([PATCH_META, *tables]).astype(object) if tables else PATCH_META


def read_pictures(images: pd.DataFrame, image_ids: Iterable[str]) -> dict[str, NDArray[np.uint16]]:
    """The pixels of some images, by id; `images` says where they are. Raises DataError."""
    chosen = images[images["image_id"].isin(set(image_ids))]
    pictures: dict[str, NDArray[np.uint16]] = {}
    for path, rows in chosen.groupby("part"):
        ids = dict(zip(rows["row"].to_list(), rows["image_id"].to_list(), strict=True))
        for start, table in _groups(open_place(str(path)), ["pixels"], ids):
            pixels = picture_array(table)
            inside = [row for row in ids if start <= row < start + len(table)]
            pictures |= {ids[row]: pixels[row - start].copy() for row in inside}
    return pictures


def picture_array(table: pa.Table) -> NDArray[np.uint16]:
    """The column `pixels` as one array (N, H, W)."""
    column = table["pixels"].combine_chunks()
    chunk = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    array: NDArray[np.uint16] = chunk.to_numpy_ndarray()
    return array


def _groups(place: Place, columns: list[str], rows: Collection[int] | None = None) -> Iterator[tuple[int, pa.Table]]:
    """A file's row groups, each with the number of its first row; only those that hold some of `rows`, if given."""
    try:
        with open_file(place) as file, pq.ParquetFile(file) as parquet:
            start = 0
            for number in range(parquet.num_row_groups):
                stop = start + parquet.metadata.row_group(number).num_rows
                if stop > start and (rows is None or any(start <= row < stop for row in rows)):
                    yield start, parquet.read_row_group(number, columns=columns)
                start = stop
    except Exception as error:  # object stores and Parquet raise kinds of their own
        raise DataError(f"{place}: cannot be read: {type(error).__name__}: {' '.join(str(error).split())}") from None
