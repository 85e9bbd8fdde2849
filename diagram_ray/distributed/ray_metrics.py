"""A study's figures as Ray metrics: Prometheus reads them at the metrics port of the node that runs the driver.

Ray puts `ray_` in front of the names, and `_total` behind those of counters. All have the tag `study`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ray.util.metrics import Counter, Gauge

from diagram_ray.monitoring.snapshot import StudySnapshot
from diagram_ray.search.messages import Device

EVERY = 5.0
"""Seconds between two updates of the metrics."""
STATES = ("complete", "pruned", "fail", "running")

GAUGES = {
    "trials_planned": "Trials that the study shall have",
    "best_auc": "Mean AUC over folds of the best complete trial",
    "best_auc_low": "Lower end of its 95 % interval",
    "best_auc_high": "Upper end of its 95 % interval",
    "seconds_to_first_report": "From the start of the search to the end of a trial's first round",
    "seconds_left": "A guess of the time that the search still takes",
    "worker_hours": "That workers have trained in this run",
    "worker_hours_left": "A guess of those that the search still takes",
    "cost": "Of the worker-hours, where budget.cost_per_worker_hour is given",
    "cost_left": "A guess of what the search still costs, where budget.cost_per_worker_hour is given",
    "restarts": "Workers that were lost, and whose trials started again",
}
Place = tuple[int, Device]

Metric = TypeVar("Metric", Gauge, Counter)


class Telemetry:
    """The metrics of one study."""

    def __init__(self, study: str, images_per_fold_epoch: float) -> None:
        def make(kind: type[Metric], name: str, text: str, *tags: str) -> Metric:
            metric = kind(f"diagram_ray_{name}", text, tag_keys=("study", *tags))
            metric.set_default_tags({"study": study})
            return metric

        self._images = images_per_fold_epoch
        self._reported = 0
        self._places: set[Place] = set()
        self._gauges = {name: make(Gauge, name, text) for name, text in GAUGES.items()}
        self._trials = make(Gauge, "trials", "Trials in each state", "state")
        self._at = make(
            Gauge, "trial_device", "1 while the trial is trained there; ip and GpuIndex are those of Ray's own metrics",
            "trial", "ip", "GpuIndex",
        )  # fmt: skip
        self._epochs = make(Counter, "fold_epochs", "Epochs of one fold that were trained")
        self._seen = make(Counter, "images", "Training images that were drawn")

    def show(self, snapshot: StudySnapshot) -> None:
        """Sets all metrics; those of which nothing is known are not there."""
        for state in STATES:
            self._trials.set(sum(row.state == state for row in snapshot.rows), {"state": state})
        for name, value in _values(snapshot).items():
            if value is not None:
                self._gauges[name].set(value)
        self._show_places({(row.number, device) for row in snapshot.rows for device in row.devices})
        if (more := snapshot.fold_epochs - self._reported) > 0:
            self._epochs.inc(more)
            self._seen.inc(more * self._images)
            self._reported = snapshot.fold_epochs

    def _show_places(self, places: set[Place]) -> None:
        for number, device in places | self._places:
            tags = {"trial": str(number), "ip": device.machine, "GpuIndex": device.gpu}
            self._at.set(float((number, device) in places), tags)
        self._places = places


def _values(snapshot: StudySnapshot) -> dict[str, float | None]:
    best = snapshot.best or {}
    return {
        "trials_planned": snapshot.trials,
        "best_auc": best.get("mean"),
        "best_auc_low": best.get("low"),
        "best_auc_high": best.get("high"),
        "seconds_to_first_report": snapshot.first_report,
        "seconds_left": snapshot.seconds_left,
        "worker_hours": snapshot.worker_hours,
        "worker_hours_left": snapshot.worker_hours_left,
        "cost": snapshot.cost,
        "cost_left": snapshot.cost_left,
        "restarts": snapshot.restarts,
    }


@contextmanager
def telemetry(study: str, images_per_fold_epoch: float, look: Callable[[], StudySnapshot]) -> Iterator[None]:
    """Shows what `look` sees every few seconds while the body runs."""
    metrics, over = Telemetry(study, images_per_fold_epoch), threading.Event()

    def keep_showing() -> None:
        while not over.wait(EVERY):
            metrics.show(look())

    thread = threading.Thread(target=keep_showing, daemon=True)
    metrics.show(look())
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        metrics.show(look())
