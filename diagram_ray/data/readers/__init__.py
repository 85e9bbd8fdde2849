"""Readers of raw data sets: which images there are and what the source says of them."""

from dataclasses import dataclass

from diagram_ray.data.records import Index


@dataclass(frozen=True)
class ReaderOptions:
    """The options of a reader besides its source; each is for some formats only."""

    normals: bool = False
    table: str | None = None
    positive: str | None = None
    patient_pattern: str | None = None
    keep_columns: tuple[str, ...] = ()


def open_index(format_: str, source: str, options: ReaderOptions) -> Index:
    """The index of `source`, a data set of a format: 'ddsm', 'cbis-ddsm', 'inbreast', 'mias' or 'folder'.

    Raises DataError if it is not there or nothing in it can be used.
    """
    if format_ == "ddsm":
        from diagram_ray.data.readers import ddsm

        return ddsm.index(source, options.normals)
    if format_ == "cbis-ddsm":
        from diagram_ray.data.readers import cbis

        return cbis.index(source)
    if format_ == "inbreast":
        from diagram_ray.data.readers import inbreast

        return inbreast.index(source)
    if format_ == "mias":
        from diagram_ray.data.readers import mias

        return mias.index(source)
    from diagram_ray.data.readers import folder

    pattern = options.patient_pattern or folder.PATIENT
    return folder.index(source, options.table, options.positive, pattern, options.keep_columns)


def root_of(source: str) -> str:
    """The folder `source` as the paths of its records begin. Raises DataError if there is none."""
    from diagram_ray.data.readers.source import Source

    return Source(source).full("").rstrip("/")
