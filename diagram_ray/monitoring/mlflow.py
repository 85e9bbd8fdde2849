"""The study as runs of an MLflow tracking server, for those who keep their experiments there.

mlflow: {tracking_uri: https://mlflow.example.org, experiment: mammograms}      # in a study file

One run for the study, and below it one for each trial that has ended. They are made from the ledger when a study ends
or is interrupted, and nothing is ever read from them but which trials are there: a study that is resumed adds those
that are not. A run that was not finished, because the driver was killed, is deleted and made again.

MLflow finds user and password, or a token, in the environment (MLFLOW_TRACKING_TOKEN and others). They are no part of a
study file, and are written nowhere.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from diagram_ray.errors import DiagramError, UsageError, one_line
from diagram_ray.results import Trial, TrialState, best_of
from diagram_ray.study.integrations import MlflowConfig

STUDY, TRIAL, STATE, REASON = (f"diagram_ray.{name}" for name in ("study", "trial", "state", "reason"))
"""Tags of runs. STUDY is the `id` in study.yaml; the study's own run has no TRIAL."""
RUN_NAME, PARENT = "mlflow.runName", "mlflow.parentRunId"
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
LONGEST = 5000
"""Most characters of a tag's value that every server takes."""
PAGE = 1000
QUIET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}
"""Settings of MLflow's client, unless they are set: with its own seven retries a server that is not there is noticed
after minutes, and it prints two lines for each run."""


def check_mlflow(config: MlflowConfig) -> None:
    """Raises UsageError if a study is to be logged and cannot be: MLflow is not installed, or does not answer."""
    if config.tracking_uri is not None:
        with _one_sentence_errors(config, UsageError):
            _experiment(_client(config), config.experiment)


def write_mlflow(config: MlflowConfig, document: Mapping[str, Any], trials: Mapping[int, Trial]) -> None:
    """Logs the study whose study.yaml is `document`, and those of its trials that have ended and are not there yet.

    Nobody else may log the study meanwhile. Raises DiagramError if MLflow does not do what it is asked; what is there
    then stays, and the next call goes on with it.
    """
    if config.tracking_uri is None:
        return
    with _one_sentence_errors(config, DiagramError):
        client = _client(config)
        place = _Place(client, _experiment(client, config.experiment), str(document.get("id") or document["started"]))
        runs = place.runs()
        parent = runs[None].info.run_id if None in runs else place.begin(document["study"]["name"], {})
        for number, trial in sorted(trials.items()):
            run = runs.get(number)
            if trial.state not in STATUS or (run is not None and run.info.status != "RUNNING"):
                continue
            if run is not None:
                client.delete_run(run.info.run_id)
            place.write(trial, parent)
        _describe(client, parent, document, trials)


@dataclass(frozen=True)
class _Place:
    """The place of the runs of one study."""

    client: Any
    experiment: str
    """Id of MLflow's experiment."""
    study: str

    def runs(self) -> dict[int | None, Any]:
        """The runs that are there, by the trial's number; the study's own by None."""
        runs: dict[int | None, Any] = {}
        token = None
        while True:
            query = f"tags.`{STUDY}` = '{self.study}'"
            page = self.client.search_runs([self.experiment], query, max_results=PAGE, page_token=token)
            for run in page:
                number = run.data.tags.get(TRIAL)
                runs[None if number is None else int(number)] = run
            token = page.token
            if not token:
                return runs

    def begin(self, name: str, tags: Mapping[str, str]) -> str:
        """Begins a new run; returns its id."""
        run = self.client.create_run(self.experiment, tags={RUN_NAME: name, STUDY: self.study, **tags})
        return str(run.info.run_id)

    def write(self, trial: Trial, parent: str) -> None:
        """Writes the run of a trial that has ended: it is whole once it is terminated."""
        from mlflow.entities import Metric, Param

        number = str(trial.number)
        tags = {TRIAL: number, PARENT: parent, STATE: trial.state.value, REASON: trial.reason[:LONGEST]}
        run, now = self.begin(f"trial {number}", tags), time.time_ns() // 1_000_000
        params = [Param(key, str(value)) for key, value in trial.params.items()]
        metrics = [Metric(name, value, now, step) for name, value, step in _figures(trial)]
        self.client.log_batch(run, metrics=metrics, params=params)
        self.client.set_terminated(run, STATUS[trial.state])


def _figures(trial: Trial) -> Iterator[tuple[str, float, int]]:
    """The name, value and step of each figure: the step is the rung, from 0. The last ones are the trial's own."""
    for rung, measured in enumerate(trial.measurements):
        yield "auc", measured.auc_mean, rung
        yield "auc_sd", measured.auc_sd, rung
        if measured.training_auc is not None:
            yield "training_auc", measured.training_auc, rung
        yield "accuracy", measured.accuracy_mean, rung
        yield "folds", float(measured.folds), rung
        yield "epochs", float(measured.epochs), rung
        yield "seconds", measured.seconds, rung
    for name, size in trial.sizes.items():
        yield name, size, 0


def _describe(client: Any, parent: str, document: Mapping[str, Any], trials: Mapping[int, Trial]) -> None:
    """Writes the study's own run, as it stands now."""
    best, dataset = best_of(trials), document["dataset"]
    tags = {
        "diagram_ray.dataset": str(dataset.get("fingerprint")),
        "diagram_ray.commit": str(document["versions"].get("commit")),
        "diagram_ray.best": f"trial {best.number}" if best else "none",
        "diagram_ray.interrupted": str(document["interrupted"] or ""),
    }
    for key, value in tags.items():
        client.set_tag(parent, key, value)
    if best is not None and best.last is not None:
        client.log_metric(parent, "auc", best.last.auc_mean, step=len(trials))
    client.set_terminated(parent, "KILLED" if document["interrupted"] else "FINISHED")


def _experiment(client: Any, name: str) -> str:
    """The id of MLflow's experiment, which is made if it does not exist. Raises UsageError if it has been deleted."""
    existing = client.get_experiment_by_name(name)
    if existing is None:
        return str(client.create_experiment(name))
    if existing.lifecycle_stage != "active":
        raise UsageError(
            f"mlflow.experiment: {name!r} is {existing.lifecycle_stage} there; restore it, or name another"
        )
    return str(existing.experiment_id)


def _client(config: MlflowConfig) -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UsageError(
            f"mlflow.tracking_uri: {config.tracking_uri}: MLflow cannot be imported ({one_line(error)}); "
            "pip install 'diagram_ray[mlflow]', or leave mlflow out of the study"
        ) from None
    return MlflowClient(tracking_uri=config.tracking_uri)


@contextmanager
def _one_sentence_errors(config: MlflowConfig, kind: type[DiagramError]) -> Iterator[None]:
    """Turns what MLflow raises into a DiagramError of one sentence."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    except DiagramError:
        raise
    except Exception as error:  # MLflow, its stores and its HTTP client raise kinds of their own
        where = f"mlflow.tracking_uri: {config.tracking_uri}"
        raise kind(f"{where}: MLflow does not do what it was asked: {one_line(error)}") from None
