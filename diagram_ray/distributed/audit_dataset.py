"""The audit of a dataset by Dask on Ray: parts are described where there is a free processor, tables are Dask's.

Pixels stay in the tasks, a row group at a time; of each image about 5 KB comes back. What is small is computed in this
process, where it takes less time than workers need to start. `ray.util.dask` replaces `dask.persist` when it is
imported, so it is imported here and nowhere else.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import dask.config
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.base import compute
from dask.delayed import delayed
from numpy.typing import NDArray
from ray.exceptions import RayError

from diagram_ray.auditing.class_statistics import COUNTED, count_rows, countable, histograms, statistics
from diagram_ray.auditing.consistency import FLAW_META, image_findings, patch_findings, patch_flaws
from diagram_ray.auditing.description import META, PATCH_META, describe_part, read_patches, read_pictures
from diagram_ray.auditing.duplicates import Pair, as_rows, blocks, duplicate_findings, near_of, pairs, prints
from diagram_ray.auditing.findings import Finding
from diagram_ray.auditing.labels import label_findings
from diagram_ray.auditing.learner import Question
from diagram_ray.auditing.privacy import privacy_findings
from diagram_ray.auditing.record import Audit, new_audit
from diagram_ray.auditing.shortcuts import Score, as_groups, ask, groups, score, shortcut_findings
from diagram_ray.data.parquet.layout import IMAGES, PATCHES, read_info, read_manifest, shards_of
from diagram_ray.distributed.session import ray_session
from diagram_ray.errors import DiagramError

log = logging.getLogger("diagram_ray")

SMALL = 30_000_000
"""Pixels in all images up to which a dataset is audited in this process: a few seconds' work."""
ROWS = 50_000
"""Rows of the manifest in one partition."""
SHOWN = 12
"""Pairs of which the pictures are fetched."""

Pictures = dict[str, NDArray[np.uint16]]


def audit_dataset(uri: str) -> tuple[Audit, Pictures]:
    """Audits the prepared dataset at `uri` (a folder or URI); also returns some pictures of its duplicates, by image.

    Nothing is written. A Ray session is opened if there is none and the dataset is not small. Raises DataError if a
    file of the dataset is missing or cannot be read, DiagramError if workers fail.
    """
    info, manifest = read_info(uri), read_manifest(uri)
    classes = tuple(str(name) for name in info["classes"])
    with _scheduler(info):
        images, of_patches, counts = _read(uri, manifest, info)
        table = images.drop(columns=["patient_id", "label", "digest"]).merge(manifest, on="image_id")
        duplicates, scores, unasked = _compare(images, table, classes, str(info["fingerprint"]))
    findings = [
        *duplicate_findings(images, duplicates),
        *image_findings(images, manifest),
        *of_patches,
        *label_findings(manifest, images, classes),
        *privacy_findings(manifest),
        *shortcut_findings(scores, unasked),
    ]
    audit = new_audit(
        info, findings, as_rows(duplicates), counts=counts, statistics=statistics(table, classes),
        histograms=histograms(table, classes), shortcuts={"groups": as_groups(scores), "unasked": unasked},
    )  # fmt: skip
    return audit, read_pictures(images, chain.from_iterable(pair.images for pair in duplicates[:SHOWN]))


def _read(
    uri: str, manifest: pd.DataFrame, info: Mapping[str, Any]
) -> tuple[pd.DataFrame, list[Finding], dict[str, list[dict[str, Any]]]]:
    """The images without their pixels, what is wrong with patches, and the counts."""
    described = [delayed(describe_part)(shard) for shard in shards_of(uri, IMAGES)]
    patches = dd.from_map(read_patches, shards_of(uri, PATCHES), meta=PATCH_META)
    whole = delayed(manifest, traverse=False)
    flaws = patches.map_partitions(patch_flaws, whole, str(info["classes"][-1]), meta=FLAW_META)
    table = dd.from_pandas(countable(manifest), npartitions=1 + len(manifest) // ROWS)
    grouped = {field: table.groupby([field, "label"]) for field in COUNTED if field in table.columns}
    sizes = {field: (group.size(), group["patient_id"].nunique()) for field, group in grouped.items()}
    images = pd.concat([META, *compute(*described)], ignore_index=True)
    flawed, there, counted = compute(flaws, patches["patch_id"].count(), sizes)
    counts = {field: count_rows(size, people, field) for field, (size, people) in counted.items()}
    return images, patch_findings(flawed, int(there), int(info["counts"]["patches"])), counts


def _compare(
    images: pd.DataFrame, table: pd.DataFrame, classes: tuple[str, ...], fingerprint: str
) -> tuple[list[Pair], list[Score], str]:
    """Duplicates across patients; the scores of the shortcut check, or why there are none."""
    looks = prints(images)
    question = ask(table, classes, fingerprint)
    pictures, shared_question = delayed(looks, traverse=False), delayed(question, traverse=False)
    near = [delayed(near_of)(pictures, start, stop) for start, stop in blocks(len(looks.rows))]
    scores = [delayed(score)(shared_question, group) for group in groups()] if isinstance(question, Question) else []
    near_pairs, measured = compute(near, scores)
    unasked = question if isinstance(question, str) else ""
    return pairs(images, looks, list(chain.from_iterable(near_pairs))), list(measured), unasked


@contextmanager
def _scheduler(info: Mapping[str, Any]) -> Iterator[None]:
    """Where Dask computes: on Ray, or here."""
    rows, columns = info["image_size"]
    if info["counts"]["images"] * rows * columns <= SMALL:
        with dask.config.set(scheduler="synchronous"):
            yield
        return
    with ray_session(), _on_ray():
        yield


@contextmanager
def _on_ray() -> Iterator[None]:
    """An error of ours in a task is raised as it was."""
    from ray.util.dask import enable_dask_on_ray

    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Dask configuration key 'shuffle'", FutureWarning)
            with enable_dask_on_ray():
                yield
    except RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, DiagramError):
            raise type(cause)(str(cause)) from None
        raise DiagramError(f"a worker failed: {' '.join(str(error).split())[-400:]}") from None
