"""Models without a part of the patients, trained here and now, without Ray: against training everything by hand."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from diagram_ray.distributed.after_search import fold_tasks, nested_cv, repeated_cv, winner_cv
from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.work import cross_validation
from diagram_ray.errors import DataError, MismatchError, UsageError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.report import write_report
from diagram_ray.results import Study
from diagram_ray.search.nested import Failed
from diagram_ray.study import holdout_files
from diagram_ray.study.config import ControlConfig
from diagram_ray.study.nested_plan import price
from diagram_ray.study.study_folder import read_plan
from diagram_ray.study.tables import write_tables
from diagram_ray.training.trainer import Trainer
from diagram_ray.tune.study_plan import resumed_plan, with_controls
from tests.support.studies.cell_bench import Bench, searched
from tests.support.studies.small_study import make_study


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(nested_cv, "run_fold_tasks", bench)
    monkeypatch.setattr(winner_cv, "run_fold_tasks", bench)
    return bench


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made"))


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "study"))


def by_hand(it: EndedStudy, trial: int, without: tuple[int, ...], epochs: int, fold: int) -> np.ndarray:
    """What a model of a trial that is trained without some folds scores on one of them."""
    data, splits = it.inputs.data, it.inputs.splits
    owner = np.array([splits.patients[patient] for patient in data.patient_ids])
    patches = np.array([splits.patients[patient] for patient in data.patch_patient_ids])
    train = np.flatnonzero(~np.isin(owner, without)), np.flatnonzero(~np.isin(patches, without))
    trainer = Trainer(it.trial_config(trial), data, *train, sum(without) % 3)
    for _ in range(epochs):
        trainer.advance()
    return trainer.score(np.flatnonzero(owner == fold))


def nested_by_hand(it: EndedStudy) -> list[tuple[int, float, float]]:
    """Winner, inner mean and AUC of each outer fold: everything is trained, and nothing is shared."""
    data, splits = it.inputs.data, it.inputs.splits
    labels = {f: data.labels[[splits.patients[p] == f for p in data.patient_ids]] for f in range(3)}
    found = []
    for outer in range(3):
        first: list[float] = []
        last: dict[int, float] = {}
        for trial in range(4):
            inner = [fold for fold in range(3) if fold != outer]
            means = [
                float(np.mean([auc(labels[f], by_hand(it, trial, tuple(sorted((f, outer))), e, f)) for f in inner]))
                for e in (1, 2)
            ]
            rank = 1 + sum(other > means[0] for other in first)
            first.append(means[0])
            if len(first) < 2 or rank <= len(first) // 2:
                last[trial] = means[1]
        winner = max(last, key=lambda trial: (last[trial], -trial))
        found.append((winner, last[winner], auc(labels[outer], by_hand(it, winner, (outer,), 2, outer))))
    return found


def test_nested_is_what_training_everything_by_hand_finds(study: Path, bench: Bench) -> None:
    it = searched(study)
    result = nested_cv.run_nested(it, None)  # type: ignore[arg-type]
    assert result is not None
    found = [(each["winner"], each["inner_auc"], each["auc"]) for each in result["folds"]]
    assert found == [pytest.approx(each, abs=1e-12) for each in nested_by_hand(it)]
    assert (
        0 < result["fold_epochs"] <= price(it.config, it.ladder, it.lookback).largest == result["largest_fold_epochs"]
    )
    assert not list((study / "nested").glob("*/*/checkpoint"))
    text = write_report([study]).read_text(encoding="utf-8")
    assert "The search was made again without each of the 3 folds" in text
    assert "All 4 configurations took part: each was proposed without a look at any result." in text


@pytest.mark.parametrize("after", [2, 9])
def test_stopped_and_gone_on_with_it_is_the_same(
    study: Path, made: Path, tmp_path: Path, bench: Bench, after: int
) -> None:
    whole = Path(shutil.copytree(made, tmp_path / "whole"))
    nested_cv.run_nested(searched(whole), None)  # type: ignore[arg-type]
    all_at_once, bench.trained, bench.stop_after = bench.trained, [], after
    assert nested_cv.run_nested(searched(study), None) is None  # type: ignore[arg-type]
    assert not nested_cv.is_nested(searched(study))
    bench.stop_after = 10**6
    nested_cv.run_nested(searched(study), None)  # type: ignore[arg-type]
    assert bench.trained == all_at_once  # none twice
    assert nested_cv.is_nested(searched(study))
    for name in ("nested.json", "nested/predictions.parquet"):
        assert (study / name).read_bytes() == (whole / name).read_bytes()


def test_repeats_are_those_of_folds_dealt_anew(study: Path, bench: Bench) -> None:
    best = int(Study.load(study).best["number"])
    it = searched(study, repeats=3)
    result = repeated_cv.run_repeats(it, best, None)  # type: ignore[arg-type]
    assert result is not None
    assert repeated_cv.is_repeated(it, best)
    assert not repeated_cv.is_repeated(it, best + 1)
    assert not repeated_cv.is_repeated(searched(study, repeats=4), best)
    write_tables(study, it.trials)
    table = Study.load(study).predictions
    assert set(table.loc[table["repeat"] > 0, "trial"]) == {best}
    for told in result["repeats"]:
        assignment = repeated_cv.splits_of_repeats(it)[told["repeat"]]
        validation = cross_validation(it.trial_config(best), it.inputs.data, assignment, "cpu")
        for _ in validation.advance(3, 2):
            pass
        mine = table[(table["trial"] == best) & (table["repeat"] == told["repeat"])]
        expected = validation.predictions().to_pandas().set_index("image_id")
        pd.testing.assert_series_equal(mine.set_index("image_id")["score"].sort_index(), expected["score"].sort_index())
        assert told["fold_auc"] == list(validation.measure(3).fold_auc)
    count = len(bench.trained)
    repeated_cv.run_repeats(searched(study, repeats=4), best, None)  # type: ignore[arg-type]
    assert bench.trained[count:] == [f"trial {best}, repeat 3, fold {fold} to 2" for fold in range(3)]
    assert "On folds assigned anew the winner" in write_report([study]).read_text(encoding="utf-8")


def test_seeds_of_repeats_are_all_different() -> None:
    seeds = {repeated_cv.seed_of(seed, repeat) for seed in range(5) for repeat in range(5)}
    assert len(seeds) == 25
    assert repeated_cv.seed_of(7, 0) == 7


def test_scores_of_another_model_or_of_other_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "after-3.parquet"
    holdout_files.write_held_out(path, {"k": 1}, ["a", "b"], np.array([0.5, 0.25]))
    np.testing.assert_array_equal(fold_tasks.read_scores(path, {"k": 1}, ["a", "b"]), [0.5, 0.25])
    with pytest.raises(MismatchError, match="k is 1 there and 2 here"):
        fold_tasks.read_scores(path, {"k": 2}, ["a", "b"])
    with pytest.raises(DataError, match="has the scores of 2 other images than the 1 left out"):
        fold_tasks.read_scores(path, {"k": 1}, ["a"])
    holdout_files.write_held_out(path, {"k": 1}, [], np.empty(0), failed="it diverged")
    assert fold_tasks.read_scores(path, {"k": 1}, ["a"]) == Failed("it diverged")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cannot be read: .*; remove it, and the model is trained again"):
        fold_tasks.read_scores(path, {"k": 1}, ["a"])


def test_scores_that_were_lost_are_not_taken_from_a_later_state(study: Path, bench: Bench) -> None:
    it = searched(study)
    bench.stop_after = 4
    nested_cv.run_nested(it, None)  # type: ignore[arg-type]
    path = next(
        path
        for path in study.glob("nested/*/without-*-*/after-1.parquet")
        if not path.with_name("after-2.parquet").is_file()
    )
    before = path.read_bytes()
    task = fold_tasks.FoldTask(
        "x",
        path.parent,
        it.trial_config(int(path.parts[-3])),
        {},
        tuple(map(int, path.parts[-2].split("-")[1:])),
        2,
        (1, 2),
    )
    data, splits = it.inputs.data, it.inputs.splits
    path.unlink()
    fold_tasks.train(task, data, splits, cross_validation, "cpu")
    scores = fold_tasks.read_scores(path, {}, pd.read_parquet(path)["image_id"].tolist())
    path.write_bytes(before)
    np.testing.assert_array_equal(scores, pd.read_parquet(path)["score"])


def test_a_resumed_study_can_be_repeated_more_often_and_not_less(study: Path) -> None:
    assert resumed_plan(study, None, None, None, repeats=3).study.repeats == 3
    assert with_controls(read_plan(study), nested=True, leakage=False).study.control == ControlConfig(nested=True)
    text = (study / "study.yaml").read_text()
    (study / "study.yaml").write_text(text.replace("repeats: 1", "repeats: 4"))
    with pytest.raises(UsageError, match="--repeats 3: the study has 4 already; more can be added"):
        resumed_plan(study, None, None, None, repeats=3)
