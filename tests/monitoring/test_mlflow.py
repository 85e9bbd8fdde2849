"""Studies as MLflow runs, in a real store of MLflow's where that is installed."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from diagram_ray.errors import ConfigError, DiagramError, UsageError
from diagram_ray.monitoring import mlflow
from diagram_ray.monitoring.mlflow import check_mlflow, write_mlflow
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.study.config import build_study
from diagram_ray.study.integrations import MlflowConfig

SPACE = {"training.weight_decay": {"type": "float", "low": 0.0, "high": 1.0}}
DOCUMENT = {
    "id": "c0ffee", "study": {"name": "small"}, "dataset": {"fingerprint": "f" * 8}, "versions": {"commit": "abc"},
    "interrupted": None,
}  # fmt: skip
FIRST, LAST = Measurement(2, 1, (0.6, 0.8), (0.5, 0.7), 3.0), Measurement(3, 9, (0.9, 0.8, 0.7), (0.5,), 9.0)
TRIALS = {
    0: Trial(0, {"training.weight_decay": 0.25}, TrialState.COMPLETE, "", (FIRST, LAST)),
    1: Trial(1, {"training.weight_decay": 0.5, "model.gan": True}, TrialState.PRUNED, "pruned: 0.7", (FIRST,)),
    2: Trial(2, {"training.weight_decay": 0.75}, TrialState.FAIL, "loss is NaN"),
    3: Trial(3, {"training.weight_decay": 1.0}, TrialState.PRUNED, "constraint: 9 > 1", (), {"parameters": 9.0}),
    4: Trial(4, {"training.weight_decay": 0.1}, TrialState.RUNNING, "", (FIRST,)),
}


def test_a_study_says_where_and_never_with_which_password() -> None:
    study, _ = build_study({"name": "x", "space": SPACE}, "x.yaml")
    assert study.mlflow.tracking_uri is None
    check_mlflow(study.mlflow)
    write_mlflow(study.mlflow, {}, {})
    for uri in ("https://me:secret@example.org", "postgresql://me:secret@host/db", "https://example.org?key=secret"):
        with pytest.raises(ConfigError, match=r"x\.yaml: mlflow\.tracking_uri: ") as caught:
            build_study({"name": "x", "space": SPACE, "mlflow": {"tracking_uri": uri}}, "x.yaml")
        assert "secret" not in str(caught.value)


def test_what_is_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(
        UsageError, match=r"http://x: MLflow cannot be imported .*; pip install 'diagram_ray\[mlflow\]'"
    ):
        check_mlflow(MlflowConfig(tracking_uri="http://x"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with MLflow's tables."""
    pytest.importorskip("mlflow", reason="MLflow is not installed: pip install 'diagram_ray[mlflow]'")
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/runs.db"
    check_mlflow(MlflowConfig(tracking_uri=uri))
    return uri


@pytest.fixture
def config(store: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MlflowConfig:
    """An experiment for each test."""
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "topsecret")
    return MlflowConfig(tracking_uri=store, experiment=request.node.name)


def runs(config: MlflowConfig) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=config.tracking_uri)
    experiment = client.get_experiment_by_name(config.experiment)
    return sorted(client.search_runs([experiment.experiment_id]), key=lambda run: run.data.tags["mlflow.runName"])


its_own_warnings = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@its_own_warnings
def test_a_run_for_each_trial_that_has_ended(config: MlflowConfig) -> None:
    from mlflow import MlflowClient

    write_mlflow(config, DOCUMENT, TRIALS)
    study, *trials = runs(config)
    assert study.data.tags["mlflow.runName"] == "small"
    assert study.data.tags["diagram_ray.best"] == "trial 0"
    assert (study.data.metrics, study.info.status) == ({"auc": pytest.approx(0.8)}, "FINISHED")
    assert [run.info.status for run in trials] == ["FINISHED", "KILLED", "FAILED", "KILLED"]
    for number, run in enumerate(trials):
        trial, tags = TRIALS[number], run.data.tags
        assert tags["mlflow.parentRunId"] == study.info.run_id
        assert tags["mlflow.runName"] == f"trial {number}"
        assert (tags["diagram_ray.state"], tags["diagram_ray.reason"]) == (trial.state.value, trial.reason)
        assert run.data.params == {key: str(value) for key, value in trial.params.items()}
    client = MlflowClient(tracking_uri=config.tracking_uri)
    curve = client.get_metric_history(trials[0].info.run_id, "auc")
    assert [(point.step, point.value) for point in curve] == [(0, pytest.approx(0.7)), (1, pytest.approx(0.8))]
    assert trials[0].data.metrics["epochs"] == 9
    assert trials[3].data.metrics == {"parameters": 9.0}
    written = Path(str(config.tracking_uri).removeprefix("sqlite:///")).read_bytes()
    assert b"trial 3" in written
    assert b"topsecret" not in written


@its_own_warnings
def test_a_study_that_is_resumed_adds_what_is_missing(config: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "PAGE", 2)  # more runs than one answer holds
    write_mlflow(config, DOCUMENT | {"interrupted": "interrupted"}, TRIALS)
    before = runs(config)
    assert before[0].info.status == "KILLED"
    ended = TRIALS | {4: Trial(4, {"training.weight_decay": 0.1}, TrialState.COMPLETE, "", (FIRST, LAST))}
    write_mlflow(config, DOCUMENT, ended)
    write_mlflow(config, DOCUMENT, ended)
    after = runs(config)
    assert [run.data.tags["mlflow.runName"] for run in after] == ["small", *(f"trial {n}" for n in range(5))]
    assert [run.info.run_id for run in after[:5]] == [run.info.run_id for run in before]
    assert after[0].info.status == "FINISHED"
    write_mlflow(config, DOCUMENT | {"id": "another"}, TRIALS)
    assert len(runs(config)) == 6 + 5


@its_own_warnings
def test_a_kill_leaves_no_half_run_and_no_double(config: MlflowConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    log = MlflowClient.log_batch

    def killed(self: Any, run: str, **given: Any) -> None:
        if any(param.value == "0.5" for param in given["params"]):
            raise OSError("no answer")
        log(self, run, **given)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", killed)
        with pytest.raises(DiagramError, match="MLflow does not do what it was asked: OSError: no answer"):
            write_mlflow(config, DOCUMENT, TRIALS)
    assert [run.info.status for run in runs(config)] == ["RUNNING", "FINISHED", "RUNNING"]
    write_mlflow(config, DOCUMENT, TRIALS)
    study, *trials = runs(config)
    assert [run.data.tags["diagram_ray.trial"] for run in trials] == ["0", "1", "2", "3"]
    assert trials[1].data.params == {"training.weight_decay": "0.5", "model.gan": "True"}
    assert study.info.status == "FINISHED"


@its_own_warnings
def test_an_experiment_that_was_deleted_is_refused(config: MlflowConfig) -> None:
    from mlflow import MlflowClient

    check_mlflow(config)
    client = MlflowClient(tracking_uri=config.tracking_uri)
    client.delete_experiment(client.get_experiment_by_name(config.experiment).experiment_id)
    with pytest.raises(UsageError, match=f"mlflow.experiment: '{config.experiment}' is deleted there; restore it"):
        check_mlflow(config)


@its_own_warnings
def test_a_server_that_is_not_there_is_told_before_anything_starts(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9: MLflow does not do what it was asked"):
        check_mlflow(MlflowConfig(tracking_uri="http://127.0.0.1:9"))
