"""Description tables and trees of files as CBIS-DDSM has them."""

import csv
import io
from pathlib import Path

Row = dict[str, str]
OWN = {"mass": ("mass shape", "mass margins"), "calc": ("calc type", "calc distribution")}


def columns(kind: str) -> list[str]:
    density = {"mass": "breast_density", "calc": "breast density"}[kind]
    start = ["patient_id", density, "left or right breast", "image view", "abnormality id", "abnormality type"]
    end = ["assessment", "pathology", "subtlety", "image file path", "cropped image file path", "ROI mask file path"]
    return [*start, *OWN[kind], *end]


def uid(*words: object) -> str:
    """A number that looks like a UID, of its own for each combination of words."""
    return "1.3.6.1.4.1.9590.100.1.2." + str(int.from_bytes("|".join(map(str, words)).encode()) % 10**36)


def row(
    patient: str = "P_00001", side: str = "LEFT", view: str = "CC", number: int = 1, pathology: str = "BENIGN",
    kind: str = "mass", part: str = "Training", **changed: str,
) -> Row:  # fmt: skip
    folder = f"{kind.title()}-{part}_{patient}_{side}_{view}"
    crop, mask = ("000000", "000001") if kind == "mass" else ("000001", "000000")
    places = {
        "image file path": f"{folder}/{uid(folder, 'study')}/{uid(folder)}/000000.dcm",
        "cropped image file path": f"{folder}_{number}/{uid(folder, number, 'study')}/{uid(folder, number)}/{crop}.dcm",
        "ROI mask file path": f"{folder}_{number}/{uid(folder, number, 'study')}/{uid(folder, number)}/{mask}.dcm",
    }
    places["ROI mask file path" if kind == "mass" else "cropped image file path"] += "\n"
    kinds = {"mass": "mass", "calc": "calcification"}
    values = [patient, "2", side, view, str(number), kinds[kind], "OVAL", "NA", "4", pathology, "3"]
    return dict(zip(columns(kind), [*values, *places.values()], strict=True)) | changed


def table(rows: list[Row], kind: str = "mass") -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns(kind), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def old_paths(one: Row) -> dict[str, str]:
    """Where the older downloading program puts a row's files: image, crop and mask."""
    image, crop, mask = (one[name].strip().rpartition("/")[0] for name in list(one)[-3:])
    return {"image": f"{image}/1-1.dcm", "crop": f"{crop}/1-1.dcm", "mask": f"{mask}/1-2.dcm"}


def new_paths(one: Row) -> dict[str, str]:
    """Where the newer one puts them."""
    image, crop, mask = (one[name].partition("/")[0] for name in list(one)[-3:])
    described = {"image": "full mammogram images", "crop": "ROI mask images", "mask": "ROI mask images"}
    return {
        what: f"{folder}/07-20-2016-DDSM-NA-74994/1.000000-{described[what]}-24515/1-{1 + (what == 'mask')}.dcm"
        for what, folder in (("image", image), ("crop", crop), ("mask", mask))
    }


def flat_paths(one: Row) -> dict[str, str]:
    """Where some copies of the archive have them: no folder but the series'."""
    return {what: "/".join(path.split("/")[-2:]) for what, path in old_paths(one).items()}


def touch(root: Path, paths: dict[str, str]) -> None:
    for path in paths.values():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def write_tree(root: Path, mass: list[Row], calc: list[Row] | None = None, part: str = "train") -> Path:
    """A source with the tables and, in the older layout, an empty file for each image, crop and mask."""
    root.mkdir(parents=True, exist_ok=True)
    (root / f"mass_case_description_{part}_set.csv").write_bytes(table(mass))
    if calc is not None:
        (root / f"calc_case_description_{part}_set.csv").write_bytes(table(calc, "calc"))
    for one in [*mass, *(calc or [])]:
        touch(root / "CBIS-DDSM", old_paths(one))
    return root
