"""What a page may show of a search, at any moment of it."""

import json
from typing import Any

from diagram_ray.evaluation.resampling import Interval
from diagram_ray.monitoring.snapshot import StudySnapshot, take_snapshot
from diagram_ray.monitoring.terminal import Progress
from diagram_ray.results import Measurement, Trial
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Device, Rules, TrialReport
from diagram_ray.search.scheduler import StudyState
from tests.support.studies.scheduling import Memory

LADDER = Ladder((Rung(2, 1), Rung(2, 3)), 2)


class Given:
    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        return {"training.k": number, "training.learning_rate.classifier": 0.00123456}


def seen(progress: Progress) -> StudySnapshot:
    def span(trial: Trial) -> Interval:
        return Interval(trial.last.auc_mean, 0.6, 0.99)

    return take_snapshot(progress, "name", "data", span, "commit abc", 0.5)


def measured(*aucs: float, epochs: int) -> Measurement:
    return Measurement(2, epochs, aucs, aucs, 1.0, training_auc=0.95 if epochs == 3 else None)


def test_a_search_from_its_beginning_to_its_end() -> None:
    state = StudyState(Rules(3, 2, 2, LADDER), Given(), Memory())
    progress = Progress(state, "two at once")
    begun = seen(progress)
    assert (begun.done, begun.trials, begun.rows, begun.best, begun.left, begun.pace) == (0, 3, (), None, "", None)
    for _ in range(2):
        progress.started(state.next_start())
    gpu = Device("10.0.0.1", "0")
    assert (begun.first_report, begun.worker_hours, begun.worker_hours_left, begun.cost_left) == (None, 0.0, None, None)
    progress.advanced(TrialReport(0, 2, 1, 2, 0.8, seconds=900.0, devices=(gpu, gpu)))
    assert state.measured(0, 0, measured(0.7, 0.9, epochs=1))
    running = seen(progress)
    assert [row.number for row in running.rows] == [1, 0]
    assert running.rows[1].folds == (0.7, 0.9)
    assert (running.rows[1].rung, running.rows[1].epoch, running.rows[1].state) == (1, 1, "running")
    assert running.rows[1].reason == "0.8000 at 2 folds x 1 epochs: 0 earlier trials are too few to compare with"
    assert running.rows[1].devices == (gpu, gpu)
    assert running.devices == {"10.0.0.1 GPU 0": 2}
    assert running.first_report > 0.0
    assert (running.worker_hours, running.cost, running.worker_hours_left) == (0.5, 0.25, None)
    assert running.rows[0].params == "k 1, classifier 0.00123"
    for epoch in (2, 3):
        progress.advanced(TrialReport(0, 2, epoch, 2 * epoch, 0.8, seconds=1800.0))
    assert not state.measured(0, 1, measured(0.8, 1.0, epochs=3))
    progress.ended(state.trials[0])
    assert seen(progress).worker_hours == 1.5
    # 4 fold-epochs took an hour since the first round; two trials of 6 fold-epochs at most are left.
    assert 0.5 <= seen(progress).worker_hours_left <= 3.0
    state.failed(1, "out of memory")
    progress.ended(state.trials[1])
    state.stop("interrupted")
    over = seen(progress)
    assert over.best == {"number": 0, "mean": 0.9, "sd": state.trials[0].last.auc_sd, "low": 0.6, "high": 0.99}
    assert over.counts == {"complete": 1, "fail": 1}
    assert (over.done, over.fold_epochs, over.stopping) == (2, 4, "interrupted")
    assert over.pace > 0.0
    assert over.left.startswith("about ")
    assert [row.training_auc for row in over.rows] == [None, 0.95]
    assert running.rows[1].training_auc is None
    assert over.rows[0].reason == "out of memory"
    assert over.rungs == ("2 folds x 1 epochs", "2 folds x 3 epochs")
    assert json.loads(json.dumps(over.plain()))["rows"][1]["folds"] == [0.8, 1.0]
