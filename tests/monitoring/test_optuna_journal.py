"""Optuna reads its journal of a study back: the same trials, states and values."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState as OptunaState

from diagram_ray.monitoring.optuna_journal import FILE, write_optuna_file
from diagram_ray.results import Measurement, Trial, TrialState
from diagram_ray.search.space import parse_space

SPACE = parse_space(
    {
        "training.k": {"type": "int", "low": 1, "high": 4},
        "model.norm": {"type": "categorical", "choices": ["group", "batch"]},
    },
    "",
)


def measured(epochs: int, *aucs: float) -> Measurement:
    return Measurement(len(aucs), epochs, aucs, aucs, 2.0)


TRIALS = {
    1: Trial(1, {"training.k": 3, "model.norm": "batch"}, TrialState.PRUNED, "pruned: low", (measured(1, 0.5, 0.6),)),
    0: Trial(0, {"training.k": 2, "model.norm": "group"}, TrialState.COMPLETE, "",
             (measured(1, 0.6, 0.8), measured(3, 0.8, 0.9))),
    2: Trial(2, {"training.k": 1, "model.norm": "group"}, TrialState.FAIL, "diverged"),
    3: Trial(3, {"training.k": 1, "model.norm": "group"}),
}  # fmt: skip


def read(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(folder / FILE))))


def test_optuna_reads_the_trials_back(tmp_path: Path) -> None:
    for _ in range(2):  # it takes the old one's place
        write_optuna_file(tmp_path, "s", SPACE, TRIALS)
        study = read(tmp_path)
        assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == [FILE]
    assert [trial.state for trial in study.trials] == [OptunaState.COMPLETE, OptunaState.PRUNED, OptunaState.FAIL]
    assert [trial.params for trial in study.trials] == [TRIALS[number].params for number in range(3)]
    assert study.best_trial.number == 0
    assert study.best_value == pytest.approx(0.85)
    assert study.trials[0].intermediate_values == pytest.approx({1: 0.7, 3: 0.85})
    assert study.trials[1].intermediate_values == pytest.approx({1: 0.55})
    assert study.trials[1].user_attrs["reason"] == "pruned: low"
    assert study.trials[0].user_attrs["fold_auc"] == [0.8, 0.9]
    assert study.direction.name == "MAXIMIZE"


def test_a_study_in_which_nothing_has_ended(tmp_path: Path) -> None:
    write_optuna_file(tmp_path, "s", SPACE, {})
    assert read(tmp_path).trials == []
