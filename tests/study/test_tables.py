"""Tables and the winner's folder, made from the ledger and the trials' files."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from diagram_ray.results import Measurement, Study, Trial, TrialState, best_of
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.study.tables import trials_table, write_tables
from diagram_ray.study.trial_files import TrialCleanup, TrialFiles

COLUMNS = [
    "number", "state", "reason", "params.model.norm", "params.training.k", "auc_mean", "auc_sd", "training_auc",
    "accuracy_mean", "fold_auc", "fold_accuracy", "folds", "epochs", "fold_epochs", "seconds", "worker_seconds",
]  # fmt: skip


def trial(number: int, state: TrialState, aucs: tuple[float, ...] = (), reason: str = "", k: object = 2) -> Trial:
    rungs = (Measurement(len(aucs), 3, aucs, (0.5,) * len(aucs), 1.5),) if aucs else ()
    return Trial(number, {"model.norm": "group", "training.k": k}, state, reason, rungs)


TRIALS = {
    0: trial(0, TrialState.COMPLETE, (0.7, 0.9)),
    1: trial(1, TrialState.PRUNED, (0.2,), "pruned: low"),
    2: trial(2, TrialState.COMPLETE, (0.8, 0.8)),
    3: trial(3, TrialState.FAIL, (), "diverged"),
    4: trial(4, TrialState.RUNNING),
}


def make_files(folder: Path, numbers: tuple[int, ...] = (0, 1, 2)) -> None:
    for number in numbers:
        files = TrialFiles.of(folder, number)
        rows = [{"fold": f, "epoch": e, "auc": 0.5, "loss_generator": None} for f in range(2) for e in (1, 2, 3)]
        write_table(files.curves, pa.Table.from_pylist(rows))
        write_table(files.predictions, pa.table({"fold": [0], "image_id": ["a"], "label": [1], "score": [0.5]}))
        write_atomic(files.models / "fold-0.safetensors", f"weights of {number}")
        write_atomic(files.checkpoints / "rung-0" / "state", "x")


def test_the_tables_are_read_back_by_study(tmp_path: Path) -> None:
    make_files(tmp_path)
    write_tables(tmp_path, TRIALS)
    write_atomic(tmp_path / "study.yaml", "study: {}")
    study = Study.load(tmp_path)
    assert list(study.trials.columns) == COLUMNS
    assert study.trials["state"].tolist() == ["COMPLETE", "PRUNED", "COMPLETE", "FAIL", "RUNNING"]
    assert study.trials["fold_epochs"].tolist() == [6, 6, 6, 0, 0]
    assert study.trials["auc_mean"].isna().tolist() == [False, False, False, True, True]
    assert study.best["number"] == 0
    assert study.curves.groupby("trial").size().to_dict() == {0: 6, 1: 6, 2: 6}
    assert list(study.predictions.columns) == ["trial", "repeat", "fold", "image_id", "label", "score"]
    assert study.predictions["trial"].tolist() == [0, 2]
    assert (tmp_path / "best" / "fold-0.safetensors").read_text() == "weights of 0"


def test_a_tie_goes_to_the_earlier_trial_and_the_winner_can_change(tmp_path: Path) -> None:
    make_files(tmp_path, (0, 1, 2, 5))
    assert best_of(TRIALS) == TRIALS[0]
    write_tables(tmp_path, TRIALS)
    more = TRIALS | {5: trial(5, TrialState.COMPLETE, (0.95, 0.95))}
    write_tables(tmp_path, more)
    assert (tmp_path / "best" / "fold-0.safetensors").read_text() == "weights of 5"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_without_a_complete_trial_there_is_no_best(tmp_path: Path) -> None:
    write_tables(tmp_path, {3: TRIALS[3]})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trials.parquet"]
    assert pd.read_parquet(tmp_path / "trials.parquet")["reason"].tolist() == ["diverged"]


def test_choices_of_several_types_become_text() -> None:
    mixed = {
        0: trial(0, TrialState.FAIL, k=1),
        1: trial(1, TrialState.FAIL, k="auto"),
        2: trial(2, TrialState.FAIL, k=None),
    }
    assert trials_table(mixed, {})["params.training.k"].to_pylist() == ["1", "auto", None]
    numbers = {0: trial(0, TrialState.FAIL, k=1), 1: trial(1, TrialState.FAIL, k=0.5)}
    assert trials_table(numbers, {})["params.training.k"].to_pylist() == [1.0, 0.5]


def test_an_empty_study_has_an_empty_table() -> None:
    assert len(trials_table({}, {})) == 0


def test_the_keeper_keeps_the_best_models_and_checkpoints_of_running_trials(tmp_path: Path) -> None:
    make_files(tmp_path, (0, 1, 2, 4))
    keeper = TrialCleanup(tmp_path, {0: TRIALS[0]})
    keeper.ended(TRIALS[2])
    keeper.ended(TRIALS[1])
    kept = [n for n in (0, 1, 2, 4) if TrialFiles.of(tmp_path, n).models.is_dir()]
    checkpoints = [n for n in (0, 1, 2, 4) if TrialFiles.of(tmp_path, n).checkpoints.is_dir()]
    assert (kept, checkpoints) == ([0, 4], [4])
    keeper.ended(trial(4, TrialState.COMPLETE, (0.99,)))
    assert [n for n in (0, 1, 2, 4) if TrialFiles.of(tmp_path, n).models.is_dir()] == [4]
