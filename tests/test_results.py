"""The study folder is read back with clear refusals, and files appear whole."""

import os
from pathlib import Path

import pandas as pd
import pytest

from diagram_ray.errors import DataError
from diagram_ray.results import Measurement, Study, Trial
from diagram_ray.storage.atomic import write_atomic


def test_measurements_average_their_folds() -> None:
    measurement = Measurement(3, 9, (0.7, 0.8, 0.9), (0.5, 0.75, 1.0), 12.0)
    assert measurement.auc_mean == pytest.approx(0.8)
    assert measurement.auc_sd == pytest.approx(0.1)
    assert measurement.accuracy_mean == pytest.approx(0.75)
    assert Measurement(1, 1, (0.7,), (0.5,), 1.0).auc_sd == 0.0


def test_the_last_measurement_of_a_trial() -> None:
    first, second = (Measurement(5, epochs, (0.5,), (0.5,), 1.0) for epochs in (1, 3))
    assert Trial(0, {}).last is None
    assert Trial(0, {}, measurements=(first, second)).last is second


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


def test_best_is_the_earliest_of_the_best_complete_trials(tmp_path: Path) -> None:
    table = {
        "number": [0, 1, 2, 3],
        "state": ["COMPLETE", "PRUNED", "COMPLETE", "COMPLETE"],
        "auc_mean": [0.7, 0.99, 0.8, 0.8],
    }
    study = Study(tmp_path)
    pd.DataFrame(table).to_parquet(tmp_path / "trials.parquet")
    assert study.best["number"] == 2


def test_a_folder_that_is_not_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a study"):
        Study.load(tmp_path)
    (tmp_path / "study.yaml").write_text("a: 1")
    study = Study.load(tmp_path)
    assert study.document == {"a": 1}
    with pytest.raises(DataError, match="--resume"):
        _ = study.trials
    with pytest.raises(DataError, match=r"splits\.json"):
        _ = study.splits
    assert study.control is None


def test_a_study_without_a_complete_trial_has_no_best(tmp_path: Path) -> None:
    pd.DataFrame({"number": [0], "state": ["FAIL"], "auc_mean": [float("nan")]}).to_parquet(tmp_path / "trials.parquet")
    with pytest.raises(DataError, match="no trial is complete"):
        _ = Study(tmp_path).best
