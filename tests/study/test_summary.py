"""What `tune` says at the end: training beside test, and a warning where the best trial does not fit its images."""

from pathlib import Path

import pytest

from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.study.summary import outcome
from diagram_ray.tune.surroundings import _summarise

DOCUMENT = {"seconds": 1.0, "interrupted": None, "lost": {"workers": 0, "fold_epochs": 0}}


@pytest.mark.parametrize(
    ("training", "score", "warned"),
    [(0.62, ", training AUC 0.620", True), (0.98, ", training AUC 0.980", False), (None, "", False)],
)
def test_the_best_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], training: float | None, score: str, warned: bool
) -> None:
    measured = Measurement(2, 20, (0.55, 0.65), (0.5, 0.5), 1.0, training_auc=training)
    result = outcome(tmp_path, {3: Trial(3, {"k": 2}, TrialState.COMPLETE, "", (measured,))}, DOCUMENT)
    assert result["best"]["training_auc"] == training
    assert bool(result["best"]["underfits"]) == warned
    _summarise(result)
    shown = capsys.readouterr().out.splitlines()
    assert f"best: trial 3, AUC 0.600 ± 0.071{score} (k=2)" in shown
    warnings = [
        line for line in shown if line.startswith("warning: trial 3 underfits: training AUC 0.62 after 20 epochs")
    ]
    assert len(warnings) == warned
