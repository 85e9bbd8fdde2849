"""Trials on several devices: a Ray Train worker group that trains one trial after another.

Ray Train starts the processes, joins them by torch.distributed, watches over them and starts them anew when one is
lost. The first of them leads (`training.parallel.leader`): it runs the trial exactly as a single warm worker does, with
the others at its side. Between trials the group stays, because starting it takes many seconds.

The group ends when the channel is closed, so that Ray Train itself takes its placement group and its helpers away.
"""

import os
import threading
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray import train
from ray.exceptions import RayError
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util import get_current_placement_group, placement_group_table

from diagram_ray.config import override
from diagram_ray.distributed.groups.channel import GroupChannel, Job
from diagram_ray.distributed.nodes import DrainNotice, gone, own_device
from diagram_ray.distributed.ray_storage import storage
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.retries import RETRIES
from diagram_ray.distributed.work import Work
from diagram_ray.errors import DiagramError
from diagram_ray.search.messages import Device, TrialReport
from diagram_ray.storage.paths import Place
from diagram_ray.study.trial_files import TrialFiles
from diagram_ray.training.runs.trial import CrossValidationLike, TrialRun

SETTINGS = {
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",  # so that the dashboard's /api/train/v2/runs/v1 lists the group
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # the group is started anew all the same when a node has gone
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # by default 2: all start-up and ends wait for it
}
NO_ROOM = 2
"""Times that Ray Train may ask again for room for the group; each time it waits a minute."""
PATIENCE = 24 * 3600
"""Seconds that the processes of a group wait for each other: those of a small fold wait for those of a large one. A
process that died is noticed at once."""
FAREWELL = 30.0
"""Seconds that a group has to end."""
POLL = 1.0


@dataclass(frozen=True)
class GroupArgs:
    """The inputs of the processes of a group."""

    channel: Any
    work: Work
    share: TrialResources
    inputs: tuple[Any, Any]
    """Object references of data and splits: each node maps them once."""

    def __str__(self) -> str:
        return f"study {self.work.study}, {self.share}"  # in Ray's list of runs


class WorkerGroup:
    """A worker group, as the process that started it sees it. It starts at once, in the background.

    `name` is what Ray calls it; no other group may have it that writes into `scratch` at the same time.
    """

    def __init__(self, name: str, work: Work, share: TrialResources, inputs: tuple[Any, Any], scratch: Place) -> None:
        os.environ.update(SETTINGS)
        # Ray's helpers look for the cluster by themselves, and there may be several on one machine.
        os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        channel: Any = ray.remote(num_cpus=0, max_concurrency=100)(GroupChannel)  # type: ignore[call-overload]
        self._channel = channel.remote(RETRIES)
        self._fault: Exception | None = None
        trainer = _trainer(name, GroupArgs(self._channel, work, share, inputs), scratch)
        self._thread = threading.Thread(target=self._fit, args=[trainer], daemon=True)
        self._thread.start()

    def begin(self, number: int, params: dict[str, Any]) -> None:
        """Begins the next trial."""
        ray.get(self._channel.begin.remote(Job(number, params)))

    def place(self) -> Any:
        """The group's placement group, once it has started. Raises DiagramError if it could not start."""
        return self._wait(self._channel.place.remote())

    def next_round(self) -> TrialReport:
        """Lets the trial go on, and returns its next report. Raises DiagramError if there is no room for the group any
        more, RayError if one of Ray's own processes has died."""
        report: TrialReport = self._wait(self._channel.next_round.remote())
        return report

    def close(self) -> None:
        """Ends the group, and waits until nothing of it is left."""
        ray.get(self._channel.close.remote())
        self._thread.join(FAREWELL)

    def _wait(self, answer: Any) -> Any:
        while True:
            ready, _ = ray.wait([answer], timeout=POLL)
            if ready:
                return ray.get(answer)
            if isinstance(self._fault, RayError):
                raise self._fault
            if not self._thread.is_alive():
                why = " ".join(str(self._fault or "it has ended").split())[:300]
                raise DiagramError(f"the worker group cannot work: {why}")

    def _fit(self, trainer: TorchTrainer) -> None:
        try:
            trainer.fit()
        except (train.TrainingFailedError, RayError) as error:
            self._fault = error


class ReportFailures(train.UserCallback):
    """A callback in Ray Train's controller that reports to the channel why a worker was lost."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._gone = gone()

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called after a worker has died or raised something; the group is about to be started anew."""
        before, self._gone = self._gone, gone()
        ray.get(self._channel.failed.remote(_reason(worker_exceptions), excused=self._gone > before))


def _reason(failures: dict[int, Exception]) -> str:
    """The failure of the first worker that did not fail for want of another one."""
    texts = [" ".join(str(error).split()) for _, error in sorted(failures.items())]
    own = [text for text in texts if "Connection closed by peer" not in text and "Connection reset" not in text]
    return (own or texts or ["unknown"])[0][-300:]


def _trainer(name: str, args: GroupArgs, scratch: Place) -> TorchTrainer:
    share = args.share
    resources = {"CPU": share.cpus} | ({"GPU": share.gpus} if share.gpus else {})
    workers = share.workers if share.min_workers is None else (share.min_workers, share.workers)
    api: Any = train  # its types are those of the version before
    failures = api.FailureConfig(max_failures=-1, controller_failure_limit=NO_ROOM)  # the channel counts a trial's
    return TorchTrainer(
        train_trials,
        train_loop_config={"args": args},
        torch_config=TorchConfig("cpu:gloo,cuda:nccl" if share.gpus else "gloo", timeout_s=PATIENCE),
        scaling_config=api.ScalingConfig(num_workers=workers, use_gpu=bool(share.gpus), resources_per_worker=resources),
        run_config=api.RunConfig(
            name=name, failure_config=failures, callbacks=[ReportFailures(args.channel)], **storage(scratch)
        ),
    )


def train_trials(config: dict[str, Any]) -> None:
    """Trains trial after trial in each process of the group, until the channel is closed."""
    import torch

    from diagram_ray.training.parallel.fold_teams import join_teams

    args: GroupArgs = config["args"]
    torch.set_num_threads(max(1, int(args.share.cpus)))
    data, splits = ray.get(list(args.inputs))
    at_once = args.share.folds_at_once
    teams = join_teams(at_once or splits.n_folds, planned=at_once is None)
    devices = tuple(teams.world.exchange(own_device()))
    leads = teams.world.rank == 0
    if leads:
        ray.get(args.channel.arrive.remote(get_current_placement_group()))
    while (job := teams.world.from_first(ray.get(args.channel.take.remote()) if leads else None)) is not None:
        _train_trial(args, job, data, splits, teams, devices)


def _train_trial(args: GroupArgs, job: Job, data: Any, splits: Any, teams: Any, devices: tuple[Device, ...]) -> None:
    """Trains one trial: in the first process as a single worker does it, in the others as the first one says."""
    from diagram_ray.training.parallel.leader import LeaderCrossValidation, run_follower

    work = args.work
    validation: Any = None
    failure: DiagramError | None = None
    config = override(work.base, job.params, f"trial {job.number}")
    try:
        validation = work.make(config, data, splits, str(get_device()), teams=teams)
    except DiagramError as error:  # in all processes alike
        failure = error
    if teams.world.rank:
        if validation is not None:
            run_follower(validation, teams.world)
        return
    leader = LeaderCrossValidation(validation, teams.world) if validation is not None else None

    def make(_: Any) -> CrossValidationLike:
        if leader is None:
            raise failure or DiagramError("no cross-validation")
        return leader

    draining = DrainNotice(placement_group_table(get_current_placement_group())["bundles_to_node_id"].values())
    run = TrialRun(job.number, config, work.ladder, TrialFiles.of(work.folder, job.number), make, draining)
    while ray.get(args.channel.hand_over.remote(job.number, replace(run.step(), devices=devices))):
        pass
    run.close()
    if leader is not None:
        leader.dismiss()
