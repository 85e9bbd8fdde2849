"""The command: a model and what is left beside it, one fold, fine-tuning, and going on after a stop or a crash."""

import json
import os
import shutil
import signal
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from tensorboardX.proto.event_pb2 import Event, SessionLog
from typer.testing import CliRunner, Result

from diagram_ray import predict, train
from diagram_ray.config import ExperimentConfig, flatten
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.models import DiaGRAM
from diagram_ray.training.checkpoints import store
from diagram_ray.training.checkpoints.model_folder import (
    card_for,
    read_card,
    read_model,
    read_models,
    read_patients,
    write_models,
)
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]


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
    last = expected.advance()
    assert said["loss_image"] == last["loss_image"]
    assert said["training_auc"] == last["training_auc"]
    assert f"; training AUC {last['training_auc']:.3f}; " in result.stderr.splitlines()[-2]
    assert said["underfits"] is None
    scores = predict.load(out).predict_array(data.images)[:, 1]
    np.testing.assert_allclose(scores, expected.score(every), atol=1e-5)
    assert predict.load(out).card == card_for(expected.config, data)


def test_a_model_that_does_not_fit_its_training_images_is_told(
    dataset: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diagram_ray.training.training_sample.TrainingSample.auc", lambda *_: 0.62)
    options = ("--json", "--device", "cpu", *settings(small(training__epochs=1)))
    result = invoke("--data", dataset, "--out", tmp_path / "model", *options)
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["underfits"].startswith("underfits: training AUC 0.62 after 1 epoch; try ")
    assert f"the model {said['underfits']}" in result.stderr


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


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard would show: tag -> step -> value. A file's first event may strike out later steps before it."""
    found: dict[str, dict[int, float]] = {}
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            if event.session_log.status == SessionLog.START:
                for steps in found.values():
                    for step in [step for step in steps if step >= event.step]:
                        del steps[step]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_what_is_left_beside_the_model(dataset: Path, small: Small, tmp_path: Path) -> None:
    out = tmp_path / "model"
    config = small(training__epochs=3, training__validation_part=0.3, training__schedule="cosine")
    result = invoke("--data", dataset, "--out", out, "--picture-every", 2, "--json", *settings(config))
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "config.yaml", "curves.parquet", "generated", "model.safetensors", "patients.json", "tensorboard", "train.yaml",
    ]  # fmt: skip
    curves = pq.read_table(out / "curves.parquet").to_pylist()
    assert [row["epoch"] for row in curves] == [1, 2, 3]
    shown = scalars(out / "tensorboard")
    tags = {"loss_image": "loss/image", "loss_generator": "loss/generator", "training_auc": "training/auc"}
    for key, tag in tags.items():
        assert shown[tag] == pytest.approx({row["epoch"]: row[key] for row in curves})
    assert shown["validation/auc"] == pytest.approx({row["epoch"]: row["validation_auc"] for row in curves})
    assert shown["learning_rate/classifier"] == pytest.approx({1: 0.003, 2: 0.00225, 3: 0.00075})
    best = json.loads(result.stdout.splitlines()[-1])["best_epoch"]
    assert best == max(range(1, 4), key=lambda e: (curves[e - 1]["validation_auc"], -curves[e - 1]["validation_loss"]))
    assert sorted(path.name for path in (out / "generated").iterdir()) == ["epoch-0002.png", "epoch-0003.png"]
    drawn = [np.asarray(Image.open(path)) for path in sorted((out / "generated").iterdir())]
    assert drawn[0].shape == drawn[1].shape
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0][:100] == drawn[1][:100]).all()  # the real ones


def test_a_fold_is_that_of_the_cross_validation(
    dataset: Path, data: TrainingData, small: Small, tmp_path: Path
) -> None:
    config = small(training__epochs=2)
    splits = make_splits(data, 3, config.training.seed)
    out = tmp_path / "fold"
    result = invoke("--data", dataset, "--out", out, "--fold", 1, "--folds", 3, "--json", *settings(config))
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    validation = CrossValidation(config, data, splits)
    list(validation.advance(3, 2))
    assert said["auc"] == validation.measure(3).fold_auc[1]
    assert said["accuracy"] == validation.measure(3).fold_accuracy[1]
    expected = validation.predictions().to_pandas().query("fold == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(pq.read_table(out / "predictions.parquet").to_pandas(), expected)
    validation.export(tmp_path / "best")
    other = read_model(tmp_path / "best" / "fold-1.safetensors").state_dict()
    assert all(torch.equal(value, other[name]) for name, value in read_models(out)[1][0].state_dict().items())
    assert read_patients(out / "model.safetensors") == read_patients(tmp_path / "best" / "fold-1.safetensors")
    assert read_patients(out / "model.safetensors") == {name for name, fold in splits.patients.items() if fold != 1}


def test_the_folds_of_a_study_are_taken(dataset: Path, data: TrainingData, small: Small, tmp_path: Path) -> None:
    best = fit_to_data(small(training__epochs=1), data)
    write_models(tmp_path / "study" / "best", card_for(best, data), {"fold-0": DiaGRAM(best.model)})
    (tmp_path / "study" / "study.yaml").write_text("{}")
    splits = make_splits(data, 4, 99)
    (tmp_path / "study" / "splits.json").write_text(splits.to_json())
    result = invoke("--data", dataset, "--from", tmp_path / "study", "--fold", 3, "--out", tmp_path / "model")
    assert result.exit_code == 0, result.stderr
    tested = set(pq.read_table(tmp_path / "model" / "predictions.parquet")["patient_id"].to_pylist())
    assert tested == {name for name, fold in splits.patients.items() if fold == 3}
    assert (tmp_path / "model" / "splits.json").read_text() == splits.to_json()


class Killed(Exception):  # noqa: N818
    """As if the process had been killed: nothing is put in order."""


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_resumed_training_is_the_uninterrupted_one(
    how: str, dataset: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"training__ema_decay": 0.8, "training__validation_part": 0.3, "training__schedule": "cosine"}
    config = small(training__epochs=4, **changes)
    given = ["--data", dataset, "--save-every", 0, "--picture-every", 1, *settings(config)]
    assert invoke(*given, "--out", tmp_path / "whole").exit_code == 0
    told = []

    def interrupt(row: dict[str, Any]) -> str:
        told.append(row["epoch"])
        if told == [1, 2, 3]:
            if how == "killed":
                raise Killed
            os.kill(os.getpid(), signal.SIGINT)
        return ""

    with monkeypatch.context() as patched:
        patched.setattr(train, "_figures", interrupt)
        cut = invoke(*given, "--out", tmp_path / "cut")
    assert cut.exit_code == (130 if how == "stopped" else 1)
    assert not (tmp_path / "cut" / "config.yaml").exists()
    # Killed in epoch 3 before its checkpoint: the newest is that of epoch 2.
    kept = sorted(path.name for path in (tmp_path / "cut" / "checkpoints").iterdir())
    assert kept[-1] == ("000002" if how == "killed" else "000003")
    result = invoke("--resume", tmp_path / "cut", "--json", "--picture-every", 1)
    assert result.exit_code == 0, result.stderr
    one, other = (read_models(tmp_path / name)[1][0].state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    rows = [pq.read_table(tmp_path / name / "curves.parquet").drop_columns("seconds") for name in ("whole", "cut")]
    assert rows[0].equals(rows[1])
    assert scalars(tmp_path / "cut" / "tensorboard") == scalars(tmp_path / "whole" / "tensorboard")
    for path in (tmp_path / "whole" / "generated").iterdir():
        assert (tmp_path / "cut" / "generated" / path.name).read_bytes() == path.read_bytes()
    assert not (tmp_path / "cut" / "checkpoints").exists()
    refused = invoke("--resume", tmp_path / "cut")
    assert refused.exit_code == 2
    assert "nothing to resume: the training is finished" in refused.stderr


def test_a_training_is_resumed_on_its_own_data_and_weights_only(
    dataset: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = invoke("--data", dataset, "--out", tmp_path / "source", *settings(small(training__epochs=1)))
    assert source.exit_code == 0
    shutil.copytree(dataset, tmp_path / "other")
    info = json.loads((dataset / "dataset.json").read_text())
    (tmp_path / "other" / "dataset.json").write_text(json.dumps(info | {"fingerprint": "e" * 64}))
    with monkeypatch.context() as patched:
        patched.setattr(train, "_figures", lambda row: os.kill(os.getpid(), signal.SIGINT) or "")
        given = ["--init-from", tmp_path / "source", "--set", "training.epochs=3"]
        assert invoke("--data", dataset, "--out", tmp_path / "cut", *given).exit_code == 130
    refused = invoke("--resume", tmp_path / "cut", "--data", tmp_path / "other")
    assert refused.exit_code == 2
    assert f"dataset is '{'f' * 64}' there and '{'e' * 64}' here" in refused.stderr
    path = tmp_path / "source" / "model.safetensors"
    weights = load_file(path)
    weights["features.layers.0.weight"] += 1
    save_file(weights, path)
    refused = invoke("--resume", tmp_path / "cut")
    assert refused.exit_code == 2
    assert "was begun with the weights" in refused.stderr


def test_checkpoints_may_lie_elsewhere_and_a_full_place_ends_the_training(
    dataset: Path, small: Small, files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(store, "Retry", partial(store.Retry, wait=waits.append))
    files.writes += [None] * 6 + [OSError(28, "No space left on device")] * 5
    given = ["--data", dataset, "--checkpoints", "flaky://bucket/run", "--save-every", 0]
    full = invoke(*given, "--out", tmp_path / "out", *settings(small(training__epochs=5)))
    assert full.exit_code == 1
    assert "could not be written: [Errno 28] No space left on device; the last good one is 000002" in full.stderr
    assert waits == [1.0, 4.0, 16.0, 64.0]
    result = invoke("--resume", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "epoch 1 of 5" not in result.stderr
    assert "epoch 3 of 5" in result.stderr
    assert not files.store


def test_fine_tuning_starts_with_f_and_e_of_another_model(
    dataset: Path, data: TrainingData, small: Small, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    assert invoke("--data", dataset, "--out", source, *settings(small(training__epochs=1))).exit_code == 0
    result = invoke("--data", dataset, "--out", tmp_path / "tuned", "--init-from", source, "--json")
    assert result.exit_code == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["epochs"] == 20
    card = read_card(tmp_path / "tuned")
    assert (card.experiment.model.width, card.experiment.model.gan, card.experiment.training.multi_task) == (
        4,
        False,
        False,
    )
    assert card.initial == (data.fingerprint,)
    document = yaml.safe_load((tmp_path / "tuned" / "train.yaml").read_text())
    assert document["init_from"]["source"] == str(source)
    assert document["init_from"]["fingerprints"] == [data.fingerprint]
    assert len(document["init_from"]["weights"]) == 64
    refused = invoke("--data", dataset, "--out", tmp_path / "leak", "--init-from", source, "--fold", 0)
    assert refused.exit_code == 2
    assert "these weights were trained on" in refused.stderr
    assert not (tmp_path / "leak").exists()


def test_what_cannot_be_done_is_said_in_one_sentence(dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = [
        (("--data", dataset, "--out", out, "--set", "training.epoch=3"), "did you mean 'training.epochs'?"),
        (("--data", dataset, "--out", out, "--set", "training.epochs=0"), "training.epochs: 0 is not allowed"),
        (("--data", tmp_path, "--out", out), "not a prepared dataset"),
        (("--data", dataset, "--out", dataset), "exists and is not an empty folder"),
        (("--data", dataset, "--out", out, "--from", tmp_path), "not a model"),
        (("--data", dataset, "--out", out, "--init-from", tmp_path), "not a model"),
        (("--data", dataset, "--out", out, "--device", "cuda:99"), "--device cuda:99: PyTorch sees"),
        (("--data", dataset, "--out", out, "--fold", "5"), "fold 5: there are 5 folds, numbered from 0"),
        (("--data", dataset), "--out is needed"),
        (("--out", out), "--data is needed"),
        (("--resume", tmp_path), "nothing to resume: it has no train.yaml"),
        (("--resume", tmp_path, "--fold", "0"), "--fold cannot be given with --resume"),
    ]
    for arguments, message in cases:
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr
        assert not out.exists()
