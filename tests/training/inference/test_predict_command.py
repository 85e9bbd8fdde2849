import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

from diagram_ray import predict as command
from diagram_ray.config import ExperimentConfig
from diagram_ray.data.decoding.dicom.kind import Allowed
from diagram_ray.data.decoding.mammogram import read_mammogram
from diagram_ray.data.parquet.layout import image_schema
from diagram_ray.data.preprocessing.standardise import standardise
from diagram_ray.errors import DataError
from diagram_ray.models import DiaGRAM
from diagram_ray.training.checkpoints.model_folder import ModelCard, write_models
from tests.support.sources.dicom_files import as_bytes, dicom

Small = Callable[..., ExperimentConfig]
SIZE = (64, 48)


def breast(seed: int, size: int = 200) -> np.ndarray:
    """A bright half disk at the left edge, with texture: uint16 (H, W)."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, : size * 3 // 4]
    inside = (x / (size * 0.55)) ** 2 + ((y - size / 2) / (size * 0.4)) ** 2 < 1
    return np.where(inside, 20000 + random.integers(0, 30000, inside.shape), 0).astype(np.uint16)


@pytest.fixture(scope="module")
def mammograms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mammograms")
    for seed in range(3):
        Image.fromarray(breast(seed)).save(folder / f"{seed}.png")
    (folder / "deeper").mkdir()
    Image.fromarray(breast(3)).save(folder / "deeper" / "3.tif")
    (folder / "damaged.png").write_bytes(b"\x89PNG no picture")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def model(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    write_models(folder, card(small()), {"model": network(small(), 0)})
    return folder


def card(experiment: ExperimentConfig) -> ModelCard:
    return ModelCard(experiment, ("benign", "cancer"), SIZE, "f" * 64)


def network(experiment: ExperimentConfig, seed: int) -> DiaGRAM:
    torch.manual_seed(seed)
    made = DiaGRAM(experiment.model)
    torch.nn.init.normal_(made.classifier.output.weight, std=1.0)
    return made


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_a_folder_of_files_is_predicted_and_what_cannot_be_used_is_listed(
    mammograms: Path, model: Path, tmp_path: Path
) -> None:
    result = invoke(model, mammograms, "--out", tmp_path / "out", "--json", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == {
        "out": str(tmp_path / "out"),
        "images": 4,
        "rejects": 1,
        "models": 1,
    }
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert list(table.columns) == ["path", "probability_benign", "probability_cancer", "predicted"]
    names = [Path(path).name for path in table["path"]]
    assert sorted(names) == ["0.png", "1.png", "2.png", "3.tif"]
    np.testing.assert_allclose(table["probability_benign"] + table["probability_cancer"], 1.0)
    likelier = np.where(table["probability_cancer"] > table["probability_benign"], "cancer", "benign")
    assert table["predicted"].tolist() == likelier.tolist()
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out" / "predictions.parquet"), table)
    rejects = pd.read_csv(tmp_path / "out" / "rejects.csv")
    assert [Path(path).name for path in rejects["path"]] == ["damaged.png"]
    assert "not a picture of a kind that is read" in rejects["reason"][0]


def test_what_is_no_mammogram_is_predicted_only_when_asked_for(model: Path, tmp_path: Path) -> None:
    (tmp_path / "ct.dcm").write_bytes(as_bytes(dicom(breast(0), 16, Modality="CT")))
    (tmp_path / "raw.dcm").write_bytes(as_bytes(dicom(breast(1), 16, PresentationIntentType="FOR PROCESSING")))
    files = [tmp_path / "ct.dcm", tmp_path / "raw.dcm"]
    for number, (options, names) in enumerate(
        [
            (["--any-modality"], ["ct"]),
            (["--for-processing"], ["raw"]),
            (["--any-modality", "--for-processing"], ["ct", "raw"]),
        ]
    ):
        out = tmp_path / f"out-{number}"
        assert invoke(model, *files, "--out", out, "--device", "cpu", *options).exit_code == 0
        assert [Path(path).stem for path in pd.read_csv(out / "predictions.csv")["path"]] == names
        assert len(pd.read_csv(out / "rejects.csv")) == 2 - len(names)
    refused = invoke(model, *files, "--out", tmp_path / "none", "--device", "cpu")
    assert refused.exit_code == 2
    assert "none of 2 images could be used" in refused.stderr
    assert "Modality is CT" in refused.stderr
    with pytest.raises(DataError, match="FOR PROCESSING"):
        command.load(model).predict(files[1])
    assert command.load(model).predict(files[1], Allowed(for_processing=True))["path"] == str(files[1])


def test_the_predictor_answers_as_the_command_and_as_the_model_itself(
    mammograms: Path, model: Path, small: Small, tmp_path: Path
) -> None:
    file = mammograms / "1.png"
    predictor = command.load(model)
    one = predictor.predict(file)
    assert set(one) == {"path", "probabilities", "predicted"}
    pixels = standardise(read_mammogram(str(file)), SIZE).pixels
    assert predictor.predict_array(pixels)[0].tolist() == list(one["probabilities"].values())
    tensor = torch.from_numpy(pixels.astype(np.float32) / 32767.5 - 1)[None, None]
    expected = network(small(), 0).eval()(tensor).double().softmax(dim=1)[0].tolist()
    np.testing.assert_allclose(list(one["probabilities"].values()), expected, atol=1e-6)
    assert invoke(model, file, "--out", tmp_path / "out").exit_code == 0
    row = pd.read_parquet(tmp_path / "out" / "predictions.parquet").iloc[0]
    np.testing.assert_allclose(row["probability_cancer"], one["probabilities"]["cancer"], atol=1e-6)


def test_a_study_answers_with_the_mean_of_its_fold_models(mammograms: Path, small: Small, tmp_path: Path) -> None:
    study = tmp_path / "study"
    write_models(study / "best", card(small()), {f"fold-{i}": network(small(), i) for i in range(3)})
    (study / "study.yaml").write_text("{}")
    file = mammograms / "0.png"
    together = command.load(study).predict(file)["probabilities"]["cancer"]
    alone = []
    for number in range(3):
        write_models(tmp_path / "one", card(small()), {"model": network(small(), number)})
        alone.append(command.load(tmp_path / "one").predict(file)["probabilities"]["cancer"])
    assert len(set(alone)) == 3
    assert together == pytest.approx(np.mean(alone), abs=1e-9)


def make_dataset(folder: Path, size: tuple[int, int], count: int = 20) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 65535, (count, *size)).astype(np.uint16)
    (folder / "images").mkdir(parents=True)
    info = {
        "format_version": 1,
        "image_size": list(size),
        "classes": ["benign", "cancer"],
        "counts": {"images": count, "patches": 0},
        "fingerprint": "f" * 64,
    }
    (folder / "dataset.json").write_text(json.dumps(info))
    schema = image_schema(*size)
    for part, rows in enumerate((range(12), range(12, count))):
        columns = [[f"i{row}" for row in rows], [f"p{row}" for row in rows], [None for _ in rows]]
        tensor = pa.FixedShapeTensorArray.from_numpy_ndarray(pixels[list(rows)])
        table = pa.table([*columns, tensor], names=schema.names).cast(schema)
        pq.write_table(table, folder / "images" / f"part-{part}.parquet")
    return pixels


def test_every_image_of_a_prepared_dataset_is_predicted(model: Path, tmp_path: Path) -> None:
    pixels = make_dataset(tmp_path / "data", SIZE)
    result = invoke(model, tmp_path / "data", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    table = pd.read_parquet(tmp_path / "out" / "predictions.parquet").set_index("path")
    assert sorted(table.index) == sorted(f"i{row}" for row in range(20))
    expected = command.load(model).predict_array(pixels)[:, 1]
    np.testing.assert_allclose(table["probability_cancer"].loc[[f"i{row}" for row in range(20)]], expected, atol=1e-6)


def test_what_cannot_be_done_is_said_in_one_sentence(mammograms: Path, model: Path, tmp_path: Path) -> None:
    make_dataset(tmp_path / "data", (32, 32))
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "something").touch()
    file, out = mammograms / "0.png", tmp_path / "out"
    cases = [
        ((model, tmp_path / "nothing.png", "--out", out), "nothing.png: no such file or folder"),
        ((model, tmp_path / "empty", "--out", out), "no image file in it"),
        ((model, mammograms / "damaged.png", "--out", out), "none of 1 images could be used"),
        ((model, tmp_path / "data", "--out", out), "its images have the size (32, 32); the model was trained on"),
        ((mammograms, file, "--out", out), "not a model"),
        ((model, file, "--out", tmp_path / "full"), "exists and is not an empty folder"),
        ((model, file, "--out", out, "--device", "abacus"), "--device abacus: allowed are"),
        ((model, file, "--out", "s3://user:x@bucket/out"), "s3://bucket/out: give the URI without user"),
    ]
    for arguments, message in cases:
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
        assert result.stderr.startswith("error: ")
        assert not out.exists()


def test_arrays_of_another_kind_are_refused(model: Path) -> None:
    predictor = command.load(model)
    for pixels in (np.zeros(SIZE, np.float32), np.zeros((2, 64, 47), np.uint16), np.zeros((1, 1, *SIZE), np.uint16)):
        with pytest.raises(DataError, match="expected uint16"):
            predictor.predict_array(pixels)
    with pytest.raises(DataError, match=r"nothing\.png: cannot be opened"):
        predictor.predict("nothing.png")
