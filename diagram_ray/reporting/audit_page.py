"""The page of an audit: what was found, the shortcut check, duplicates side by side, counts and spreads by class."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray
from PIL import Image

from diagram_ray.auditing.findings import Severity
from diagram_ray.auditing.record import Audit
from diagram_ray.auditing.shortcuts import SERIOUS, WARN
from diagram_ray.data.preprocessing.standardise import SHARES
from diagram_ray.evaluation.plots.style import DASHES, FOLDS, figure
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.reporting.charts import Picture
from diagram_ray.reporting.interval_chart import Line, draw
from diagram_ray.reporting.templates_env import environment

PICTURE_HEIGHT = 288
FLIPS = {
    "": "",
    "mirrored": "left and right exchanged",
    "upside down": "upside down",
    "turned": "turned by 180°",
}
WORDS = {
    "breast_part": "breast, part of the image",
    "picture_part": "breast, part of the prepared picture",
    "grey_mean": "grey level, mean",
    "grey_sd": "grey level, sd",
    **{f"grey_p{share:02d}": f"grey level, {share}th percentile" for share in SHARES},
    "picture_mean": "brightness of the prepared picture, mean",
    "picture_sd": "brightness of the prepared picture, sd",
    **{f"picture_p{share:02d}": f"brightness of the prepared picture, {share}th percentile" for share in SHARES},
    "label_part": "film labels, part of the image",
    "border_part": "film border, part of the image",
    "rows": "rows of the file",
    "columns": "columns of the file",
    "aspect": "columns ÷ rows",
    "spacing_mm": "pixel spacing, mm",
    "burned_in": "burned-in text",
    "source": "outermost folder",
}
"""Column of the manifest -> its name on the page."""


def audit_page(audit: Audit, pictures: Mapping[str, NDArray[np.uint16]]) -> str:
    """The page as one self-contained HTML text; `pictures` are the pixels of some images, by id."""
    classes = [str(name) for name in audit.dataset["classes"]]
    return environment().get_template("audit.html.j2").render(
        dataset=audit.dataset,
        fingerprint=audit.fingerprint,
        classes=classes,
        grade=_grade(audit),
        findings=audit.findings,
        verdict=_verdict(audit),
        file=_scores(audit, "file"),
        breast=_scores(audit, "breast"),
        unasked=audit.shortcuts["unasked"],
        bounds=(WARN, SERIOUS),
        pairs=[_pair(pair, pictures) for pair in audit.pairs],
        per_class=audit.counts["class"],
        counts=[_counts(name, rows, classes) for name, rows in audit.counts.items() if _telling(name, rows)],
        spreads=[_spread(row, classes) for row in audit.statistics],
        histogram=_histogram(audit, classes),
    )  # fmt: skip


def _telling(name: str, rows: list[dict[str, Any]]) -> bool:
    return name != "class" and len(rows) > 1


def _grade(audit: Audit) -> str:
    kinds = {finding.severity for finding in audit.findings}
    return next((kind.value for kind in (Severity.SERIOUS, Severity.WARNING) if kind in kinds), "clean")


def _verdict(audit: Audit) -> str:
    serious = len(audit.serious)
    if serious:
        what = "finding" if serious == 1 else "findings"
        return f"{serious} serious {what}: a number measured on this dataset is not to be trusted as it is."
    if any(finding.severity is Severity.WARNING for finding in audit.findings):
        return "Nothing serious was found, but there is something to look at."
    return "Nothing was found that would make a number measured on this dataset untrustworthy."


def _scores(audit: Audit, kind: str) -> dict[str, Any]:
    """The groups of one kind: those that vary as lines of a picture, the others by name."""
    groups = [group for group in audit.shortcuts["groups"] if group["kind"] == kind]
    varied = [group for group in groups if group["auc"] is not None]
    lines = [
        Line(group["name"], Interval(*group["auc"]), "main" if number == 0 and kind == "file" else "")
        for number, group in enumerate(varied)
    ]
    return {
        "scale": draw(lines),
        "notes": [(group["name"], group["note"]) for group in varied],
        "constant": [group["name"] for group in groups if group["auc"] is None],
    }


def _pair(pair: dict[str, Any], pictures: Mapping[str, NDArray[np.uint16]]) -> dict[str, Any]:
    sides = zip(pair["images"], pair["patients"], pair["labels"], strict=True)
    return {
        "sides": [
            {
                "image": image,
                "patient": patient,
                "label": label or "no label",
                "source": _png(pictures[image]) if image in pictures else "",
            }
            for image, patient, label in sides
        ],
        "words": "pixel for pixel the same" if pair["identical"] else f"nearly the same ({pair['correlation']:.2f})",
        "flip": FLIPS[pair["flip"]],
        "contrary": pair["labels"][0] != pair["labels"][1],
        "shown": all(image in pictures for image in pair["images"]),
    }


def _png(pixels: NDArray[np.uint16]) -> str:
    """A data URI of the picture, at PICTURE_HEIGHT pixels."""
    grey = Image.fromarray((pixels >> 8).astype(np.uint8))
    width = max(1, round(grey.width * PICTURE_HEIGHT / grey.height))
    buffer = io.BytesIO()
    grey.resize((width, PICTURE_HEIGHT), Image.Resampling.BILINEAR).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _counts(field: str, rows: list[dict[str, Any]], classes: list[str]) -> dict[str, Any]:
    """One column's values with the images of each class, and the part of those with a class that is positive."""
    bars = []
    for row in rows:
        images = [row["images"].get(name, 0) for name in classes]
        part = images[-1] / sum(images) if sum(images) else None
        bars.append(
            {
                "value": row["value"],
                "images": images,
                "width": 0.0 if part is None else round(100 * part, 1),
                "part": "" if part is None else f"{part:.0%}",
            }
        )
    return {"field": WORDS.get(field, field), "rows": bars}


def _spread(row: dict[str, Any], classes: list[str]) -> dict[str, Any]:
    """One number's quartiles in each class, as positions in per cent of their common range."""
    quartiles = [row["classes"][name] for name in classes if row["classes"][name]]
    low, high = min(edges[0] for edges in quartiles), max(edges[2] for edges in quartiles)
    margin = 0.15 * (high - low) or 1.0

    def at(value: float) -> float:
        return round(100 * float(value - low + margin) / float(high - low + 2 * margin), 2)

    lines = [
        {
            "name": name,
            "left": at(edges[0]),
            "width": round(at(edges[2]) - at(edges[0]), 2),
            "at": at(edges[1]),
            "text": _short(edges[1]),
            "reach": f"{_short(edges[0])} to {_short(edges[2])}",
        }
        for name, edges in ((name, row["classes"][name]) for name in classes)
        if edges
    ]
    auc = "" if row["auc"] is None else f"{row['auc']:.2f}"
    return {"name": WORDS.get(row["column"], row["column"]), "lines": lines, "auc": auc}


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _histogram(audit: Audit, classes: list[str]) -> Picture | None:
    shown = {name: audit.histograms[name] for name in classes if name in audit.histograms}
    if not shown:
        return None
    words = f"Mean histogram of the grey levels of the breast, of {' and '.join(shown)}"
    return Picture("Grey levels of the breast in the prepared pictures", histogram(shown), words)


@figure(4.7, 2.9)
def histogram(ax: Axes, classes: Mapping[str, Sequence[float]]) -> None:
    """The mean histogram of each class: the part of the breast's pixels in each bin of the grey scale."""
    for number, (name, parts) in enumerate(classes.items()):
        edges = np.linspace(0, 1, len(parts) + 1)
        ax.stairs(parts, edges, color=FOLDS[number % len(FOLDS)], linestyle=DASHES[number % len(DASHES)],
                  linewidth=1.8, label=name)  # fmt: skip
    ax.set(xlim=(0, 1), xlabel="grey level, 0 darkest to 1 brightest", ylabel="part of the breast")
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend(loc="upper right")
