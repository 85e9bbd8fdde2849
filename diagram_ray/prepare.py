"""Prepare mammograms: from a data set's own files to a dataset of Parquet shards that everything else reads.

    python -m diagram_ray.prepare phantom  --out runs/phantom                     # made up; about a minute
    python -m diagram_ray.prepare inbreast --source ~/INbreast --out data/inbreast
    python -m diagram_ray.prepare mias     --source ~/mias --out data/mias --image-size 128x96 --background-patches 4
    python -m diagram_ray.prepare folder   --source ~/images --table ~/images.csv --out s3://bucket/ours

Leaves dataset.json, manifest.parquet, images/, patches/ and rejects.parquet. A file that cannot be used becomes a row
of rejects.parquet with its reason, and preparation goes on.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from diagram_ray import cli
from diagram_ray.errors import UsageError

if TYPE_CHECKING:
    from diagram_ray.data.records import Index

PUBLIC_KEY = b"diagram_ray"
"""Of the hashes where no --key is given: fit for public data, whose patient ids are no secret."""
PHANTOM_SIZE = (96, 72)
FULL_SIZE = (512, 384)
PHANTOM_HEIGHT = 416
PHANTOM_PATIENTS = 120
PHANTOM_DIFFICULTY = 0.3

app = cli.new_app()


class Format(StrEnum):
    """What can be read."""

    phantom = "phantom"
    inbreast = "inbreast"
    mias = "mias"
    folder = "folder"


Source = Annotated[
    str | None,
    typer.Option("--source", help="The data set's folder or URI. phantom: where its DICOM files are to be kept"),
]
Out = Annotated[str, typer.Option("--out", help="The dataset: a new folder or a URI such as s3://bucket/name")]
Size = Annotated[
    str | None, typer.Option("--image-size", metavar="HxW", help="Default: 512x384; 96x72 for the phantom")
]
PatchSize = Annotated[int, typer.Option("--patch-size", min=16, help="Side of a patch in pixels, a multiple of 16")]
Key = Annotated[Path | None, typer.Option("--key", help="File with the secret that patient ids are hashed with")]
Background = Annotated[
    int | None,
    typer.Option("--background-patches", min=0, help="Per image. Default: 4 where no lesion is marked, else 0"),
]
Table = Annotated[str | None, typer.Option("--table", help="folder: CSV or Parquet with path, patient, label, ...")]
Positive = Annotated[str | None, typer.Option("--positive", help="folder: the positive class")]
Pattern = Annotated[
    str | None, typer.Option("--patient-pattern", help="folder: regular expression; its group is the patient in a name")
]
Patients = Annotated[int, typer.Option("--patients", min=1, help="phantom: how many, with four images each")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="phantom: same seed, same files")]
Difficulty = Annotated[float, typer.Option("--difficulty", min=0, max=1, help="phantom: how faint lesions are, 0 to 1")]
Json = Annotated[bool, typer.Option("--json", help="Print dataset.json on one line of standard output")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks")]


@app.command(epilog="Example: python -m diagram_ray.prepare phantom --out runs/phantom --patients 20")
def prepare(
    format_: Annotated[Format, typer.Argument(metavar="FORMAT", help="phantom, inbreast, mias or folder")],
    out: Out,
    source: Source = None,
    image_size: Size = None,
    patch_size: PatchSize = 32,
    key: Key = None,
    background_patches: Background = None,
    table: Table = None,
    positive: Positive = None,
    patient_pattern: Pattern = None,
    patients: Patients = PHANTOM_PATIENTS,
    seed: Seed = 0,
    difficulty: Difficulty = PHANTOM_DIFFICULTY,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Prepare mammograms as a dataset of Parquet shards."""

    def work() -> dict[str, Any]:
        from diagram_ray.data.shards import check_vacant

        _check_size(patch_size)
        _check_options(
            format_, source, {"--table": table, "--positive": positive, "--patient-pattern": patient_pattern}
        )
        check_vacant(out)
        size = _size(image_size) if image_size else PHANTOM_SIZE if format_ == Format.phantom else FULL_SIZE
        secret = _read_key(key)
        with _index(format_, source, patients, seed, difficulty, (table, positive, patient_pattern)) as index:
            info = prepare_index(index, out, format_.value, size, patch_size, secret, background_patches)
        counts = info["counts"]
        cli.log.info(
            "%s: %d images of %d patients, %d patches, %d rejected%s",
            out,
            counts["images"],
            counts["patients"],
            counts["patches"],
            counts["rejects"],
            "; the reasons are in rejects.parquet" if counts["rejects"] else "",
        )
        return info

    cli.run(work, as_json=as_json, debug=debug)


def prepare_phantom(
    out: str, raw: Path, patients: int, seed: int = 0, difficulty: float = PHANTOM_DIFFICULTY
) -> dict[str, Any]:
    """Makes phantom mammograms in `raw` and prepares them as the dataset `out`; returns its dataset.json."""
    with _phantom_index(raw, patients, seed, difficulty) as index:
        return prepare_index(index, out, Format.phantom.value, PHANTOM_SIZE, 32, PUBLIC_KEY, None)


def prepare_index(
    index: "Index",
    out: str,
    source_format: str,
    image_size: tuple[int, int],
    patch_size: int,
    key: bytes,
    background_patches: int | None,
) -> dict[str, Any]:
    """Prepares what a reader found, on a Ray cluster or this machine, and returns dataset.json.

    `background_patches` per image; None: 4 where the reader found no region at all, else 0.
    """
    from diagram_ray.data.preparation import Options
    from diagram_ray.distributed.ingest import prepare_dataset
    from diagram_ray.distributed.session import ray_session

    if background_patches is None:
        background_patches = 0 if any(record.regions for record in index.records) else 4
    options = Options(image_size, patch_size, background_patches, key, index.classes[0])
    with ray_session(), _progress("preparing", "images") as report:
        return prepare_dataset(index, out, options, source_format, report)


@contextmanager
def _index(
    format_: Format,
    source: str | None,
    patients: int,
    seed: int,
    difficulty: float,
    folder_options: tuple[str | None, str | None, str | None],
) -> Iterator["Index"]:
    """What is in the source."""
    if format_ == Format.phantom:
        with (
            tempfile.TemporaryDirectory(prefix="phantom-") as scratch,
            _phantom_index(Path(source) if source else Path(scratch) / "raw", patients, seed, difficulty) as index,
        ):
            yield index
        return
    yield _read_index(format_, source or "", folder_options)


def _read_index(format_: Format, source: str, options: tuple[str | None, str | None, str | None]) -> "Index":
    if format_ == Format.inbreast:
        from diagram_ray.data.readers import inbreast

        return inbreast.index(source)
    if format_ == Format.mias:
        from diagram_ray.data.readers import mias

        return mias.index(source)
    from diagram_ray.data.readers import folder

    table, positive, pattern = options
    if not table:
        cli.log.info(
            "a file's patient is the group of %r in its name; --patient-pattern changes that", pattern or folder.PATIENT
        )
    return folder.index(source, table, positive, pattern or folder.PATIENT)


@contextmanager
def _phantom_index(raw: Path, patients: int, seed: int, difficulty: float) -> Iterator["Index"]:
    """The phantom, made in `raw` as an INbreast-like tree and read back as one."""
    from diagram_ray.data.phantom import make_phantom
    from diagram_ray.data.readers import inbreast

    with _progress("making phantoms", "images") as report:
        make_phantom(
            raw, patients, seed, difficulty, PHANTOM_HEIGHT, progress=lambda done, total: report(done, total, 0)
        )
    yield replace(inbreast.index(str(raw)), name="phantom")


@contextmanager
def _progress(what: str, unit: str) -> Iterator[Callable[[int, int, int], None]]:
    """A bar on standard error: done of all, per second, rejected, time left. Plain lines where it is no terminal."""
    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[rejects]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=cli.stderr, disable=not cli.stderr.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="", rejects="")
        step = 0

        def report(done: int, total: int, rejects: int) -> None:
            nonlocal step
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(
                task, completed=done, total=total,
                rate=f"{speed:.0f} {unit}/s" if speed else "", rejects=f"{rejects} rejected" if rejects else "",
            )  # fmt: skip
            if not cli.stderr.is_terminal and (done == total or done * 4 // max(total, 1) > step):
                step = done * 4 // max(total, 1)
                cli.log.info("%s: %d of %d %s, %d rejected", what, done, total, unit, rejects)

        yield report


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{2,4})x(\d{2,4})", text)
    if match is None or min(size := (int(match[1]), int(match[2]))) < 32:
        raise UsageError(f"--image-size {text!r}: expected HEIGHTxWIDTH of at least 32 pixels, for example 512x384")
    return size


def _check_options(format_: Format, source: str | None, of_folder: dict[str, str | None]) -> None:
    """What does not go together is refused, not ignored."""
    if format_ == Format.phantom and source and "://" in source:
        raise UsageError(f"--source {source}: phantoms are made in a local folder")
    if format_ != Format.phantom and not source:
        raise UsageError(f"prepare {format_.value}: --source is missing: the folder that holds the data set's files")
    for name, value in of_folder.items():
        if value is not None and format_ != Format.folder:
            raise UsageError(f"{name} {value}: is for prepare folder, not for prepare {format_.value}")


def _check_size(patch_size: int) -> None:
    if patch_size % 16:
        raise UsageError(f"--patch-size {patch_size}: must be a multiple of 16")


def _read_key(path: Path | None) -> bytes:
    if path is None:
        cli.log.info("patient ids are hashed with a public key: fit for public data; give --key FILE for your own")
        return PUBLIC_KEY
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"--key {path}: cannot be read: {error.strerror}") from None
    if len(key) < 16:
        raise UsageError(f"--key {path}: has {len(key)} bytes; at least 16 are needed")
    return key


if __name__ == "__main__":
    app()
