"""Whether the parts of a dataset say the same: the manifest, the images and the patches."""

import pandas as pd

from diagram_ray.auditing.findings import Finding, Severity, counted, some

STRANGE, ORPHAN, CONTRARY = "another patient", "no such image", "another class"
FLAW_META = pd.DataFrame({name: pd.Series(dtype=object) for name in ("patch_id", "image_id", "flaw")})
"""The columns of `patch_flaws`."""


def patch_flaws(patches: pd.DataFrame, manifest: pd.DataFrame, positive: str) -> pd.DataFrame:
    """Rows of patches that contradict the manifest, with what is wrong in `flaw`.

    A lesion of the positive class on an image of another class is wrong; one without its own class, or on an image
    without one, is not.
    """
    of_image = manifest[["image_id", "patient_id", "label"]]
    joined = patches.merge(of_image, on="image_id", how="left", suffixes=("", "_of_image"))
    flaw = pd.Series("", index=joined.index, dtype=object)
    contrary = (joined["label"] == positive) & joined["label_of_image"].notna()
    flaw[contrary & (joined["label_of_image"] != positive)] = CONTRARY
    flaw[joined["patient_id"] != joined["patient_id_of_image"]] = STRANGE
    flaw[joined["patient_id_of_image"].isna()] = ORPHAN
    joined["flaw"] = flaw
    return joined.loc[flaw != "", FLAW_META.columns].astype(object)


def patch_findings(flaws: pd.DataFrame, there: int, expected: int) -> list[Finding]:
    """The findings of `patch_flaws` in sentences; `there` is the number of patches, `expected` that of dataset.json."""
    kinds = (
        (STRANGE, "foreign-patches", Severity.SERIOUS, "{} cut from {} of another patient: {}."),
        (ORPHAN, "orphan-patches", Severity.SERIOUS, "{} from {} that the dataset does not have: {}."),
        (CONTRARY, "contrary-patches", Severity.WARNING, "{} of the positive class on {} of another class: {}."),
    )
    findings = []
    if there != expected:
        sentence = f"There are {counted(there, 'patch', 'patches')}, and dataset.json says {expected}."
        findings.append(Finding(Severity.SERIOUS, "missing-patches", sentence, {"there": there, "said": expected}))
    for flaw, code, severity, sentence in kinds:
        rows = flaws[flaws["flaw"] == flaw]
        if len(rows):
            images = sorted(set(rows["image_id"].astype(str)))
            patches = counted(len(rows), "patch is", "patches are")
            text = sentence.format(patches, counted(len(images), "image"), some(images))
            findings.append(Finding(severity, code, text, {"patches": len(rows), "images": images[:20]}))
    return findings


def image_findings(images: pd.DataFrame, manifest: pd.DataFrame) -> list[Finding]:
    """The findings about images that the manifest does not have or describes otherwise, and about missing ones."""
    columns = [name for name in ("image_id", "patient_id", "label", "digest") if name in manifest]
    joined = images.merge(manifest[columns], on="image_id", how="outer", suffixes=("", "_manifest"), indicator=True)
    both = joined[joined["_merge"] == "both"]
    flaws = {
        "missing-images": (
            joined[joined["_merge"] == "right_only"],
            "is in the manifest, but its pixels are not there",
        ),
        "unknown-images": (joined[joined["_merge"] == "left_only"], "is not in the manifest"),
        "doubled-images": (both[both["image_id"].duplicated()], "stands in the shards more than once"),
        **{
            f"other-{name}": (both[_differ(both, name)], f"has another {what} in its shard than in the manifest")
            for name, what in (("patient_id", "patient"), ("label", "label"), ("digest", "content"))
            if name in columns
        },
    }
    return [_image_finding(code, rows, what) for code, (rows, what) in flaws.items() if len(rows)]


def _differ(joined: pd.DataFrame, name: str) -> "pd.Series[bool]":
    one, two = joined[name], joined[f"{name}_manifest"]
    return (one != two) & ~(one.isna() & two.isna())


def _image_finding(code: str, rows: pd.DataFrame, what: str) -> Finding:
    ids = sorted(rows["image_id"].astype(str))
    sentence = f"{counted(len(ids), 'image')}: each {what} ({some(ids)})."
    return Finding(Severity.SERIOUS, code, sentence, {"images": ids[:20], "count": len(ids)})
