"""A study that has been searched gets its trivial baselines once, and loses nothing if they cannot be had."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diagram_ray.auditing import baselines as auditing
from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.trivial_baselines import has_baselines, run_baselines
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.work import cross_validation
from diagram_ray.results import Study
from diagram_ray.study.config import StudyConfig
from diagram_ray.training.runs.inputs import StudyInputs
from tests.support.training.tiny_data import tiny_data


@pytest.fixture
def searched(tmp_path: Path) -> EndedStudy:
    data = tiny_data()
    manifest = pd.DataFrame({"image_id": data.image_ids, "view": np.where(data.labels == 1, "CC", "MLO")})
    inputs = StudyInputs(data, make_splits(data, 3, 0), {}, manifest=manifest)
    study = StudyConfig(name="tiny", base={}, space={}, folds=3, trials=1)
    return EndedStudy(tmp_path, study, ExperimentConfig(), {}, inputs, cross_validation)


def cluster(*, stopped: bool = False) -> Cluster:
    return Cluster(TrialResources(1, 1, 0), lambda: stopped, lambda: None)


def test_they_are_written_once_and_are_of_these_data_and_folds(searched: EndedStudy) -> None:
    assert not has_baselines(searched)
    run_baselines(searched, cluster())
    assert has_baselines(searched)
    (searched.folder / "study.yaml").write_text("{}")
    study = Study.load(searched.folder)
    assert study.baselines is not None
    assert study.baselines["unmeasured"] == ""
    assert study.baselines["seconds"] > 0
    names = [group["name"] for group in study.baselines["groups"]]
    assert list(study.baseline_predictions["group"].unique()) == names
    assert {"view", "histogram", "everything together"} <= set(names)
    other = replace(searched.inputs, splits=make_splits(searched.inputs.data, 3, 1))
    assert not has_baselines(replace(searched, inputs=other))
    (searched.folder / "baselines.parquet").unlink()
    assert not has_baselines(searched)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"unmeasured": "", "identity": 3}'])
def test_damaged_ones_are_measured_anew(searched: EndedStudy, text: str) -> None:
    run_baselines(searched, cluster())
    (searched.folder / "baselines.json").write_text(text)
    assert not has_baselines(searched)


def test_what_is_stopped_leaves_nothing_and_is_done_the_next_time(searched: EndedStudy) -> None:
    run_baselines(searched, cluster(stopped=True))
    assert list(searched.folder.iterdir()) == []
    assert not has_baselines(searched)


def test_what_nothing_can_be_told_by_is_said_and_asked_once(
    searched: EndedStudy, caplog: pytest.LogCaptureFixture
) -> None:
    data = searched.inputs.data
    blank = replace(searched.inputs, data=replace(data, images=np.zeros_like(data.images)), manifest=None)
    searched = replace(searched, inputs=blank)
    with caplog.at_level("WARNING", "diagram_ray"):
        run_baselines(searched, cluster())
    assert "trivial baselines could not be measured: what is known of the images is the same" in caplog.text
    assert not (searched.folder / "baselines.parquet").exists()
    assert has_baselines(searched)


def test_a_learner_that_breaks_costs_the_study_nothing(searched: EndedStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise FloatingPointError("overflow")

    monkeypatch.setattr(auditing, "scores_of", broken)
    run_baselines(searched, cluster())
    assert json.loads((searched.folder / "baselines.json").read_text())["unmeasured"] == "FloatingPointError: overflow"
