"""What a reader of a raw data set returns: which images there are, what is known of them, and what could not be used.

A reader opens tables and annotation files only. Pixels, and whatever stands in an image's own header, are read later.
"""

from dataclasses import dataclass, field

OWN_COLUMNS = (
    *("image_id", "patient_id", "exam_id", "laterality", "view", "label", "spacing_mm", "burned_in", "rows", "columns"),
    *("source_folder", "inverted", "mirrored", "breast_part", "label_part", "border_part", "grey_mean", "grey_sd"),
    *("grey_p05", "grey_p25", "grey_p50", "grey_p75", "grey_p95", "digest"),
)
"""Columns of the manifest that preparation fills; `ImageRecord.columns` has others."""


@dataclass(frozen=True)
class Region:
    """A lesion's bounding box in one image."""

    box: tuple[float, float, float, float]
    """The box (top, left, bottom, right) in pixels of the original image; bottom and right are exclusive."""
    finding: str
    """What was outlined, in lower case: 'mass', 'calcification', ..."""
    label: str | None
    """The region's class; None where the source gives none."""


@dataclass(frozen=True)
class Mask:
    """A lesion outlined by a picture of its own, as large as the image. Its box is found when pixels are read."""

    paths: tuple[str, ...]
    """The files that may be the mask. One of them is, which its content shows: names err."""
    finding: str
    """The finding, as in Region."""
    label: str | None
    """The label, as in Region."""


@dataclass(frozen=True)
class Film:
    """What the file of a digitised film does not say of itself."""

    shape: tuple[int, int]
    """The shape (rows, columns): a DDSM file may name them in the wrong order."""
    scanner: str
    """Which curve leads from its grey levels to optical density: a key of
    `diagram_ray.data.decoding.optical_density.CURVES`."""


@dataclass(frozen=True)
class ImageRecord:
    """One image that can be read, and what the source's tables say of it."""

    path: str
    """Where the pixels are: a local path or an fsspec URI."""
    image_id: str
    patient_id: str
    """The source's own key, never written to an output: it becomes a keyed hash first."""
    exam_id: str
    """The patient's images of one date share it. Built from `patient_id`, so it is hashed as well."""
    laterality: str | None
    """The breast: 'L' or 'R'."""
    view: str | None
    """The view: 'CC', 'MLO', 'FB', ..."""
    label: str | None
    """The image's class; None where the source leaves it open (BI-RADS 3, say)."""
    columns: dict[str, str | float | None] = field(default_factory=dict)
    """Further columns of the manifest: 'birads', 'density', 'finding', ..."""
    regions: tuple[Region, ...] = ()
    spacing_mm: float | None = None
    """Size of a pixel; None where only the image's own header gives it."""
    masks: tuple[Mask, ...] = ()
    """Regions that are not known before their masks are read."""
    film: Film | None = None
    """The facts about a digitised film; None where the file says all that its decoder needs."""


@dataclass(frozen=True)
class Reject:
    """A file, or a part of one, that was left out, and why.

    The reason quotes no cell of a table and no value of a header: it names the row and column, or the tag.
    """

    path: str
    """Bytes of a name that are no text stand as \\udcXX, as only text can be written down."""
    reason: str
    patient_id: str | None = None
    """The source's own key of the patient that the path or the reason may tell; it becomes a hash before it is written.
    None if the reader knows none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", self.path.encode(errors="backslashreplace").decode())


@dataclass(frozen=True)
class Index:
    """A raw data set: its images, what was left out, and its two classes with the negative one first."""

    records: list[ImageRecord]
    rejects: list[Reject]
    classes: tuple[str, ...]
    name: str
    notes: tuple[str, ...] = ()
    """Sentences that whoever uses the data set should know, with counts and without names."""


ROI, BACKGROUND = "roi", "background"
