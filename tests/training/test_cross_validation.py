from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits, make_splits, shuffle_patients
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import DataError, MismatchError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.search.racing import Cases
from diagram_ray.training.checkpoints.model_folder import read_models
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.trainer import Trainer

Small = Callable[..., ExperimentConfig]
COLUMNS = {
    "fold", "epoch", "loss_adversarial", "loss_patch", "loss_image", "loss_generator", "gan_loss_ratio",
    "gan_diversity", "training_auc", "auc", "accuracy", "seconds",
}  # fmt: skip


@pytest.fixture(scope="session")
def splits(data: TrainingData) -> Splits:
    return make_splits(data, 3, seed=0)


def rows_of(validation: CrossValidation, folds: int, epochs: int) -> list[list[dict[str, Any]]]:
    """The rounds, without what differs from run to run."""
    rounds = list(validation.advance(folds, epochs))
    return [[{key: value for key, value in row.items() if key != "seconds"} for row in rows] for rows in rounds]


def test_all_folds_advance_side_by_side(small: Small, data: TrainingData, splits: Splits) -> None:
    validation = CrossValidation(small(), data, splits)
    rounds = list(validation.advance(3, 2))
    assert [[(row["fold"], row["epoch"]) for row in rows] for rows in rounds] == [
        [(0, 1), (1, 1), (2, 1)],
        [(0, 2), (1, 2), (2, 2)],
    ]
    assert all(set(row) == COLUMNS for rows in rounds for row in rows)
    measured = validation.measure(3)
    assert (measured.folds, measured.epochs) == (3, 2)
    assert list(measured.fold_auc) == [row["auc"] for row in rounds[-1]]
    assert list(measured.fold_accuracy) == [row["accuracy"] for row in rounds[-1]]
    assert measured.seconds == pytest.approx(sum(row["seconds"] for rows in rounds for row in rows))


def test_the_scores_of_the_cases_give_the_folds_results(small: Small, data: TrainingData, splits: Splits) -> None:
    """Races take the scores in the order of the images of the dataset."""
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 2, 2)
    case_scores = Cases.of(data, splits, 100, 0).case_scores(2, validation.scores(2))
    assert [fold.auc for fold in case_scores] == pytest.approx(validation.measure(2).fold_auc)


def test_folds_that_are_behind_catch_up(small: Small, data: TrainingData, splits: Splits) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 1, 2)
    with pytest.raises(KeyError):
        validation.measure(2)
    caught_up = rows_of(validation, 2, 2)
    assert [[(row["fold"], row["epoch"]) for row in rows] for rows in caught_up] == [[(1, 1)], [(1, 2)]]
    straight = rows_of(CrossValidation(small(), data, splits), 2, 2)
    assert [rows[1] for rows in straight] == [rows[0] for rows in caught_up]
    assert rows_of(validation, 2, 2) == []


def test_measuring_folds_of_different_epochs_is_refused(small: Small, data: TrainingData, splits: Splits) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 2, 1)
    rows_of(validation, 1, 2)
    with pytest.raises(ValueError, match="different numbers of epochs"):
        validation.measure(2)


def test_every_image_is_predicted_once_by_the_model_that_has_not_seen_its_patient(
    small: Small, data: TrainingData, splits: Splits
) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 3, 2)
    table = validation.predictions()
    assert [str(kind) for kind in table.schema.types] == ["int32", "string", "string", "int64", "double"]
    frame = table.to_pandas().set_index("image_id")
    assert sorted(frame.index) == sorted(data.image_ids)
    assert [splits.patients[patient] for patient in frame["patient_id"]] == frame["fold"].tolist()
    assert frame["label"].loc[data.image_ids].tolist() == data.labels.tolist()
    fold = splits.fold(data, 1)
    alone = Trainer(small(), data, fold.train_images, fold.train_patches, fold=1)
    alone.advance()
    alone.advance()
    scores = frame["score"].loc[data.image_ids[fold.test_images]]
    assert scores.tolist() == alone.score(fold.test_images).tolist()
    assert auc(data.labels[fold.test_images], scores) == validation.measure(3).fold_auc[1]


def test_predictions_of_some_folds_only_are_refused(small: Small, data: TrainingData, splits: Splits) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 2, 1)
    with pytest.raises(KeyError):
        validation.predictions()


@pytest.mark.parametrize("changes", [{"training__k": 2, "model__dropout": 0.2}, {"model__norm": "batch"}])
def test_a_saved_run_goes_on_bit_by_bit(
    changes: dict[str, Any], small: Small, data: TrainingData, splits: Splits, tmp_path: Path
) -> None:
    whole = CrossValidation(small(**changes), data, splits)
    rounds = rows_of(whole, 3, 3)

    first = CrossValidation(small(**changes), data, splits)
    rows_of(first, 3, 1)
    first.save(tmp_path)
    second = CrossValidation(small(**changes), data, splits)
    second.load_state(tmp_path)
    assert second.measure(3).fold_auc == first.measure(3).fold_auc
    assert second.measure(3).seconds == first.measure(3).seconds
    assert rows_of(second, 3, 3) == rounds[1:]
    assert second.predictions().equals(whole.predictions())
    one, two = whole.state_dict()["folds"], second.state_dict()["folds"]
    for fold in range(3):
        for kind in ("discriminator", "classifier", "generator"):
            moments = [state["trainer"]["optimizers"][kind]["state"] for state in (one[fold], two[fold])]
            assert all(torch.equal(moments[0][i][key], moments[1][i][key]) for i in moments[0] for key in moments[0][i])


def test_a_state_of_something_else_is_refused(small: Small, data: TrainingData, splits: Splits, tmp_path: Path) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 1, 1)
    validation.save(tmp_path)
    others = {
        "training.k is 1 there and 2 here": CrossValidation(small(training__k=2), data, splits),
        "dataset is 'f+' there and 'e+' here": CrossValidation(
            small(), replace(data, fingerprint="e" * 64), replace(splits, fingerprint="e" * 64)
        ),
        "splits is '[0-9a-f]+' there and '[0-9a-f]+' here": CrossValidation(small(), data, make_splits(data, 3, 1)),
        "labels is": CrossValidation(small(), shuffle_patients(data, 0), splits),
    }
    for message, other in others.items():
        with pytest.raises(MismatchError, match=message):
            other.load_state(tmp_path)
    with pytest.raises(DataError, match="no checkpoint is there"):
        CrossValidation(small(), data, splits).load_state(tmp_path / "nowhere")


def test_the_exported_models_score_as_the_folds_do(
    small: Small, data: TrainingData, splits: Splits, tmp_path: Path
) -> None:
    validation = CrossValidation(small(), data, splits)
    rows_of(validation, 3, 1)
    validation.export(tmp_path / "best")
    assert sorted(path.name for path in (tmp_path / "best").iterdir()) == [
        "config.yaml", "fold-0.safetensors", "fold-1.safetensors", "fold-2.safetensors", "patients.json",
    ]  # fmt: skip
    card, models = read_models(tmp_path / "best")
    assert card.experiment == validation.config
    images = torch.from_numpy(data.images.astype(np.float32) / 32767.5 - 1)[:, None]
    for number, model in enumerate(models):
        tested = splits.fold(data, number).test_images
        scores = model(images[tested]).double().softmax(dim=1)[:, 1].tolist()
        frame = validation.predictions().to_pandas()
        np.testing.assert_allclose(scores, frame[frame["fold"] == number]["score"], atol=1e-5)
