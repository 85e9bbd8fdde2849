"""The real ways into the program, each fed with a folder: what a target reads, and which of its files are damaged."""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from diagram_ray.config import DataConfig
from diagram_ray.data.parquet import layout
from diagram_ray.data.parquet.loader import read_training_data
from diagram_ray.data.parquet.update import old_images, old_parts, take_over
from diagram_ray.data.preprocessing.prepare_image import Options, check_distinct, prepare_image
from diagram_ray.data.preprocessing.pseudonyms import anonymous_rejects
from diagram_ray.data.readers import ReaderOptions, open_index
from diagram_ray.data.records import ImageRecord, Reject
from diagram_ray.data.splits import Splits
from diagram_ray.results import Study
from diagram_ray.study.config import read_study
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.study_folder import read_plan
from diagram_ray.yaml_text import read_yaml
from tests.fuzz.judging import Fault, check_index, check_no_links_out, check_prepared, check_reason, check_rejects

OPTIONS = Options(image_size=(40, 32), patch_size=16, background_patches=1, key=b"k" * 16, negative="benign")
FEW = 2
"""Images that are prepared where a table or an annotation was damaged, and not an image."""
PATTERN = r"^([^_.]+)_"
AS_IS = ReaderOptions()

PreparationProgress = dict[str, int]
"""What became of a case: 'prepared', 'rejected', 'refused', 'read' -> how often."""
Run = Callable[[Path, str], PreparationProgress]
"""Reads a folder; the text is the path in it of the file that was damaged."""


@dataclass(frozen=True)
class Target:
    """A way in."""

    run: Run
    damaged: tuple[tuple[str, str], ...]
    """(pattern of a path, name of its format): the first that fits counts. Other files are never damaged."""

    def format_of(self, path: str) -> str | None:
        """The format of a file; None if it is not damaged."""
        return next((name for pattern, name in self.damaged if fnmatch(path.lower(), pattern)), None)


def read_source(format_: str, source: Path, changed: str, asked: ReaderOptions = AS_IS) -> PreparationProgress:
    """What `prepare` does to a source, but for Ray."""
    index = open_index(format_, str(source), asked)
    check_index(index, source)
    check_distinct(index.records)
    if format_ == "folder":
        check_no_links_out(index.records, source)
    rejects = anonymous_rejects(index, OPTIONS.key)
    check_rejects(rejects)
    tally = {"rejected": len(rejects), "prepared": 0}
    for record in _concerned(index.records, str(source / changed)):
        tally[_prepare(record)] += 1
    return tally


def _concerned(records: list[ImageRecord], changed: str) -> list[ImageRecord]:
    mine = [one for one in records if changed in (one.path, *(path for mask in one.masks for path in mask.paths))]
    with_lesion = sorted(records, key=lambda one: not (one.regions or one.masks))
    return mine[:FEW] or with_lesion[:FEW]


def _prepare(record: ImageRecord) -> str:
    result = prepare_image(record, OPTIONS)
    if isinstance(result, Reject):
        check_rejects([result])
        return "rejected"
    check_prepared(result, OPTIONS)
    return "prepared"


def _class_folders(folder: Path, changed: str) -> PreparationProgress:
    return read_source("folder", folder, changed, ReaderOptions(patient_pattern=PATTERN))


def _table(folder: Path, changed: str) -> PreparationProgress:
    table = next((path for path in sorted(folder.iterdir()) if path.name.startswith("images.")), folder / "images.csv")
    return read_source("folder", folder, changed, ReaderOptions(table=str(table)))


def _reader(format_: str) -> Run:
    return lambda folder, changed: read_source(format_, folder, changed, ReaderOptions(normals=True))


def _each(*calls: Callable[[], object]) -> PreparationProgress:
    """Of several things that are read apart, how many could be; the others must be refused with a reason."""
    from diagram_ray.errors import UsageError

    tally = {"read": 0, "refused": 0}
    for call in calls:
        try:
            call()
            tally["read"] += 1
        except UsageError as error:
            check_reason(str(error))
            tally["refused"] += 1
    return tally


def _dataset(folder: Path, changed: str) -> PreparationProgress:
    place = str(folder)
    return _each(
        lambda: layout.read_info(place),
        lambda: layout.read_manifest(place),
        lambda: layout.read_rejects(place),
        lambda: _training(place, "label"),
        lambda: _training(place, "density"),
        lambda: _update(place, folder / "pieces"),
    )


def _training(place: str, target: str) -> None:
    data = read_training_data(place, DataConfig(target=target))
    if not len(data.images) == len(data.labels) == len(data.patient_ids):
        raise Fault("images, labels and patients differ in number")
    if set(data.labels.tolist()) - {0, 1} or set(data.patch_labels.tolist()) - {0, 1}:
        raise Fault("labels other than 0 and 1")


def _update(place: str, pieces: Path) -> None:
    images = old_images(place)
    for part in old_parts(images, {image.identity for image in images}):
        take_over(place, pieces, OPTIONS, part)


def _model(folder: Path, changed: str) -> PreparationProgress:
    from diagram_ray.training.checkpoints.model_folder import read_models, read_patients

    return _each(lambda: read_models(folder), lambda: read_patients(folder / "model.safetensors"))


def _study(folder: Path, changed: str) -> PreparationProgress:
    study = Study.load(folder)
    return _each(
        *(
            lambda name=name: getattr(study, name)
            for name in ("document", "splits", "control", "trials", "curves", "predictions", "best")
        ),
        lambda: Splits.from_json(_text(folder / "splits.json"), "splits.json"),
        lambda: read_ledger(folder),
        lambda: read_yaml(folder / "quick.yaml"),
        lambda: read_study(folder / "quick.yaml"),
        lambda: read_plan(folder),
    )


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


TARGETS = {
    "dicom": Target(_class_folders, (("*.dcm.gz", "dicom.gz"), ("*.dcm", "dicom"))),
    "deflated": Target(_class_folders, (("*.dcm", "deflated"),)),
    "pictures": Target(
        _class_folders,
        (("*.png.gz", "png.gz"), ("*.png", "png"), ("*.jpg", "jpeg"), ("*.tif", "tiff"), ("cancer/*.pgm", "pgm")),
    ),
    "tables": Target(_table, (("*.csv", "csv"), ("*.parquet", "parquet"))),
    "ddsm": Target(
        _reader("ddsm"),
        (
            *(("*.ics.gz", "ics.gz"), ("*.overlay.gz", "overlay.gz"), ("*.ljpeg.gz", "jpeg.gz")),
            *(("*.ics", "ics"), ("*.overlay", "overlay"), ("*.ljpeg", "jpeg")),
        ),
    ),
    "cbis": Target(_reader("cbis-ddsm"), (("*.csv", "csv"), ("*.dcm", "dicom"))),
    "inbreast": Target(_reader("inbreast"), (("*.csv", "csv"), ("*.xls", "xls"), ("*.xml", "xml"), ("*.dcm", "dicom"))),
    "mias": Target(_reader("mias"), (("info.txt", "mias"), ("*.pgm", "pgm"), ("*.png", "png"))),
    "dataset": Target(_dataset, (("*.json", "json"), ("*.parquet", "parquet"))),
    "model": Target(_model, (("*.yaml", "yaml"), ("*.json", "json"), ("*.safetensors", "weights"))),
    "study": Target(_study, (("*.yaml", "yaml"), ("*.jsonl", "json"), ("*.json", "json"), ("*.parquet", "parquet"))),
}
