"""Models on disk: a folder with config.yaml and one or more .safetensors files.

A folder of `train` holds model.safetensors; a study's best/ holds fold-0.safetensors, fold-1.safetensors, … which
together are one ensemble. patients.json says whom each of them was trained on, by hashed id, so that nobody measures it
on them. What is read back may come from anywhere: nothing is unpickled, and names, types and shapes are compared with
the configuration before a model is made.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from diagram_ray.config import ExperimentConfig, build_recorded
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError, one_line
from diagram_ray.models import DiaGRAM, outline
from diagram_ray.storage.atomic import exchange_folder, write_atomic
from diagram_ray.storage.object_store import StorePath
from diagram_ray.storage.paths import Place, on_disk, put_folder
from diagram_ray.study.trial_files import MODEL
from diagram_ray.training.pretrained.weights_file import weights_file
from diagram_ray.yaml_text import read_yaml

FORMAT_VERSION = 1
PATIENTS = "patients.json"
Seen = Mapping[str, frozenset[str] | None]
"""Name of a model -> the patients that its weights have been trained on, by hashed id; None if they are not known."""
SMALLEST_SIDE, LARGEST_SIDE = 16, 8192


@dataclass(frozen=True)
class ModelCard:
    """What one has to know to use a model. Raises DataError if its parts contradict each other."""

    experiment: ExperimentConfig
    classes: tuple[str, ...]
    """In the order of the model's outputs; the negative class first."""
    image_size: tuple[int, int]
    """(H, W) of the images it was trained on."""
    fingerprint: str
    """Of the dataset it was trained on."""
    initial: tuple[str, ...] = ()
    """Fingerprints of the datasets that the weights it started with had been trained on."""
    pretrained: str = ""
    """Whose weights it started with before those, under which licence, and their SHA-256; empty: random ones."""

    def __post_init__(self) -> None:
        if len(self.classes) != self.experiment.model.num_classes:
            named = ", ".join(self.classes)[:200]
            raise DataError(f"model.num_classes is {self.experiment.model.num_classes}, but the classes are {named}")
        if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in self.image_size):
            raise DataError(f"image_size {self.image_size}: allowed are {SMALLEST_SIDE} to {LARGEST_SIDE} pixels")


def card_for(
    experiment: ExperimentConfig, data: TrainingData, initial: tuple[str, ...] = (), before: ModelCard | None = None
) -> ModelCard:
    """The card of a model trained on `data`; `experiment` fits the data. `before` is that of what it started with."""
    height, width = data.images.shape[1:]
    pretrained = before.pretrained if before is not None else ""
    if before is None and experiment.model.pretrained:
        pretrained = weights_file(experiment.model.features, experiment.model.pretrained).source
    return ModelCard(experiment, data.classes, (height, width), data.fingerprint, initial, pretrained)


def write_models(folder: Place, card: ModelCard, models: Mapping[str, DiaGRAM], seen: Seen | None = None) -> None:
    """Writes a model folder: it appears, or is replaced, at once."""
    with new_folder(folder) as draft:
        put_models(draft, card, models, seen)


def put_models(folder: Place, card: ModelCard, models: Mapping[str, DiaGRAM], seen: Seen | None = None) -> None:
    """Writes NAME.safetensors of each model, patients.json and, last, config.yaml into a folder that is there.

    `seen` are the patients of each model whose patients are known. The folder is a model folder from the moment it has
    config.yaml.
    """
    for name, model in models.items():
        weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
        write_atomic(folder / f"{name}.safetensors", save(weights))
    if seen:
        patients = {name: sorted(known) for name, known in seen.items() if known is not None}
        write_atomic(folder / PATIENTS, json.dumps(patients, indent=0))
    write_atomic(folder / MODEL, _document(card))


@contextmanager
def new_folder(folder: Place, last: str = MODEL) -> Iterator[Path]:
    """A hidden folder to write to, which becomes `folder` at the end of the block, or vanishes if the block fails.

    In an object store, which knows no folders, the file `last` comes last.
    """
    if isinstance(folder, StorePath):
        with tempfile.TemporaryDirectory(prefix="diagram-ray-") as name:
            yield Path(name)
            put_folder(Path(name), folder, last)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield draft
        draft.chmod(0o755)
        exchange_folder(draft, folder, draft.with_name(f"{draft.name}.old"), instead=folder.exists())
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def read_card(folder: Place) -> ModelCard:
    """The card of a model folder, or of a study's best/. Raises DataError or ConfigError."""
    path = _place(folder) / MODEL
    if not path.is_file():
        raise DataError(f"{path.parent}: not a model: it has no config.yaml")
    return _parse_card(path)


def read_models(folder: Place) -> tuple[ModelCard, list[DiaGRAM]]:
    """The card and the models, on the CPU in eval mode, of a model folder or of a study's best/. Raises DataError."""
    card = read_card(folder)
    return card, [_read_model(file, card) for file in model_files(folder)]


def model_files(folder: Place) -> list[Place]:
    """The .safetensors files of a model folder, or of a study's best/, in order. Raises DataError if there is none."""
    files: list[Place] = sorted(_place(folder).glob("*.safetensors"), key=str)
    if not files:
        raise DataError(f"{_place(folder)}: not a model: it has no .safetensors file")
    return files


def read_model(file: Place) -> DiaGRAM:
    """One of the models of a model folder. Raises DataError."""
    return _read_model(file, read_card(file.parent))


def read_patients(file: Place) -> frozenset[str] | None:
    """Whom the model in a .safetensors file has seen, by hashed id; None if nothing says so. Raises DataError."""
    path = file.with_name(PATIENTS)
    if not path.is_file():
        return None
    try:
        patients = json.loads(path.read_text(encoding="utf-8")).get(file.stem)
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if patients is not None and not (isinstance(patients, list) and all(isinstance(name, str) for name in patients)):
        raise DataError(f"{path}: {file.stem}: expected a list of patient ids")
    return None if patients is None else frozenset(patients)


def _place(folder: Place) -> Place:
    return folder / "best" if (folder / "study.yaml").is_file() else folder


def _document(card: ModelCard) -> str:
    document = {
        "format_version": FORMAT_VERSION,
        "classes": list(card.classes),
        "image_size": list(card.image_size),
        "fingerprint": card.fingerprint,
        "initial": list(card.initial),
        **({"pretrained": card.pretrained} if card.pretrained else {}),
        "experiment": card.experiment.model_dump(mode="json"),
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _parse_card(path: Place) -> ModelCard:
    document = read_yaml(path)
    if document.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: format_version {document.get('format_version')!r}; this program reads {FORMAT_VERSION}"
        )
    experiment = build_recorded(_field(document, "experiment", dict, path), f"{path}: experiment")
    classes = _list(document, "classes", str, path)
    size = _list(document, "image_size", int, path)
    if len(size) != 2:
        raise DataError(f"{path}: image_size {size}: expected [H, W]")
    fingerprint = _field(document, "fingerprint", str, path)
    initial = _list({"initial": [], **document}, "initial", str, path)
    pretrained = _field({"pretrained": "", **document}, "pretrained", str, path)
    try:
        return ModelCard(experiment, tuple(classes), (size[0], size[1]), fingerprint, tuple(initial), pretrained)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def _field(document: dict[str, Any], key: str, kind: type, path: Place) -> Any:
    value = document.get(key)
    if not isinstance(value, kind):
        raise DataError(f"{path}: {key}: {value!r} is not a {kind.__name__}")
    return value


def _list(document: dict[str, Any], key: str, kind: type, path: Place) -> list[Any]:
    values = _field(document, key, list, path)
    if not all(type(value) is kind for value in values):
        raise DataError(f"{path}: {key}: {values!r} is not a list of {kind.__name__}")
    return list(values)


def _read_model(path: Place, card: ModelCard) -> DiaGRAM:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        model = outline(card.experiment.model)  # no memory yet, however large the configuration says it is
        weights = _read_weights(path, model.state_dict())
    except (SafetensorError, OSError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read as the model in config.yaml: {one_line(error)}") from None
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _read_weights(path: Place, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in `path`, which have the names, shapes and types of `expected` and are finite."""
    with on_disk(path) as local, safe_open(local, framework="pt") as file:
        odd = sorted(set(file.keys()) ^ set(expected))
        if odd:
            raise DataError(f"{path}: {len(odd)} tensors are missing or unknown, first {odd[0]!r}")
        for name, tensor in expected.items():
            if tuple(file.get_slice(name).get_shape()) != tuple(tensor.shape):
                shape = file.get_slice(name).get_shape()
                raise DataError(f"{path}: {name} has shape {shape}; the configuration wants {list(tensor.shape)}")
        weights = {name: file.get_tensor(name) for name in expected}
    for name, tensor in weights.items():
        if tensor.dtype != expected[name].dtype:
            raise DataError(f"{path}: {name} has type {tensor.dtype}; expected {expected[name].dtype}")
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"{path}: {name} has values that are not finite")
    return weights
