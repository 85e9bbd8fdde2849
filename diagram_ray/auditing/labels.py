"""Labels that contradict each other, and classes that have too few patients to measure anything."""

import pandas as pd

from diagram_ray.auditing.findings import Finding, Severity, counted, some

FEWEST = 10
"""Patients of a class below which neither a classifier nor a shortcut can be judged."""
FILM = ["patient_id", "exam_id", "laterality", "view"]
"""The columns that say what one label belongs to, where labels are given to images."""
BREAST = FILM[:3]


def label_findings(manifest: pd.DataFrame, images: pd.DataFrame, classes: tuple[str, ...]) -> list[Finding]:
    """The findings about the manifest's column `label`; `images` are the described ones."""
    known = manifest[manifest["label"].notna()]
    return [
        *_few(known, classes),
        *_one_picture(images),
        *_one_film(known),
        *_views(known),
        *_patients(known),
        *_unlabelled(manifest),
    ]


def _few(known: pd.DataFrame, classes: tuple[str, ...]) -> list[Finding]:
    counts = {name: int(known.loc[known["label"] == name, "patient_id"].nunique()) for name in classes}
    few = {name: count for name, count in counts.items() if count < FEWEST}
    if not few:
        return []
    numbers = " and ".join(f"“{name}” {counted(count, 'patient')}" for name, count in few.items())
    sentence = f"Too few to measure anything: {numbers}, and {FEWEST} of each class are the least to judge anything by."
    return [Finding(Severity.WARNING, "few-patients", sentence, counts)]


def _one_picture(images: pd.DataFrame) -> list[Finding]:
    """The same pixels under two labels: one of them is wrong."""
    known = images[images["label"].notna()]
    kinds = known.groupby("digest")["label"].nunique()
    wrong = known[known["digest"].isin(kinds.index[kinds > 1])]
    if wrong.empty:
        return []
    ids = sorted(wrong["image_id"].astype(str))
    many = counted(wrong["digest"].nunique(), "picture has", "pictures have")
    sentence = f"{many} two labels: {some(ids)} are pixel for pixel the same, and one label must be wrong."
    return [Finding(Severity.SERIOUS, "two-labels", sentence, {"images": ids[:20]})]


def _one_film(known: pd.DataFrame) -> list[Finding]:
    """Two labels of one breast in one view and exam. A spot view beside the whole one may be why; else one is wrong."""
    films = _conflicts(known, FILM)
    if films.empty:
        return []
    ids = sorted(films["image_id"].astype(str))
    many = counted(films.groupby(FILM).ngroups, "time")
    sentence = f"Images of one breast in one view of one exam have different labels, {many}: {some(ids)}."
    return [Finding(Severity.WARNING, "film-labels", sentence, {"images": ids[:20]})]


def _views(known: pd.DataFrame) -> list[Finding]:
    breasts = _conflicts(known, BREAST)
    if breasts.empty:
        return []
    many = counted(breasts.groupby(BREAST).ngroups, "breast has", "breasts have")
    sentence = (
        f"{many} different labels in different images of one exam. That is as it should be if a label says what is "
        "seen in the image, and an error if it says what the breast has."
    )
    return [Finding(Severity.INFO, "breast-labels", sentence, {"breasts": breasts.groupby(BREAST).ngroups})]


def _patients(known: pd.DataFrame) -> list[Finding]:
    kinds = known.groupby("patient_id")["label"].nunique()
    mixed = int((kinds > 1).sum())
    if not mixed:
        return []
    sided = known["laterality"].notna().all() if "laterality" in known else False
    sentence = f"{mixed} of {counted(len(kinds), 'patient has', 'patients have')} images of more than one class."
    sentence += (
        " A healthy breast beside a diseased one is the usual reason."
        if sided
        else " The side of the images is not known, so it cannot be told whether these are two breasts or an error."
    )
    return [Finding(Severity.INFO, "mixed-patients", sentence, {"patients": mixed, "of": len(kinds)})]


def _unlabelled(manifest: pd.DataFrame) -> list[Finding]:
    count = int(manifest["label"].isna().sum())
    if not count:
        return []
    sentence = f"{counted(count, 'image has', 'images have')} no label and {'is' if count == 1 else 'are'} not used."
    return [Finding(Severity.INFO, "no-label", sentence, {"images": count})]


def _conflicts(known: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The images of the groups that have more than one label; none where a key is not known."""
    if not set(keys) <= set(known.columns):
        return known.iloc[:0]
    complete = known.dropna(subset=keys)
    return complete[complete.groupby(keys)["label"].transform("nunique") > 1]
