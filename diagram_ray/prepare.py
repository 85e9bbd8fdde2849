"""Prepare mammograms: from a data set's own files to a dataset of Parquet shards that everything else reads.

    python -m diagram_ray.prepare phantom   --out runs/phantom                     # made up; about a minute
    python -m diagram_ray.prepare ddsm      --source s3://bucket/DDSM --out s3://bucket/ddsm
    python -m diagram_ray.prepare cbis-ddsm --source ~/CBIS-DDSM --out data/cbis
    python -m diagram_ray.prepare inbreast  --source ~/INbreast --out data/inbreast
    python -m diagram_ray.prepare mias      --source ~/mias --out data/mias --image-size 128x96 --background-patches 4
    python -m diagram_ray.prepare folder    --source ~/images --table ~/images.csv --out data/ours --update

Leaves dataset.json, manifest.parquet, images/, patches/, rejects.parquet and sources.parquet. A file that cannot be
used becomes a row of rejects.parquet with its reason, and preparation goes on. The same command goes on with a run that
was cut off; --update takes over from the dataset that is there what has not changed in the source.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diagram_ray import cli
from diagram_ray.errors import UsageError

if TYPE_CHECKING:
    from diagram_ray.data.decoding.dicom.kind import Allowed
    from diagram_ray.data.parquet.progress import PreparationProgress
    from diagram_ray.data.readers import ReaderOptions
    from diagram_ray.data.records import Index

PUBLIC_KEY = b"diagram_ray"
"""The key of the phantom's hashes: its patients do not exist, and its dataset is the same everywhere."""
PHANTOM_SIZE = (128, 96)
FULL_SIZE = (512, 384)
PHANTOM_HEIGHT = 416
PHANTOM_PATIENTS = 120
PHANTOM_DIFFICULTY = 0.3
BETWEEN_LINES = 60.0
"""Seconds between lines of progress, where it is no bar."""

app = cli.new_app()


class Format(StrEnum):
    """The formats of data sets that can be read."""

    phantom = "phantom"
    ddsm = "ddsm"
    cbis_ddsm = "cbis-ddsm"
    inbreast = "inbreast"
    mias = "mias"
    folder = "folder"


OF_DICOM = (Format.cbis_ddsm, Format.inbreast, Format.folder)
"""Formats whose images are DICOM files, or may be."""

Source = Annotated[
    str | None,
    typer.Option("--source", help="The data set's folder or URI. phantom: where its DICOM files are to be kept"),
]
Out = Annotated[str, typer.Option("--out", help="The dataset: a new folder or a URI such as s3://bucket/name")]
Update = Annotated[bool, typer.Option("--update", help="OUT may be there: only what is new or changed is decoded")]
Size = Annotated[
    str | None, typer.Option("--image-size", metavar="HxW", help="Default: 512x384; 128x96 for the phantom")
]
PatchSize = Annotated[int, typer.Option("--patch-size", min=16, help="Side of a patch in pixels, a multiple of 16")]
Key = Annotated[
    Path | None,
    typer.Option("--key", help="File with the secret that patient ids are hashed with. Default: the user's own"),
]
Background = Annotated[
    int | None,
    typer.Option("--background-patches", min=0, help="Per image. Default: 4 where no lesion is marked, else 0"),
]
Normals = Annotated[bool, typer.Option("--normals", help="ddsm: normal films are negative, as benign ones are")]
Table = Annotated[str | None, typer.Option("--table", help="folder: CSV or Parquet with path, patient, label, ...")]
Positive = Annotated[str | None, typer.Option("--positive", help="folder: the positive class")]
Pattern = Annotated[
    str | None, typer.Option("--patient-pattern", help="folder: regular expression; its group is the patient in a name")
]
Keep = Annotated[
    str | None, typer.Option("--keep-columns", metavar="A,B", help="folder: further columns of the table to keep")
]
AnyModality = Annotated[
    bool, typer.Option("--any-modality", help="Takes DICOM images that are no mammograms by Modality or SOP class, too")
]
ForProcessing = Annotated[
    bool, typer.Option("--for-processing", help="Takes DICOM images FOR PROCESSING (raw detector values), too")
]
Patients = Annotated[
    int | None,
    typer.Option("--patients", min=1, help=f"phantom: how many, of four images. Default: {PHANTOM_PATIENTS}"),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="phantom: same seed, same files. Default: 0")]
Difficulty = Annotated[
    float | None, typer.Option("--difficulty", min=0, max=1, help=f"phantom: faintness. Default: {PHANTOM_DIFFICULTY}")
]
Json = Annotated[bool, typer.Option("--json", help="Print dataset.json on one line of standard output")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.prepare phantom --out runs/phantom --patients 20")
def prepare(
    format_: Annotated[Format, typer.Argument(metavar="FORMAT", help=", ".join(Format))],
    out: Out,
    source: Source = None,
    update: Update = False,
    image_size: Size = None,
    patch_size: PatchSize = 32,
    key: Key = None,
    background_patches: Background = None,
    normals: Normals = False,
    table: Table = None,
    positive: Positive = None,
    patient_pattern: Pattern = None,
    keep_columns: Keep = None,
    any_modality: AnyModality = False,
    for_processing: ForProcessing = False,
    patients: Patients = None,
    seed: Seed = None,
    difficulty: Difficulty = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prepare mammograms as a dataset of Parquet shards."""

    def work() -> dict[str, Any]:
        _check_options(format_, source, patch_size, {
            "--normals": (normals or None, Format.ddsm), "--table": (table, Format.folder),
            "--positive": (positive, Format.folder), "--patient-pattern": (patient_pattern, Format.folder),
            "--keep-columns": (keep_columns, Format.folder), "--any-modality": (any_modality or None, *OF_DICOM),
            "--for-processing": (for_processing or None, *OF_DICOM), "--patients": (patients, Format.phantom),
            "--seed": (seed, Format.phantom), "--difficulty": (difficulty, Format.phantom),
        })  # fmt: skip
        size = _size(image_size) if image_size else PHANTOM_SIZE if format_ == Format.phantom else FULL_SIZE
        _check_place(out, update)
        from diagram_ray.data.decoding.dicom.kind import Allowed

        allowed = Allowed(any_modality, for_processing)
        plan = DatasetPlan(size, patch_size, background_patches, _secret(key) if key else None, update, allowed)
        if format_ == Format.phantom:
            chosen = patients or PHANTOM_PATIENTS, seed or 0, PHANTOM_DIFFICULTY if difficulty is None else difficulty
            from diagram_ray.data.phantom.settings import raw_folder

            with raw_folder(source, out, *chosen, PHANTOM_HEIGHT) as raw:
                return prepare_phantom(out, raw, *chosen, plan)
        from diagram_ray.data.readers import ReaderOptions

        columns = tuple(name.strip() for name in (keep_columns or "").split(",") if name.strip())
        return _prepare_source(
            format_, source or "", out, ReaderOptions(normals, table, positive, patient_pattern, columns), plan
        )

    cli.run(work, as_json=as_json, debug=debug)


@dataclass(frozen=True)
class DatasetPlan:
    """The options of making a dataset."""

    image_size: tuple[int, int] = PHANTOM_SIZE
    patch_size: int = 32
    background_patches: int | None = None
    """Background patches per image; None: 4 where the reader found no region at all, else 0."""
    key: bytes | None = None
    """The secret key of the hashes; None: the public one for phantoms, the user's own for all else."""
    update: bool = False
    allowed: "Allowed | None" = None
    """DICOM images that are taken although they are no mammograms, or FOR PROCESSING; None: mammograms only."""


def prepare_phantom(
    out: str,
    raw: Path,
    patients: int,
    seed: int = 0,
    difficulty: float = PHANTOM_DIFFICULTY,
    plan: DatasetPlan = DatasetPlan(),
) -> dict[str, Any]:
    """Makes phantom mammograms in `raw`, or takes those of an equal call, and prepares them; returns dataset.json."""
    from diagram_ray.data.phantom import make_phantom
    from diagram_ray.data.readers import inbreast

    with cli.progress_bar("making phantoms", BETWEEN_LINES) as report:
        make_phantom(
            raw, patients, seed, difficulty, PHANTOM_HEIGHT, progress=lambda done, all_: report(done, all_, "")
        )
    index = replace(inbreast.index(str(raw)), name="phantom")
    return prepare_index(index, out, "phantom", str(raw), replace(plan, key=plan.key or PUBLIC_KEY))


def _prepare_source(
    format_: Format, source: str, out: str, options: "ReaderOptions", plan: DatasetPlan
) -> dict[str, Any]:
    from diagram_ray.data.readers import open_index, root_of

    if format_ == Format.folder and not options.table and not options.patient_pattern:
        cli.log.info("a file's patient is what its name begins with, up to - or _; --patient-pattern changes that")
    index = open_index(format_.value, source, options)
    for note in index.notes:
        cli.log.info("%s", note)
    return prepare_index(index, out, format_.value, root_of(source), plan)


def prepare_index(index: "Index", out: str, source_format: str, root: str, plan: DatasetPlan) -> dict[str, Any]:
    """Prepares what a reader found in the folder `root`, on a Ray cluster or this machine; returns dataset.json."""
    from diagram_ray.data.decoding.dicom.kind import USUAL
    from diagram_ray.data.preprocessing.prepare_image import Options
    from diagram_ray.distributed.prepare_dataset import prepare_dataset
    from diagram_ray.distributed.session import ray_session

    background = plan.background_patches
    if background is None:
        background = 0 if any(record.regions or record.masks for record in index.records) else 4
    key = plan.key or _secret(None)
    options = Options(plan.image_size, plan.patch_size, background, key, index.classes[0], root, plan.allowed or USUAL)
    with ray_session(), _progress() as show:
        info = prepare_dataset(index, out, options, source_format, show, plan.update)
    counts = info["counts"]
    cli.log.info(
        "%s: %d images of %d patients, %d patches, %d rejected%s",
        out, counts["images"], counts["patients"], counts["patches"], counts["rejects"],
        "; the reasons are in rejects.parquet" if counts["rejects"] else "",
    )  # fmt: skip
    return info


@contextmanager
def _progress() -> Iterator[Callable[["PreparationProgress"], None]]:
    """A bar for each stage: files and megapixels a second, rejects, time left."""
    from diagram_ray.data.parquet.progress import Speed

    with ExitStack() as stack:
        stage, speed = "", Speed()
        report: Callable[[int, int, str], None] = lambda done, total, text: None  # noqa: E731

        def show(tally: "PreparationProgress") -> None:
            nonlocal stage, report
            if tally.what != stage:
                stack.close()
                stage = tally.what
                report = stack.enter_context(cli.progress_bar(stage, BETWEEN_LINES))
            report(tally.done, tally.total, speed.text(tally))

        yield show


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if match is None or min(size := (int(match[1]), int(match[2]))) < 32:
        raise UsageError(f"--image-size {text!r}: expected HEIGHTxWIDTH of at least 32 pixels, for example 512x384")
    return size


def _check_options(
    format_: Format, source: str | None, patch_size: int, of_some_formats: dict[str, tuple[object, *tuple[Format, ...]]]
) -> None:
    """What does not go together is refused, not ignored."""
    if patch_size % 16:
        raise UsageError(f"--patch-size {patch_size}: must be a multiple of 16")
    if format_ == Format.phantom and source and "://" in source:
        raise UsageError(f"--source {source}: phantoms are made in a local folder")
    if format_ != Format.phantom and not source:
        raise UsageError(f"prepare {format_.value}: --source is missing: the folder that holds the data set's files")
    for name, (value, *formats) in of_some_formats.items():
        if value is not None and format_ not in formats:
            raise UsageError(f"{name} is for prepare {' or '.join(formats)}, not for prepare {format_.value}")


def _check_place(out: str, update: bool) -> None:
    from diagram_ray.data.parquet.layout import check_vacant

    if not update:
        check_vacant(out)


def _secret(path: Path | None) -> bytes:
    from diagram_ray.data.preprocessing.pseudonym_key import read_key

    return read_key(path)


if __name__ == "__main__":
    app()
