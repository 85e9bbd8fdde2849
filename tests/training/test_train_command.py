import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner, Result

from diagram_ray import predict, train
from diagram_ray.config import ExperimentConfig, flatten
from diagram_ray.data.dataset import TrainingData
from diagram_ray.data.shards import image_schema, patch_schema
from diagram_ray.models import DiaGRAM
from diagram_ray.training.loop import Trainer, fit_to_data
from diagram_ray.training.model_store import card_for, read_card, read_models, write_models

Small = Callable[..., ExperimentConfig]


@pytest.fixture(scope="module")
def dataset(data: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data` as prepare would have written it."""
    folder = tmp_path_factory.mktemp("prepared") / "tiny"
    (folder / "images").mkdir(parents=True)
    (folder / "patches").mkdir()
    info = {
        "format_version": 1,
        "name": "tiny",
        "image_size": [32, 32],
        "patch_size": 16,
        "classes": list(data.classes),
        "counts": {"images": len(data.images), "patches": len(data.patches)},
        "fingerprint": data.fingerprint,
    }
    (folder / "dataset.json").write_text(json.dumps(info))
    ids, patients = data.image_ids.tolist(), data.patient_ids.tolist()
    labels = [data.classes[label] for label in data.labels]
    manifest = pd.DataFrame({"image_id": ids, "patient_id": patients, "label": labels})
    manifest.to_parquet(folder / "manifest.parquet")
    tensor = pa.FixedShapeTensorArray.from_numpy_ndarray
    schema = image_schema(32, 32)
    images = pa.table([ids, patients, labels, tensor(data.images)], names=schema.names).cast(schema)
    pq.write_table(images, folder / "images" / "part-0.parquet")
    schema = patch_schema(16)
    columns = [ids, ids, patients, labels, ["roi"] * len(ids), ["mass"] * len(ids), [[0.0, 0.0, 9.0, 9.0]] * len(ids)]
    patches = pa.table([*columns, tensor(data.patches)], names=schema.names).cast(schema)
    pq.write_table(patches, folder / "patches" / "part-0.parquet")
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(train.app, [str(argument) for argument in arguments])


def settings(experiment: ExperimentConfig) -> list[str]:
    chosen = {key: value for key, value in flatten(experiment).items() if not key.startswith("data.")}
    return [part for key, value in chosen.items() for part in ("--set", f"{key}={json.dumps(value)}")]


def test_a_model_of_all_the_data_is_written_and_predicts(
    dataset: Path, data: TrainingData, small: Small, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    result = invoke("--data", dataset, "--out", out, "--json", "--device", "cpu", *settings(small(training__epochs=2)))
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert (said["out"], said["images"], said["patches"], said["epochs"]) == (str(out), 24, 24, 2)
    assert said["classes"] == ["benign", "cancer"]
    assert "epoch 2 of 2: losses: adversarial" in result.stderr
    every = np.arange(24)
    expected = Trainer(small(training__epochs=2), data, every, every)
    expected.advance()
    assert said["loss_image"] == expected.advance()["loss_image"]
    scores = predict.load(out).predict_array(data.images)[:, 1]
    np.testing.assert_allclose(scores, expected.score(every), atol=1e-5)
    assert predict.load(out).card == card_for(expected.config, data)


def test_the_best_configuration_of_a_study_is_taken_and_may_be_changed(
    dataset: Path, data: TrainingData, small: Small, tmp_path: Path
) -> None:
    best = fit_to_data(small(training__epochs=1, training__k=2), data)
    write_models(tmp_path / "study" / "best", card_for(best, data), {"fold-0": DiaGRAM(best.model)})
    (tmp_path / "study" / "study.yaml").write_text("{}")
    for assignments, epochs in (((), 1), (("--set", "training.epochs=2"), 2)):
        out = tmp_path / f"model-{epochs}"
        result = invoke("--data", dataset, "--from", tmp_path / "study", "--out", out, *assignments)
        assert result.exit_code == 0, result.stderr
        assert read_card(out).experiment.training.k == 2
        assert read_card(out).experiment.training.epochs == epochs
    weights = [read_models(tmp_path / f"model-{epochs}")[1][0].state_dict() for epochs in (1, 2)]
    assert not torch.equal(weights[0]["classifier.output.weight"], weights[1]["classifier.output.weight"])


def test_what_cannot_be_done_is_said_in_one_sentence(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = [
        (("--data", dataset, "--out", out, "--set", "training.epoch=3"), "did you mean 'training.epochs'?"),
        (("--data", dataset, "--out", out, "--set", "training.epochs=0"), "training.epochs: 0 is not allowed"),
        (("--data", tmp_path, "--out", out), "not a prepared dataset"),
        (("--data", dataset, "--out", dataset), "exists and is not an empty folder"),
        (("--data", dataset, "--out", out, "--from", tmp_path), "not a model"),
        (("--data", dataset, "--out", out, "--device", "cuda:99"), "--device cuda:99: PyTorch sees"),
    ]
    for arguments, message in cases:
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
        assert not out.exists()
