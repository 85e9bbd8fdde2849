"""Who the phantom's patients are: everything about a patient but the pixels, drawn from (seed, patient number).

Each property has a stream of random numbers of its own. So density, film labels, background, polarity and names are
independent of the diagnosis by construction, and adding a draw to one of them changes none of the others.
"""

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

CANCER_SHARE = 0.6
BLOCK = 5
"""Patients in a block: of each 5 in a row 3 have cancer, so small phantoms have enough of both classes for their
folds."""
VIEWS = (("R", "CC"), ("L", "CC"), ("R", "MLO"), ("L", "MLO"))
"""The order in which an exam's images are taken."""
HEALTHY_SHARE = 0.6
"""Part of the breasts without cancer that have no lesion either, in the archives' forms."""
CANCER_BIRADS = ("4a", "4b", "4c", "5", "6")


class Stream(IntEnum):
    """One independent sequence of random numbers for each purpose."""

    DIAGNOSIS = 0
    LESION = 1
    DENSITY = 2
    SHAPE = 3
    TISSUE = 4
    FILM = 5
    POLARITY = 6
    NAME = 7
    NOISE = 8
    SCANNER = 9
    ARCHIVE = 10


def stream(seed: int, patient: int, purpose: Stream, part: int = 0) -> np.random.Generator:
    """The generator of one purpose of one patient; `part` tells its views or breasts apart."""
    return np.random.default_rng([seed, patient, int(purpose), part])


@dataclass(frozen=True)
class PatientPlan:
    """A patient and their one exam."""

    number: int
    key: str
    """The patient's key in the file names, 16 hex digits."""
    date: str
    """The date of the exam, YYYYMM."""
    density: int
    """ACR 1 (fatty) to 4 (dense)."""
    birads: dict[str, str]
    """The BI-RADS category of each breast: laterality -> category."""
    inverted: tuple[bool, ...]
    """Whether the image of each of VIEWS is written dark on white."""

    def file_id(self, view: int) -> str:
        """Eight digits or more, unique in the phantom; steps of 24 within an exam, as in INbreast."""
        return str(20_000_000 + 120 * self.number + 24 * view)


def plan_patient(seed: int, number: int) -> PatientPlan:
    """The plan of patient `number` (from 0): a pure function of its arguments."""
    name = stream(seed, number, Stream.NAME)
    polarity = stream(seed, number, Stream.POLARITY)
    return PatientPlan(
        number=number,
        key=name.bytes(8).hex(),
        date=f"{name.integers(2008, 2011)}{name.integers(1, 13):02d}",
        density=int(stream(seed, number, Stream.DENSITY).choice([1, 2, 3, 4], p=[0.33, 0.36, 0.24, 0.07])),
        birads=_diagnosis(seed, number),
        inverted=tuple(bool(draw < 0.02) for draw in polarity.random(4)),
    )


def plan_archived(seed: int, number: int) -> PatientPlan:
    """The patient as DDSM and CBIS-DDSM have them: some breasts without a lesion, no film dark on white."""
    plan = plan_patient(seed, number)
    healthy = dict(zip("LR", stream(seed, number, Stream.ARCHIVE).random(2) < HEALTHY_SHARE, strict=True))
    birads = {side: "1" if grade == "2" and healthy[side] else grade for side, grade in plan.birads.items()}
    return replace(plan, birads=birads, inverted=(False,) * len(VIEWS))


def _diagnosis(seed: int, number: int) -> dict[str, str]:
    """Every breast has a lesion: BI-RADS 2 or, rarely, 3 where it is benign."""
    rng = stream(seed, number, Stream.DIAGNOSIS)
    order = stream(seed, number // BLOCK, Stream.DIAGNOSIS, part=1).permutation(BLOCK)
    birads = {"L": "2", "R": "2"}
    side = str(rng.choice(["L", "R"]))
    if order[number % BLOCK] < CANCER_SHARE * BLOCK:
        birads[side] = str(rng.choice(CANCER_BIRADS, p=[0.13, 0.08, 0.22, 0.49, 0.08]))
    elif rng.random() < 0.08:
        birads[side] = "3"
    return birads
