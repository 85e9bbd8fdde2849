"""Pictures that stand in a dataset under two patients: cross-validation would test on what it has trained on.

Every pair of images is compared by hash, in all four orientations; the few that are near are correlated. 10,000 images
are 50 million pairs, a second's work. Pairs of one patient are left alone: a second film of a breast is no leak.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from diagram_ray.auditing.findings import Finding, Severity, counted, some
from diagram_ray.auditing.likeness import FLIPS, SIDE, Hashes, Sketches, correlation, flip_sketch, flipped

RADIUS = 28
"""Bits in which the hashes of near images differ at most. Of two patients' films about 4 pairs in 10,000 do."""
ALIKE = 0.7
"""Correlation from which two images are one picture; see `likeness` for what was measured on either side of it."""
BLOCK = 2048
"""Images that one task compares with all that follow."""
STRIP = 64
"""Images whose distances are in memory at a time."""
CHUNK = 256
"""Pairs that are correlated at a time."""
MOST = 5000
"""Pairs that are listed; a dataset with more is past mending by hand."""


@dataclass(frozen=True)
class Prints:
    """What is compared: N images, no two of them with the same pixels."""

    hashes: Hashes
    """The hashes, (N, 2)."""
    sketches: Sketches
    """The sketches, (N, 64, 64)."""
    owners: NDArray[np.int64]
    """The patient of each image, (N,). Pixels that several patients have are an owner of their own."""
    rows: NDArray[np.int64]
    """The row of each image in the table, (N,)."""


@dataclass(frozen=True)
class Near:
    """Two rows of `Prints` that are one picture."""

    first: int
    second: int
    correlation: float
    flip: str
    """How the second has to be put to look like the first: one of FLIPS."""


@dataclass(frozen=True)
class Pair:
    """One picture under two patients."""

    images: tuple[str, str]
    patients: tuple[str, str]
    labels: tuple[str | None, str | None]
    correlation: float
    """The correlation of the two sketches; 1 where the pixels are equal."""
    flip: str
    identical: bool


def prints(images: pd.DataFrame) -> Prints:
    """The prints of a table of described images, one row for each different picture."""
    owners = pd.factorize(images["patient_id"])[0].astype(np.int64)
    shared = images.groupby("digest")["patient_id"].transform("nunique").to_numpy() > 1
    owners[shared] = owners.max(initial=0) + 1 + np.flatnonzero(shared)
    rows = np.flatnonzero(~images["digest"].duplicated().to_numpy())
    kept = images.iloc[rows]
    sketches = np.frombuffer(b"".join(kept["sketch"]), dtype=np.int8).reshape(len(kept), SIDE, SIDE)
    codes = np.ascontiguousarray(kept[["hash0", "hash1"]].to_numpy(dtype=np.uint64))
    return Prints(codes, sketches, owners[rows], rows)


def blocks(count: int) -> list[tuple[int, int]]:
    """The tasks that comparing `count` images is cut into."""
    return [(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]


def near_of(prints: Prints, start: int, stop: int) -> list[Near]:
    """The pairs of the images start..stop with later ones of other owners, the first MOST of them."""
    nearest: dict[tuple[int, int], Near] = {}
    for top in range(start, stop, STRIP):
        for flip in FLIPS:
            first, second = _candidates(prints, top, min(top + STRIP, stop), flip)
            for near in _confirmed(prints, first, second, flip):
                place = (near.first, near.second)
                if place not in nearest or near.correlation > nearest[place].correlation:
                    nearest[place] = near
        if len(nearest) >= MOST:
            break
    return [nearest[place] for place in sorted(nearest)][:MOST]


def _candidates(prints: Prints, start: int, stop: int, flip: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs within RADIUS, of different owners, the first in start..stop and the second after it."""
    chosen, others = prints.hashes[start:stop], flipped(prints.hashes[start:], flip)
    distance = np.bitwise_count(chosen[:, None, 0] ^ others[None, :, 0])
    distance += np.bitwise_count(chosen[:, None, 1] ^ others[None, :, 1])
    first, second = np.nonzero(distance <= RADIUS)
    first, second = first + start, second + start
    kept = (first < second) & (prints.owners[first] != prints.owners[second])
    return first[kept], second[kept]


def _confirmed(prints: Prints, first: NDArray[np.intp], second: NDArray[np.intp], flip: str) -> Iterable[Near]:
    for at in range(0, len(first), CHUNK):
        one, two = first[at : at + CHUNK], second[at : at + CHUNK]
        values = correlation(prints.sketches[one], flip_sketch(prints.sketches[two], flip))
        for i in np.flatnonzero(values >= ALIKE):
            yield Near(int(one[i]), int(two[i]), round(min(1.0, float(values[i])), 3), flip)


def pairs(images: pd.DataFrame, prints: Prints, near: Sequence[Near]) -> list[Pair]:
    """Equal pixels under two patients, then pictures that are nearly equal, in the order of the table."""
    doubles = []
    table = images.reset_index(drop=True)
    for _, same in table[table["digest"].duplicated(keep=False)].groupby("digest", sort=False):
        rows = same.drop_duplicates("patient_id").index.to_list()
        doubles += [_pair(images, one, two, 1.0, "", True) for one, two in pairwise(rows)]
    for match in near:
        one, two = int(prints.rows[match.first]), int(prints.rows[match.second])
        doubles.append(_pair(images, one, two, match.correlation, match.flip, False))
    return doubles


def _pair(images: pd.DataFrame, one: int, two: int, value: float, flip: str, identical: bool) -> Pair:
    rows = [images.iloc[one], images.iloc[two]]
    labels = tuple(None if pd.isna(row["label"]) else str(row["label"]) for row in rows)
    return Pair(
        (str(rows[0]["image_id"]), str(rows[1]["image_id"])),
        (str(rows[0]["patient_id"]), str(rows[1]["patient_id"])),
        (labels[0], labels[1]), value, flip, identical,
    )  # fmt: skip


def duplicate_findings(images: pd.DataFrame, pairs: Sequence[Pair]) -> list[Finding]:
    """The findings about duplicates across patients, and about equal pixels of one patient."""
    findings = []
    if pairs:
        equal = sum(pair.identical for pair in pairs)
        contrary = sum(pair.labels[0] != pair.labels[1] for pair in pairs)
        people = {patient for pair in pairs for patient in pair.patients}
        names = [f"{pair.images[0]} and {pair.images[1]}" for pair in pairs]
        sentence = (
            f"{counted(len(pairs), 'picture stands', 'pictures stand')} under two patients each ({equal} pixel for "
            f"pixel, {len(pairs) - equal} nearly): {some(names)}. Where the two patients are in different folds, a "
            "model is tested on what it was trained on."
        )
        if contrary:
            sentence += f" {contrary} of them {'has' if contrary == 1 else 'have'} two different labels."
        details = {"pairs": len(pairs), "identical": equal, "patients": len(people), "different_labels": contrary}
        findings.append(Finding(Severity.SERIOUS, "duplicates", sentence, details))
    return findings + _of_one_patient(images)


def _of_one_patient(images: pd.DataFrame) -> list[Finding]:
    again = int(images.duplicated(["patient_id", "digest"]).sum())
    if not again:
        return []
    sentence = (
        f"{counted(again, 'image is', 'images are')} pixel for pixel another one of the same patient: no leak, but "
        "these count double."
    )
    return [Finding(Severity.INFO, "repeated-images", sentence, {"images": again})]


def as_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The pairs as JSON has them."""
    return [{**asdict(pair), **{name: list(getattr(pair, name)) for name in _LISTS}} for pair in pairs]


_LISTS = ("images", "patients", "labels")
