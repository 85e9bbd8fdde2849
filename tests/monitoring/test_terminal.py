"""What is shown while a search runs."""

import io
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from diagram_ray.logs import EVENT, JsonLines
from diagram_ray.monitoring import terminal
from diagram_ray.monitoring.terminal import Lines, Screen
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Rules, TrialReport
from diagram_ray.search.scheduler import StudyState
from diagram_ray.study.ledger import open_ledger

LADDER = Ladder((Rung(2, 1), Rung(2, 4)), 2)


class One:
    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        return {"training.k": number, "training.weight_decay": 0.000123456}


@pytest.fixture
def state(tmp_path):
    with open_ledger(tmp_path) as ledger:
        yield StudyState(Rules(4, 2, 2, LADDER), One(), ledger)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def measurement(rung: int, auc: float) -> Measurement:
    return Measurement(2, LADDER.rungs[rung].epochs, (auc, auc + 0.1), (0.5, 0.5), 1.0, training_auc=0.9876)


def complete(state: StudyState, view: terminal.Progress, trial: Trial, auc: float) -> None:
    for rung in (0, 1):
        view.advanced(
            TrialReport(trial.number, 2, LADDER.rungs[rung].epochs, LADDER.rungs[rung].fold_epochs, auc, rung)
        )
        state.measured(trial.number, rung, measurement(rung, auc))
    view.ended(state.trials[trial.number])


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is logged, whatever handlers other tests have left."""
    told: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("diagram_ray")
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    before = logger.level
    logger.setLevel(logging.INFO)  # a level that is only written there is not seen: loggers remember what is enabled
    yield told
    logger.setLevel(before)


def test_lines_tell_each_end_and_the_best(state: StudyState, lines: list[str]) -> None:
    view = Lines(state, "2 CPUs")
    first, second = state.next_start(), state.next_start()
    view.started(first)
    view.started(second)
    complete(state, view, first, 0.8)
    state.failed(second.number, "diverged")
    view.ended(state.trials[second.number])
    assert lines[0] == "2 CPUs; 0 of 4 trials"
    assert lines[1].startswith(
        "trial 0 COMPLETE: AUC 0.850 ± 0.071 (training 0.988) after 2 folds x 4 epochs · 1 of 4 trials"
    )
    assert lines[2].startswith("trial 1 FAIL (diverged) · 2 of 4 trials · 1 complete, 1 fail · best AUC 0.850")


def test_for_machines_each_event_is_a_line_of_json(state: StudyState, monkeypatch: pytest.MonkeyPatch) -> None:
    logger, told = logging.getLogger("diagram_ray"), io.StringIO()
    handler = logging.StreamHandler(told)
    handler.setFormatter(JsonLines())
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(logger, "propagate", False)
    before = logger.level
    logger.setLevel(EVENT)
    view, trial = Lines(state, "2 CPUs", "small"), state.next_start()
    view.started(trial)
    complete(state, view, trial, 0.8)
    logger.warning("a \N{GREEK SMALL LETTER THETA} with\na line's end")
    logger.setLevel(before)
    lines = [json.loads(line) for line in told.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "start", *["round"] * (len(lines) - 4), "ended", "log"]
    assert {line["study"] for line in lines[:-1]} == {"small"}
    assert lines[1]["params"] == trial.params
    assert (lines[-2]["trial"], lines[-2]["state"], lines[-2]["folds"]) == (0, "COMPLETE", 2)
    assert lines[-2]["auc"] == pytest.approx(0.85)
    assert lines[-2]["training_auc"] == 0.9876
    assert lines[2]["training_auc"] is None  # of a round of an older worker
    assert lines[-1] | {"time": ""} == {
        "time": "", "level": "warning", "message": "a \N{GREEK SMALL LETTER THETA} with\na line's end", "event": "log",
    }  # fmt: skip
    assert all(line["time"].endswith("+00:00") for line in lines)


def test_lines_give_a_sign_of_life(state: StudyState, clock: list[float], lines: list[str]) -> None:
    view = Lines(state, "2 CPUs")
    view.started(state.next_start())
    for _ in range(10):
        clock[0] += 4
        view.tick()
    assert len(lines) == 2
    assert lines[1].startswith("trial 0 at epoch 0 · 0 of 4 trials")


def test_time_left_follows_the_fold_epochs(state: StudyState, clock: list[float]) -> None:
    view = Lines(state, "")
    first = state.next_start()
    view.started(first)
    assert view.seconds_left() is None
    view.advanced(TrialReport(0, 2, 1, 2))  # the first round begins the clock
    clock[0] += 10
    view.advanced(TrialReport(0, 2, 2, 4))
    # 2 fold-epochs in 10 s. Two of four trials cost 8 fold-epochs, two cost 2 + 6 / 2 = 5; 4 are done.
    assert view.seconds_left() == pytest.approx((2 * 8 + 2 * 5 - 4) * 5)


def test_the_screen_shows_what_runs(state: StudyState) -> None:
    out = io.StringIO()
    with Screen(state, "2 trials at once on 2 CPUs", Console(file=out, width=120, force_terminal=True)) as view:
        first, second = state.next_start(), state.next_start()
        view.started(first)
        view.started(second)
        complete(state, view, first, 0.8)
        view.advanced(TrialReport(1, 2, 3, 6, 0.6123, training_auc=0.8765))
        view.tick()
        state.stop("interrupted")
    shown = out.getvalue()
    for text in (
        "1 of 4 trials",
        "best AUC 0.850 ± 0.071 (trial 0)",
        "1 of 2",
        "0.612",
        "0.876",
        "weight_decay=0.000123",
    ):
        assert text in shown
    assert "stopping: interrupted" in shown


def test_a_resumed_study_counts_what_was_done(tmp_path) -> None:
    with open_ledger(tmp_path) as ledger:
        before = StudyState(Rules(4, 2, 2, LADDER), One(), ledger)
        trial = before.next_start()
        for rung in (0, 1):
            before.measured(trial.number, rung, measurement(rung, 0.8))
        before.next_start()
    with open_ledger(tmp_path) as ledger:
        view = Lines(StudyState(Rules(4, 2, 2, LADDER), One(), ledger), "")
    assert (view.done, view.best.number) == (1, 0)
    assert view.counts == {TrialState.COMPLETE: 1}
