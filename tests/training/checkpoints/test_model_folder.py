import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.errors import DataError, UsageError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.checkpoints.model_folder import ModelCard, read_models, write_models

Small = Callable[..., ExperimentConfig]


def card_of(experiment: ExperimentConfig) -> ModelCard:
    return ModelCard(experiment, ("benign", "Krebs – bösartig"), (64, 48), "f" * 64)


@pytest.fixture
def folder(small: Small, tmp_path: Path) -> Path:
    torch.manual_seed(0)
    place = tmp_path / "model"
    write_models(place, card_of(small()), {"model": DiaGRAM(small().model)})
    return place


def change(folder: Path, **changes: object) -> None:
    document = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    (folder / "config.yaml").write_text(yaml.safe_dump(document | changes), encoding="utf-8")


def change_weights(folder: Path, changes: dict[str, torch.Tensor | None]) -> None:
    weights = load_file(folder / "model.safetensors") | changes
    save_file({key: value for key, value in weights.items() if value is not None}, folder / "model.safetensors")


@pytest.mark.parametrize("changes", [{}, {"model__norm": "batch"}, {"model__gan": False}])
def test_what_is_written_is_read_back(changes: dict[str, object], small: Small, tmp_path: Path) -> None:
    experiment = small(**changes)
    model = DiaGRAM(experiment.model).to(memory_format=torch.channels_last)
    write_models(tmp_path / "new" / "model", card_of(experiment), {"model": model})
    card, (read,) = read_models(tmp_path / "new" / "model")
    assert card == card_of(experiment)
    assert not read.training
    expected = model.state_dict()
    assert read.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in read.state_dict().items())
    assert all(parameter.device.type == "cpu" for parameter in read.parameters())


def test_a_folder_is_replaced_whole(folder: Path, small: Small) -> None:
    write_models(folder, card_of(small()), {f"fold-{i}": DiaGRAM(small().model) for i in range(2)})
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "fold-0.safetensors", "fold-1.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert len(read_models(folder)[1]) == 2


def test_a_failure_while_writing_leaves_the_old_folder(
    folder: Path, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr("diagram_ray.training.checkpoints.model_folder.write_atomic", full)
    with pytest.raises(OSError, match="no space"):
        write_models(folder, card_of(small()), {"model": DiaGRAM(small().model)})
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_model_from_before_pixels_was_a_setting_sees_them_as_it_learned_to(folder: Path) -> None:
    experiment = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["experiment"]
    del experiment["model"]["pixels"]
    change(folder, experiment=experiment)
    card, (model,) = read_models(folder)
    assert card.experiment.model.pixels == model.features.pixels == "range"


def test_a_study_folder_stands_for_its_best(folder: Path) -> None:
    study = folder.parent / "study"
    study.mkdir()
    (study / "study.yaml").write_text("{}")
    folder.rename(study / "best")
    assert len(read_models(study)[1]) == 1


def test_folders_that_are_no_model_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.yaml"):
        read_models(tmp_path / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"no \.safetensors file"):
        read_models(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "format_version 2; this program reads 1"),
        ({"experiment": None}, "experiment: None"),
        ({"experiment": {"model": {"depth": 3}}}, "unknown key 'model.depth'"),
        ({"experiment": {"model": {"width": 10**12}}}, "config.yaml|shape|read"),
        ({"classes": ["one"]}, "num_classes is 2"),
        ({"classes": [1, 2]}, "not a list of str"),
        ({"image_size": [64]}, "expected \\[H, W\\]"),
        ({"image_size": [64, 10**9]}, "16 to 8192"),
        ({"image_size": [True, 64]}, "not a list of int"),
        ({"fingerprint": 3}, "fingerprint"),
    ],
)
def test_a_strange_card_is_refused(changes: dict[str, object], message: str, folder: Path) -> None:
    change(folder, **changes)
    with pytest.raises(UsageError, match=message):
        read_models(folder)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: {", "!!python/object/apply:os.system ['true']"])
def test_a_card_that_is_no_mapping_is_refused(text: str, folder: Path) -> None:
    (folder / "config.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"config\.yaml"):
        read_models(folder)


NAME = "classifier.output.bias"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({NAME: None}, f"1 tensors are missing or unknown, first '{NAME}'"),
        ({"extra": torch.zeros(1)}, "1 tensors are missing or unknown, first 'extra'"),
        ({NAME: torch.zeros(3)}, rf"{NAME} has shape \[3\]; the configuration wants \[2\]"),
        ({NAME: torch.zeros(2, dtype=torch.float64)}, "type torch.float64; expected torch.float32"),
        ({NAME: torch.tensor([0.0, float("nan")])}, "not finite"),
    ],
)
def test_strange_weights_are_refused(changes: dict[str, torch.Tensor], message: str, folder: Path) -> None:
    change_weights(folder, changes)
    with pytest.raises(DataError, match=message):
        read_models(folder)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    hostile = len(header).to_bytes(8, "little") + header
    for damaged in (b"", b"\x80\x04.", whole[:100], whole[:-4], b"\xff" * 64, hostile):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"model\.safetensors: cannot be read"):
            read_models(folder)


def test_a_card_must_agree_with_itself(small: Small) -> None:
    three = override(small(), {"model.num_classes": 3}, "test")
    with pytest.raises(DataError, match="num_classes is 3"):
        card_of(three)
