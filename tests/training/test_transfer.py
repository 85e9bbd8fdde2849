"""Weights of one training as the beginning of another: which fold gets which, what is refused, what is recorded."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig, override
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.errors import ConfigError, DataError, LeakageError, UsageError
from diagram_ray.study.config import read_study
from diagram_ray.study.study_folder import Plan, new_document, read_plan, write_document
from diagram_ray.training.checkpoints.model_folder import (
    PATIENTS,
    card_for,
    read_card,
    read_model,
    read_patients,
    write_models,
)
from diagram_ray.training.checkpoints.store import CheckpointStore
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.transfer import read_initial, starting_config

Small = Callable[..., ExperimentConfig]


def others(data: TrainingData, prefix: str = "q", **changes: Any) -> TrainingData:
    """The same pictures of other people, as another dataset."""

    def named(names: Any) -> Any:
        return np.array([prefix + name for name in names])

    people = {"patient_ids": named(data.patient_ids), "patch_patient_ids": named(data.patch_patient_ids)}
    return replace(data, fingerprint=prefix * 64, **people, **changes)


@pytest.fixture(scope="session")
def splits(data: TrainingData) -> Splits:
    return make_splits(data, 3, seed=0)


@pytest.fixture(scope="session")
def study(small: Small, data: TrainingData, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder: the models of three folds of `data`, after one epoch, of width 8 and without G."""
    folder = tmp_path_factory.mktemp("study")
    validation = CrossValidation(small(model__width=8, model__gan=False, model__dropout=0.1), data, splits)
    list(validation.advance(3, 1))
    validation.export(folder / "best")
    (folder / "study.yaml").write_text("{}")
    return folder


def tuned(source: Path, **changes: Any) -> ExperimentConfig:
    values = {"training.image_batch": 4, "training.epochs": 2, "training.learning_rate.classifier": 0.003}
    settings = {key.replace("__", "."): value for key, value in changes.items()}
    return override(starting_config(source), values | settings, "test")


def test_fine_tuning_has_the_sources_model_20_epochs_and_images_alone(study: Path) -> None:
    for source in (study, study / "best", study / "best" / "fold-1.safetensors"):
        config = starting_config(source)
        assert (config.model.width, config.model.dropout, config.model.gan) == (8, 0.1, False)
        assert (config.training.epochs, config.training.multi_task) == (20, False)
        assert config.training.learning_rate == ExperimentConfig().training.learning_rate
    with pytest.raises(DataError, match="not a model"):
        starting_config(study / "nothing")


def test_fold_k_starts_with_f_and_e_of_fold_k(study: Path, data: TrainingData) -> None:
    target = others(data)
    splits = make_splits(target, 3, seed=5)
    initial = read_initial(study, tuned(study), target, splits)
    validation = CrossValidation(tuned(study), target, splits, initial=initial)
    for fold in range(3):
        source = read_model(study / "best" / f"fold-{fold}.safetensors").state_dict()
        state = validation._trainer(validation._run(fold)).model.state_dict()
        assert state.keys() == source.keys()  # of the same classes: the output layer is taken too
        for name, value in source.items():
            assert torch.equal(state[name], value) == name.startswith(("features", "classifier")), name


def test_one_model_starts_every_fold_and_images_may_have_another_size(study: Path, data: TrainingData) -> None:
    larger = np.pad(data.images, ((0, 0), (0, 16), (0, 32)))
    target = others(data, images=larger, patches=np.pad(data.patches, ((0, 0), (0, 16), (0, 16))))
    splits = make_splits(target, 4, seed=0)
    file = study / "best" / "fold-2.safetensors"
    initial = read_initial(file, tuned(study), target, splits)
    validation = CrossValidation(tuned(study, training__multi_task=True), target, splits, initial=initial)
    source = read_model(file).state_dict()
    for fold in range(4):
        state = validation._trainer(validation._run(fold)).model.state_dict()
        assert all(torch.equal(state[name], value) for name, value in source.items() if "discriminator" not in name)
    assert all(np.isfinite(row["loss_image"]) for rows in validation.advance(4, 1) for row in rows)


def test_the_output_layer_is_made_anew_for_other_classes(
    study: Path, data: TrainingData, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("diagram_ray"), "propagate", True)
    target = others(data, classes=("low", "high"))
    splits = make_splits(target, 3, seed=0)
    with caplog.at_level(logging.INFO):
        initial = read_initial(study, tuned(study), target, splits)
    assert "was trained for the classes benign, cancer; E's output layer is made anew for low, high" in caplog.text
    names = set(initial.of_fold(0))
    assert "classifier.output.weight" not in names
    assert "classifier.blocks.5.second.weight" in names
    validation = CrossValidation(tuned(study), target, splits, initial=initial)
    anew = CrossValidation(tuned(study), target, splits)
    one, other = (v._trainer(v._run(1)).model.state_dict()["classifier.output.weight"] for v in (validation, anew))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model__width": 16}, "model.width = 8, and model.width = 16 was asked for"),
        ({"model__pixels": "range"}, "model.pixels = 'breast', and model.pixels = 'range' was asked for"),
        ({"model__norm": "batch"}, "model.norm = 'weight-standardised', and model.norm = 'batch' was asked for"),
    ],
)
def test_another_model_is_refused(
    changes: dict[str, Any], message: str, study: Path, data: TrainingData, splits: Splits
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_initial(study, tuned(study, **changes), data, splits)


def test_folds_that_do_not_correspond_are_refused_and_one_can_be_named(study: Path, data: TrainingData) -> None:
    target = others(data)
    for splits, wanted in ((make_splits(target, 4, 0), "4 folds"), (None, "one model of all the data")):
        with pytest.raises(UsageError, match=f"has the models of 3 folds, and {wanted} are to be trained; name one"):
            read_initial(study, tuned(study), target, splits)
        assert len(read_initial(study / "best" / "fold-0.safetensors", tuned(study), target, splits).folds) == 1


# --- leakage ----------------------------------------------------------------------------------------------------------


def test_folds_with_the_same_patients_may_go_on_and_no_others(study: Path, data: TrainingData, splits: Splits) -> None:
    read_initial(study, tuned(study), data, splits)
    with pytest.raises(LeakageError, match=r"fold 0: these weights were trained on \d of the \d patients"):
        read_initial(study, tuned(study), data, make_splits(data, 3, seed=1))
    file = study / "best" / "fold-1.safetensors"
    with pytest.raises(LeakageError, match=r"fold 0: .* who test or validate the fold, for example p"):
        read_initial(file, tuned(study), data, splits)
    read_initial(file, tuned(study), data, splits, fold=1)
    read_initial(file, tuned(study), data)  # nobody is tested
    with pytest.raises(LeakageError, match="who test or validate"):
        read_initial(file, tuned(study, training__validation_part=0.3), data)


def test_the_same_patients_in_another_dataset_are_found(study: Path, data: TrainingData) -> None:
    again = replace(data, fingerprint="e" * 64)  # as prepared once more, at another size
    with pytest.raises(LeakageError, match="prepare one dataset with another --key"):
        read_initial(study, tuned(study), again, make_splits(again, 3, seed=1))


def test_where_nothing_says_whom_weights_have_seen_the_dataset_decides(
    study: Path, data: TrainingData, small: Small, tmp_path: Path
) -> None:
    model = read_model(study / "best" / "fold-0.safetensors")
    card = read_card(study)
    write_models(tmp_path / "a", card, {"model": model})
    splits, target = make_splits(data, 3, seed=0), others(data)
    with pytest.raises(
        LeakageError, match=r"trained on the same dataset, f+, and nothing says on which of its patients"
    ):
        read_initial(tmp_path / "a", tuned(study), data, splits)
    initial = read_initial(tmp_path / "a", tuned(study), target, make_splits(target, 3, 0))
    # From f to q and back to f: the first dataset is not forgotten, and what is not known stays unknown.
    write_models(tmp_path / "b", card_for(card.experiment, target, initial.fingerprints), {"model": model})
    with pytest.raises(LeakageError, match=r"trained on the same dataset, f+"):
        read_initial(tmp_path / "b", tuned(study), data, splits)
    validation = CrossValidation(tuned(study), target, make_splits(target, 3, 0), initial=initial)
    list(validation.advance(1, 1))
    validation.export(tmp_path / "c")
    assert read_patients(tmp_path / "c" / "fold-0.safetensors") is None


def test_whom_weights_have_seen_is_passed_on(study: Path, data: TrainingData, splits: Splits, tmp_path: Path) -> None:
    target = others(data)
    cut = make_splits(target, 3, seed=0)
    initial = read_initial(study, tuned(study), target, cut)
    validation = CrossValidation(tuned(study), target, cut, initial=initial)
    list(validation.advance(3, 1))
    validation.export(tmp_path / "best")
    for fold in range(3):
        before = {name for name, own in splits.patients.items() if own != fold}
        own = {name for name, number in cut.patients.items() if number != fold}
        assert read_patients(tmp_path / "best" / f"fold-{fold}.safetensors") == before | own
    assert read_card(tmp_path / "best").initial == (data.fingerprint,)
    read_initial(tmp_path / "best", tuned(study), data, splits)
    with pytest.raises(LeakageError, match="fold 0"):
        read_initial(tmp_path / "best", tuned(study), data, make_splits(data, 3, seed=1))


@pytest.mark.parametrize("content", ["[", "[]", '{"fold-0": 3}', '{"fold-0": [3]}', "\udcff"])
def test_a_strange_list_of_patients_is_refused(content: str, study: Path, tmp_path: Path) -> None:
    model = read_model(study / "best" / "fold-0.safetensors")
    write_models(tmp_path / "m", read_card(study), {"fold-0": model}, {"fold-0": frozenset("a")})
    (tmp_path / "m" / PATIENTS).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=PATIENTS):
        read_patients(tmp_path / "m" / "fold-0.safetensors")


# --- in a study -------------------------------------------------------------------------------------------------------


def test_where_it_started_is_part_of_what_a_run_is(study: Path, data: TrainingData, tmp_path: Path) -> None:
    target = others(data)
    splits = make_splits(target, 3, seed=0)
    initial = read_initial(study, tuned(study), target, splits)
    whole = CrossValidation(tuned(study), target, splits, initial=initial)
    list(whole.advance(3, 2))
    first = CrossValidation(tuned(study), target, splits, initial=initial)
    list(first.advance(3, 1))
    with CheckpointStore(tmp_path, first.identity) as store:
        store.save(3, first.state_dict())
    second = CrossValidation(tuned(study), target, splits, initial=initial)
    second.load_state_dict(CheckpointStore(tmp_path, second.identity).load()[1])
    list(second.advance(3, 2))
    assert second.predictions().equals(whole.predictions())
    with pytest.raises(DataError, match=f"initial is '{initial.digest}' there and None here"):
        CheckpointStore(tmp_path, CrossValidation(tuned(study), target, splits).identity).load()


def test_a_study_says_where_its_trials_start_and_goes_on_from_there_only(
    study: Path, dataset: Path, data: TrainingData, splits: Splits, tmp_path: Path
) -> None:
    from diagram_ray.training.runs.inputs import SPLITS, load

    source = tmp_path / "source"
    shutil.copytree(study, source)
    text = f"{{name: tuned, init_from: {source}, folds: 3, base: {{training.image_batch: 4}}, space: {{%s}}}}"
    search = "training.weight_decay: {type: float, low: 0.0, high: 0.1}"
    (tmp_path / "study.yaml").write_text(text % search)
    config, base = read_study(tmp_path / "study.yaml", start=starting_config)
    assert (base.model.width, base.training.epochs, base.training.image_batch) == (8, 20, 4)
    plan = Plan(config, base, str(dataset), None)
    initial = load(plan).initial
    assert torch.equal(
        initial.of_fold(2)["features.layers.0.weight"],
        read_model(source / "best" / "fold-2.safetensors").features.layers[0].weight,
    )
    folder = tmp_path / "tuned"
    write_document(folder, new_document(plan, {"fingerprint": data.fingerprint}, data.classes, initial.describe()))
    (folder / SPLITS).write_text(splits.to_json())
    again = read_plan(folder)
    assert (again.study, again.base) == (config, base)
    assert load(again).initial.digest == initial.digest
    (tmp_path / "wide.yaml").write_text(text % "model.width: {type: int, low: 4, high: 8, step: 4}")
    with pytest.raises(ConfigError, match=r"space\.model\.width: cannot be searched, because it is given by the wei"):
        read_study(tmp_path / "wide.yaml", start=starting_config)
    shutil.copy(source / "best" / "fold-1.safetensors", source / "best" / "fold-2.safetensors")
    with pytest.raises(UsageError, match=f"with the SHA-256 {initial.digest}; they are now others"):
        load(again)
