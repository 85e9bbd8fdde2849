"""From a trial's step to the losses: a way of few frames, which enters no module twice."""

import itertools
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

import diagram_ray
from diagram_ray.config import ExperimentConfig
from diagram_ray.data.splits import make_splits
from diagram_ray.data.training_data import TrainingData
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.study.trial_files import TrialFiles
from diagram_ray.training import losses, objectives
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.runs.trial import TrialRun

PACKAGE = Path(diagram_ray.__file__).parent
LOSSES = ("adversarial_loss", "patch_loss", "image_loss", "generator_loss")
MOST_FRAMES = 10
Frame = tuple[str, str]


def frames_down_to(loss: str) -> list[Frame]:
    """File and function of the package's frames that are under way, and the loss function that was called from them."""
    stack = [(Path(frame.filename), frame.name) for frame in traceback.extract_stack()]
    inside = [(str(file.relative_to(PACKAGE)), name) for file, name in stack if file.is_relative_to(PACKAGE)]
    return [*inside, ("training/losses.py", loss)]


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Frame]]:
    """Name of a loss function -> the frames of its first call."""
    found: dict[str, list[Frame]] = {}

    def recorded(name: str, real: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def record(*arguments: Any) -> Tensor:
            found.setdefault(name, frames_down_to(name))
            return real(*arguments)

        return record

    for name in LOSSES:
        monkeypatch.setattr(objectives, name, recorded(name, getattr(losses, name)))
    return found


def test_a_trials_step_reaches_the_losses_by_few_frames_and_enters_no_module_twice(
    ways: dict[str, list[Frame]], small: Callable[..., ExperimentConfig], data: TrainingData, tmp_path: Path
) -> None:
    splits, files = make_splits(data, 3, seed=0), TrialFiles.of(tmp_path, 0)
    config = small(training__k=2, training__ema_decay=0.9, training__validation_part=0.3)
    trial = TrialRun(0, config, Ladder((Rung(3, 1),), 2), files, lambda it: CrossValidation(it, data, splits))
    assert not trial.step().failed
    trial.close()
    assert set(ways) == set(LOSSES)
    for frames in ways.values():
        assert frames[0] == ("training/runs/trial.py", "step")
        assert len(frames) <= MOST_FRAMES, frames
        visits = [module for module, _ in itertools.groupby(file for file, _ in frames)]
        assert len(visits) == len(set(visits)), visits
