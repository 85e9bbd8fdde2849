"""A study's figures as Ray metrics: Prometheus reads them at the metrics port of the node that runs the driver.

Ray puts `ray_` in front of the names, and `_total` behind those of counters. All have the tag `study`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from ray.util.metrics import Counter, Gauge

from diagram_ray.search.sight import Sight

EVERY = 5.0
"""Seconds."""
STATES = ("complete", "pruned", "fail", "running")


Metric = TypeVar("Metric", Gauge, Counter)


def _tagged(metric: Metric, study: str) -> Metric:
    metric.set_default_tags({"study": study})
    return metric


class Telemetry:
    """The metrics of one study."""

    def __init__(self, study: str, images_per_fold_epoch: float) -> None:
        self._images = images_per_fold_epoch
        self._told = 0
        self._gauges = {
            name: _tagged(Gauge(f"diagram_ray_{name}", text, tag_keys=("study",)), study)
            for name, text in {
                "trials_planned": "Trials that the study shall have",
                "best_auc": "Mean AUC over folds of the best complete trial",
                "best_auc_low": "Lower end of its 95 % interval",
                "best_auc_high": "Upper end of its 95 % interval",
                "seconds_left": "A guess of the time that the search still takes",
                "restarts": "Workers that were lost, and whose trials started again",
            }.items()
        }
        self._trials = _tagged(Gauge("diagram_ray_trials", "Trials in each state", tag_keys=("study", "state")), study)
        self._epochs = _tagged(
            Counter("diagram_ray_fold_epochs", "Epochs of one fold that were trained", tag_keys=("study",)), study
        )
        self._seen = _tagged(
            Counter("diagram_ray_images", "Training images that were drawn", tag_keys=("study",)), study
        )

    def show(self, sight: Sight) -> None:
        """Sets all of them."""
        counts = {row: sum(each.state == row for each in sight.rows) for row in STATES}
        for state, count in counts.items():
            self._trials.set(count, {"state": state})
        values = {"trials_planned": float(sight.trials), "restarts": float(sight.restarts)}
        if sight.seconds_left is not None:
            values["seconds_left"] = sight.seconds_left
        if sight.best is not None:
            best = sight.best
            values |= {"best_auc": best["mean"], "best_auc_low": best["low"], "best_auc_high": best["high"]}
        for name, value in values.items():
            self._gauges[name].set(value)
        if (more := sight.fold_epochs - self._told) > 0:
            self._epochs.inc(more)
            self._seen.inc(more * self._images)
            self._told = sight.fold_epochs


@contextmanager
def telemetry(study: str, images_per_fold_epoch: float, look: Callable[[], Sight]) -> Iterator[None]:
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
