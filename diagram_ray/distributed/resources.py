"""The division of the cluster's resources among trials."""

from collections.abc import Mapping
from dataclasses import dataclass

from diagram_ray.errors import UsageError
from diagram_ray.study.config import ParallelConfig, ScalingConfig

COORDINATOR_CPUS = 0.01
"""CPUs of the process that asks a worker group for rounds; it sleeps."""
GRAIN = 10_000
"""Parts of a CPU or GPU: Ray counts in ten-thousandths."""


@dataclass(frozen=True)
class TrialResources:
    """The resources that each trial has of the cluster."""

    trials: int
    """Number of trials that run at once."""
    cpus: float
    """CPUs of each worker."""
    gpus: float
    """GPUs of each worker."""
    workers: int = 1
    """Processes that train one trial together."""
    min_workers: int | None = None
    """Fewest workers when there is no room for more; None: all are needed."""
    folds_at_once: int | None = 1
    """Folds of a trial that are trained side by side; None: planned by what the first ones take."""

    @property
    def device(self) -> str:
        """PyTorch's name of the device."""
        return "cuda" if self.gpus else "cpu"

    def __str__(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"{f'{self.workers} workers of ' if self.workers > 1 else ''}{self.cpus:g} CPU{gpus}"


def divide_resources(
    cluster: Mapping[str, float], parallel: ParallelConfig | None = None, scaling: ScalingConfig | None = None
) -> TrialResources:
    """Divides a cluster's resources among the trials that run at once.

    Where it is not said how many: one for each GPU, or else for each CPU; with several workers a trial as many as there
    is room for. Raises UsageError if there is no room: Ray would wait for it for ever, and only a cluster that is said
    to be elastic may have it later.
    """
    parallel, scaling = parallel or ParallelConfig(), scaling or ScalingConfig()
    if parallel.elastic and parallel.trials:
        return _when_large(parallel.trials, parallel, scaling)
    if scaling.workers > 1:
        return _groups(cluster, parallel, scaling)
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    part = parallel.gpus_per_trial
    count = parallel.trials or max(1, int(gpus / part if part else gpus or cpus))
    if cpus <= 0:
        raise UsageError("the cluster has no CPU for trials; give parallel.elastic=true if it will have some later")
    own_cpus = parallel.cpus_per_trial or _part(cpus, count)
    for name, need, room in (("gpus", part or 0.0, gpus), ("cpus", own_cpus, cpus)):
        if count * need > room:
            raise UsageError(
                f"parallel.{name}_per_trial {need:g}: {count} trials at once need {count * need:g} {name[:-1].upper()}s"
                f"; there are {room:g}. Give a smaller parallel.trials, or parallel.elastic=true if the cluster grows"
            )
    return TrialResources(count, own_cpus, part if part else _part(gpus, count), folds_at_once=_at_once(scaling))


def _when_large(trials: int, parallel: ParallelConfig, scaling: ScalingConfig) -> TrialResources:
    """The resources of each trial in a cluster that may have no machines yet."""
    if scaling.workers == 1:
        own_cpus, own_gpus = parallel.cpus_per_trial or 1.0, parallel.gpus_per_trial or 0.0
        return TrialResources(trials, own_cpus, own_gpus, folds_at_once=_at_once(scaling))
    gpus = float(scaling.gpus_per_worker or 0)
    cpus = scaling.cpus_per_worker or 1.0
    return TrialResources(trials, cpus, gpus, scaling.workers, scaling.min_workers, _at_once(scaling))


def _groups(cluster: Mapping[str, float], parallel: ParallelConfig, scaling: ScalingConfig) -> TrialResources:
    """The resources of trials of several workers each: with a GPU each if there are GPUs, or else with a CPU each."""
    cpus, gpus = cluster.get("CPU", 1.0), cluster.get("GPU", 0.0)
    least = scaling.min_workers or scaling.workers
    own_gpus = float(gpus >= 1.0 if scaling.gpus_per_worker is None else scaling.gpus_per_worker)
    count = parallel.trials or max(1, int((gpus / own_gpus if own_gpus else cpus) / scaling.workers))
    own_cpus = scaling.cpus_per_worker or _part(cpus - count * COORDINATOR_CPUS, count * least)
    share = TrialResources(count, own_cpus, own_gpus, scaling.workers, scaling.min_workers, _at_once(scaling))
    for name, need, room in (("GPU", own_gpus, gpus), ("CPU", own_cpus, cpus - count * COORDINATOR_CPUS)):
        if count * least * need > room or (name == "CPU" and need <= 0):
            raise UsageError(
                f"scaling.workers {scaling.workers}: {count} trials at once of at least {least} workers with {need:g} "
                f"{name} each need {count * least * need:g} {name}; the cluster has {cluster.get(name, 0.0):g}, and "
                f"{COORDINATOR_CPUS:g} CPU a trial is for the process that asks them. Give fewer workers, a smaller "
                f"scaling.{name.lower()}s_per_worker or a smaller parallel.trials"
            )
    return share


def _at_once(scaling: ScalingConfig) -> int | None:
    return None if scaling.folds_at_once == "auto" else scaling.folds_at_once


def _part(total: float, count: int) -> float:
    """An equal part of `total` for each of `count`: at most 1, rounded down to what Ray can count."""
    return min(1.0, int(total / count * GRAIN) / GRAIN)
