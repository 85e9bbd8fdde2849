"""What a reader may make of a hostile source: images whose invariants hold, and refusals that say why.

Everything else is a fault: `Fault`, or the exception that came out.
"""

import json
import math
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from diagram_ray.data.preprocessing.prepare_image import Options, Prepared
from diagram_ray.data.records import OWN_COLUMNS, ImageRecord, Index, Reject

LONGEST = 2000
"""Characters of a reason."""
_UNWANTED = re.compile(
    r"Traceback|\bb'|\bb\"|<.* object at 0x|could not be prepared|does not fit in memory|MemoryError"
)
"""Traces of an exception that nobody expected, of bytes, and of a limit that came too late."""


class Fault(Exception):  # noqa: N818 - a finding
    """A result that no reader should give."""


@lru_cache(maxsize=1000)
def check_reason(reason: object) -> None:
    """A reason is one readable sentence or a few."""
    if not isinstance(reason, str) or not reason.strip():
        raise Fault(f"no reason: {reason!r}")
    if len(reason) > LONGEST:
        raise Fault(f"a reason of {len(reason)} characters: {reason[:300]!r}")
    if found := _UNWANTED.search(reason):
        raise Fault(f"{found[0]!r} in the reason {reason!r}")
    if not reason.isprintable():
        raise Fault(f"control characters in the reason {reason!r}")


def check_rejects(rejects: list[Reject]) -> None:
    """Each can be written to a table."""
    for reject in rejects:
        check_reason(reject.reason)
        reject.path.encode()


def check_index(index: Index, source: Path) -> None:
    """A reader's result: two classes or more, labels among them, files inside the source."""
    if len(index.classes) < 2 or not all(isinstance(name, str) and name for name in index.classes):
        raise Fault(f"classes {index.classes!r}")
    check_rejects(index.rejects)
    for record in index.records:
        _check_record(record, index, source)


def _check_record(record: ImageRecord, index: Index, source: Path) -> None:
    if record.label is not None and record.label not in index.classes:
        raise Fault(f"label {record.label!r}")
    if not record.patient_id or not record.image_id:
        raise Fault("an image without a patient or an id")
    if clash := set(record.columns) & set(OWN_COLUMNS):
        raise Fault(f"columns {clash}")
    for path in (record.path, *(path for mask in record.masks for path in mask.paths)):
        if not Path(os.path.normpath(path)).is_relative_to(source):
            raise Fault(f"{path!r} is outside of the source")
    for region in record.regions:
        if not all(math.isfinite(edge) for edge in region.box):
            raise Fault(f"a region with the box {region.box}")


def check_no_links_out(records: list[ImageRecord], source: Path) -> None:
    """Files are inside the source, also behind links: a table could lead to any file of the user's."""
    for record in records:
        if not Path(os.path.realpath(record.path)).is_relative_to(source.resolve()):
            raise Fault(f"{record.path!r} leads out of the source")


def check_prepared(prepared: Prepared, options: Options) -> None:
    """An image as the shards take it."""
    if prepared.pixels.shape != options.image_size or prepared.pixels.dtype != np.uint16:
        raise Fault(f"pixels {prepared.pixels.shape} {prepared.pixels.dtype}")
    shape = (len(prepared.patches), options.patch_size, options.patch_size)
    if prepared.patch_pixels.shape != shape or prepared.patch_pixels.dtype != np.uint16:
        raise Fault(
            f"patches {prepared.patch_pixels.shape} {prepared.patch_pixels.dtype}; rows {len(prepared.patches)}"
        )
    if len(np.unique(prepared.pixels)) < 2:
        raise Fault("a picture of one grey")
    json.dumps([prepared.manifest, prepared.patches], allow_nan=False).encode("ascii")
    for name, value in prepared.manifest.items():
        _check_cell(name, value)


def _check_cell(name: str, value: Any) -> None:
    if not isinstance(value, str | int | float | bool | None):
        raise Fault(f"{name} of the manifest is a {type(value).__name__}")
    if isinstance(value, str):
        value.encode()  # lone surrogates cannot be written to Parquet
