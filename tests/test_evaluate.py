"""evaluate: figures of studies and models on patients whom they have not seen; all else is refused, nothing written."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

from diagram_ray import evaluate as command
from diagram_ray import predict
from diagram_ray.data.training_data import TrainingData
from diagram_ray.results import Study
from diagram_ray.training.checkpoints.model_folder import PATIENTS, read_card, read_models, write_models
from tests.support.studies.small_study import make_study
from tests.support.training.tiny_data import tiny_data, write_dataset


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(str(make_study(tmp_path_factory.mktemp("studies") / "here")))


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hospital(tmp_path_factory.mktemp("hospitals") / "there", strangers())


def strangers(seen: str = "") -> TrainingData:
    """40 patients of another hospital, among them perhaps one of the study's."""
    data = tiny_data(40)
    patients = np.array([f"there-{name}" for name in data.patient_ids])
    patients[:2] = seen or patients[:2]
    images = np.array([f"there-{name}" for name in data.image_ids])
    return replace(data, patient_ids=patients, image_ids=images, patch_patient_ids=patients, fingerprint="e" * 64)


def write_hospital(folder: Path, data: TrainingData) -> Path:
    write_dataset(folder, data)
    manifest = pd.read_parquet(folder / "manifest.parquet")
    count = len(manifest)
    columns = {"laterality": ["L", "R"] * (count // 2), "density": [1.0, 2.0, 2.0, 3.0] * (count // 4)}
    manifest.assign(**columns).to_parquet(folder / "manifest.parquet")
    return folder


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(command.app, [str(argument) for argument in arguments])


def test_a_study_is_measured_on_other_patients(study: Path, there: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = invoke(study, there, "--out", out, "--json", "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in out.iterdir()} == {
        "evaluation.html", "evaluation.json", "figures.csv", "subgroups.csv", "predictions.parquet",
    }  # fmt: skip
    table = pq.read_table(out / "predictions.parquet").to_pandas()
    assert list(table.columns) == ["image_id", "patient_id", "label", "score_study"]
    data = strangers()
    expected = predict.load(study).predict_array(np.array(data.images))[:, 1]
    np.testing.assert_allclose(table.set_index("image_id").loc[data.image_ids, "score_study"], expected)
    document = json.loads((out / "evaluation.json").read_text())
    (model,) = document["models"]
    auc = roc_auc_score(table["label"], table["score_study"])
    assert model["units"][0]["figures"]["auc"]["value"] == pytest.approx(auc)
    assert json.loads(result.stdout.splitlines()[-1]) == {"out": str(out)} | document
    assert document["dataset"] | {"place": ""} == {
        "place": "", "fingerprint": "e" * 64, "classes": list(data.classes), "images": 80, "patients": 40,
        "labels": {data.classes[0]: 40, data.classes[1]: 40},
    }  # fmt: skip
    groups = pd.read_csv(out / "subgroups.csv")
    assert groups.groupby("column")["images"].sum().to_dict() == {"density": 80, "laterality": 80}
    assert f"AUC {auc:.2f}" in result.stdout
    page = (out / "evaluation.html").read_text()
    assert f"{auc:.3f}" in page
    assert "http://" not in page, "nothing is fetched"
    assert "https://" not in page


def test_the_operating_point_is_that_of_the_studys_out_of_fold_scores(study: Path, there: Path) -> None:
    evaluation = command.evaluate_models([study], str(there))
    learned = Study.load(study)
    rows = learned.predictions[learned.predictions["trial"] == learned.best["number"]]
    assert evaluation.models[0].units[0].threshold in rows["score"].tolist()
    assert evaluation.models[0].line is not None


def test_several_models_are_compared(study: Path, there: Path, tmp_path: Path) -> None:
    card, models = read_models(study)
    for name, part in (("one", models[:1]), ("two", models[1:2])):
        write_models(tmp_path / name, card, {"model": part[0]})
    evaluation = command.evaluate_models([tmp_path / "one", tmp_path / "two"], str(there))
    assert [model.name for model in evaluation.models] == ["one", "two"]
    assert [model.units[0].threshold for model in evaluation.models] == [0.5, 0.5]
    (pair,) = evaluation.differences
    aucs = [model.units[0].figures["auc"].value for model in evaluation.models]
    assert pair.patients.difference.value == pytest.approx(aucs[1] - aucs[0])
    assert len(evaluation.notes) == 2
    assert all("does not say whom it was trained on" in note for note in evaluation.notes)


def test_classes_of_another_question_are_taken_when_they_are_named_and_noted(study: Path, tmp_path: Path) -> None:
    other = write_hospital(tmp_path / "other", replace(strangers(), classes=("fatty", "dense")))
    negative, positive = read_card(study).classes
    refused = invoke(study, other, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert f"its classes are fatty and dense, and {study} tells {negative} from {positive}" in refused.stderr
    classes = json.dumps({negative: ["fatty"], positive: ["dense"]})
    taken = invoke(study, other, "--out", tmp_path / "out", "--set", f"data.classes={classes}")
    assert taken.exit_code == 0, taken.stderr
    assert "was trained for another question" in taken.stdout
    assert "was trained for another question" in (tmp_path / "out" / "evaluation.html").read_text()


def test_a_model_that_has_seen_a_patient_is_refused(study: Path, tmp_path: Path) -> None:
    patient = json.loads((study / "best" / PATIENTS).read_text())["fold-0"][0]
    dataset = write_hospital(tmp_path / "dataset", strangers(seen=patient))
    result = invoke(study, dataset, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{study} was trained on 1 of its 40 patients, the first {patient}" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_measured_on_what_it_was_trained_on(study: Path, tmp_path: Path) -> None:
    result = invoke(study, study.parent / "dataset", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert f"{study} was trained on this dataset" in result.stderr


def without_a_class(data: TrainingData) -> TrainingData:
    return replace(data, labels=np.zeros_like(data.labels))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            None,
            ["--set", "training.k=2"],
            "--set training.k: a trained model has its settings; allowed are data.target",
        ),
        (None, ["--set", "data.target=colour"], "data.target: the manifest has no column 'colour'"),
        (None, ["--by", "colour"], "--by colour: the manifest has no such column"),
        (without_a_class, [], "class 'cancer': no image has label 'cancer'; found: benign"),
        (lambda data: replace(data, images=data.images[:, :16]), [], "its images have the size (16, 32)"),
    ],
)
def test_what_cannot_be_measured_is_told_and_nothing_is_written(
    change: object, options: list[str], message: str, study: Path, tmp_path: Path
) -> None:
    data = strangers() if change is None else change(strangers())  # type: ignore[operator]
    dataset = write_hospital(tmp_path / "dataset", data)
    result = invoke(study, dataset, "--out", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset"]


def test_arguments_that_are_missing_or_taken_are_told(study: Path, there: Path, tmp_path: Path) -> None:
    assert "a model and a dataset are needed" in invoke(study, "--out", tmp_path / "out").stderr
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert "exists and is not an empty folder" in invoke(study, there, "--out", tmp_path / "full").stderr
    assert "not a model" in invoke(tmp_path / "full", there, "--out", tmp_path / "out").stderr
    assert "not a prepared dataset" in invoke(study, tmp_path / "full", "--out", tmp_path / "out").stderr
