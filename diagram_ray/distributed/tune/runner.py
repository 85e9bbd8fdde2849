"""Ray Tune as the runner of a search: it starts workers and carries messages; `StudyState` decides.

One worker process serves trial after trial (`reuse_actors`), which takes a trial's start from seconds to tens of
milliseconds. Tune's own loggers, snapshots and restore stay unused: the study's ledger is the truth. A trial whose
worker dies is started again and goes on from its last checkpoint.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.error import TuneError

from diagram_ray.data.training_data import TrainingData
from diagram_ray.distributed.ray_storage import scratch, storage
from diagram_ray.distributed.resources import COORDINATOR_CPUS, TrialResources
from diagram_ray.distributed.retries import RetryPolicy
from diagram_ray.distributed.session import environment
from diagram_ray.distributed.tune.callbacks import Bridge, Decisions, Proposals, Stopper, Ticks
from diagram_ray.distributed.tune.trainable import Worker
from diagram_ray.distributed.work import Work
from diagram_ray.errors import DiagramError
from diagram_ray.monitoring.terminal import Listener
from diagram_ray.search.budget import Meter
from diagram_ray.search.scheduler import StudyState
from diagram_ray.storage.paths import Place
from diagram_ray.study.trial_files import TrialCleanup

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "1000000000",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}


def run_search(
    state: StudyState,
    work: Work,
    share: TrialResources,
    data: TrainingData,
    splits: Any,
    listener: Listener,
    losses: RetryPolicy,
    time_budget: float | None = None,
    meter: Meter | None = None,
) -> None:
    """Runs trials on the cluster that is joined, until the study is finished or stopped (`state.stopping` says why).

    `time_budget` in seconds; `meter` counts what the workers cost. Raises what the journal raises, for example
    DataError or OSError, and DiagramError if Ray fails.
    """
    bridge = Bridge(state, TrialCleanup(work.folder, state.trials), losses, listener, time_budget, meter)
    if state.finished:
        return
    with _settings(share), scratch(work.folder) as place:
        trainable = _trainable(work, share, data, splits, place)
        try:
            tune.run(
                trainable,
                name="tune",
                **storage(place),
                num_samples=-1,
                search_alg=Proposals(bridge),
                scheduler=Decisions(bridge),
                stop=Stopper(bridge),
                callbacks=[Ticks(bridge)],
                resources_per_trial=_resources(share),
                reuse_actors=True,
                max_failures=0,  # the bridge starts them again
                raise_on_failed_trial=False,
                trial_dirname_creator=_trial_name,
                trial_name_creator=_trial_name,
                verbose=0,
            )
        except Exception as error:
            if not isinstance(error, TuneError | RayError) and isinstance(place, Path):
                raise  # in an object store Tune's own writing raises kinds of the store's
            bridge.fault = bridge.fault or _ray_failed(work.folder, str(error).strip().rpartition("\n")[2])
    if bridge.fault is None and not state.finished and not state.stopping:
        bridge.fault = _ray_failed(work.folder, "Tune ended before all trials had")
    if bridge.fault is not None:
        raise bridge.fault


def _trainable(work: Work, share: TrialResources, data: TrainingData, splits: Any, scratch: Place) -> Any:
    """The trainable that Tune starts for a trial: a process that trains, or one that asks a group of processes."""
    if share.workers == 1:
        return tune.with_parameters(Worker, work=work, share=share, data=data, splits=splits)
    from diagram_ray.distributed.groups.group_trainable import GroupWorker

    inputs = ray.put(data), ray.put(splits)
    return tune.with_parameters(GroupWorker, work=work, share=share, inputs=inputs, scratch=scratch)


def _resources(share: TrialResources) -> dict[str, float]:
    """The resources of the process that Tune starts. Ray Train takes a group's resources by itself, beside it."""
    if share.workers == 1:
        return {"cpu": share.cpus, "gpu": share.gpus}
    return {"cpu": COORDINATOR_CPUS, "gpu": 0.0}


def _ray_failed(folder: Place, why: str) -> DiagramError:
    return DiagramError(f"Ray failed: {why}; what is done is kept, go on with it: tune --resume {folder}")


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.config['number']:04d}"


@contextmanager
def _settings(share: TrialResources) -> Iterator[None]:
    """Sets Tune's settings in the environment, from which it reads them; they are put back afterwards."""
    # Without the last one Tune starts its workers one after the other.
    settings = SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(share.trials)}
    logger = logging.getLogger("ray.tune")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would report every trial that is put aside
    try:
        with environment(settings):
            yield
    finally:
        logger.setLevel(level)
