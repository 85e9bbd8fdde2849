"""What the page says of repeated and nested cross-validation, made or not."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from diagram_ray.errors import LeakageError
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.plots import style
from diagram_ray.reporting import cv_notes
from diagram_ray.reporting.page import make_report
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.reporting.uncertainty import between_studies
from diagram_ray.results import Study
from diagram_ray.storage.atomic import write_atomic


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "_data_uri", lambda made: "data:image/svg+xml;base64,")


def add_repeats(study: Path, repeats: int, failed: int | None = None) -> int:
    """Deals of the winner's scores to other folds, with a little noise of their own."""
    best, table = int(Study.load(study).best["number"]), Study.load(study).predictions
    mine = table[table["trial"] == best]
    patients, told = sorted(mine["patient_id"].unique()), []
    for repeat in range(1, repeats):
        if repeat == failed:
            told.append({"repeat": repeat, "seed": 1, "failed": "fold 1: the loss became nan"})
            continue
        random = np.random.default_rng(repeat)
        fold = dict(zip(patients, random.permutation(len(patients)) % 5, strict=True))
        scores = mine["score"] + 0.02 * random.normal(size=len(mine))
        assigned = mine.assign(repeat=repeat, fold=mine["patient_id"].map(fold), score=scores)
        told.append(
            {
                "repeat": repeat,
                "seed": 1,
                "fold_auc": [auc(p["label"], p["score"]) for _, p in assigned.groupby("fold")],
            }
        )
        table = pd.concat([table, assigned])
    table.to_parquet(study / "predictions.parquet")
    write_atomic(study / "repeats.json", json.dumps({"trial": best, "auc_mean": 0.9, "repeats": told}))
    return best


def add_nested(study: Path, candidates: int = 7) -> None:
    table = Study.load(study).predictions
    first, second = sorted(table["trial"].unique())[:2]
    chosen = table[(table["trial"] == first) & (table["fold"] != 3) | (table["trial"] == second) & (table["fold"] == 3)]
    (study / "nested").mkdir()
    chosen[chosen["repeat"] == 0].drop(columns="repeat").to_parquet(study / "nested" / "predictions.parquet")
    found = {"candidates": list(range(candidates)), "fold_epochs": 500, "auc_mean": 0.8, "folds": []}
    write_atomic(study / "nested.json", json.dumps(found))


def study_data_of(study: Path) -> StudyData:
    return StudyData(Study.load(study))


def test_what_was_not_made_is_offered_with_its_price(usual_study: Path) -> None:
    study_data = study_data_of(usual_study)
    assert cv_notes.repeated(study_data).startswith(
        "Not made, so how much of the figure is due to how the folds were assigned"
    )
    assert (
        f"tune --resume {usual_study} --repeats 5 would train the winner on four further assignments: 180 fold-epochs."
        in (cv_notes.repeated(study_data))
    )
    assert f"tune --resume {usual_study} --nested --dry-run tells its price" in cv_notes.nested(study_data)


def test_repeats_in_words(make_study) -> None:
    study = make_study()
    plain = study_data_of(study)
    before, estimates = plain.of_best, plain.estimates
    add_repeats(study, 4)
    study_data = study_data_of(study)
    assert study_data.estimates == estimates  # all that was there speaks of the first assignment, as before
    pd.testing.assert_frame_equal(study_data.of_best, before)
    found, words = study_data.repeated, cv_notes.repeated(study_data)
    assert found is not None
    assert (
        f"On folds assigned anew the winner's configuration scores {found.means[1]:.3f}, {found.means[2]:.3f} and"
        in words
    )
    assert f"the assignment that chose it, {found.means[0]:.3f}, is {abs(found.luck):.3f}" in words
    assert f"The assignment alone moves the mean over folds by {found.assignment_sd:.3f} (sd)." in words
    assert f"All 20 folds of 4 repeats together give {found.auc.value:.3f} ± {found.sd:.3f} (sd)" in words
    assert "so a little of its optimism stays in them." in words
    assert words in " ".join(make_report([study])[0].read_text(encoding="utf-8").replace("&#39;", "'").split())


def test_a_repeat_that_failed_is_told(make_study) -> None:
    study = make_study()
    add_repeats(study, 4, failed=2)
    words = cv_notes.repeated(study_data_of(study))
    assert "All 15 folds of 3 repeats together" in words
    assert (
        "1 of 3 further repeats failed and are left out, which may flatter: repeat 2, fold 1: the loss became nan."
        in words
    )


def test_nested_in_words_beside_the_others(make_study) -> None:
    study = make_study()
    add_nested(study)
    study_data = study_data_of(study)
    found, words = study_data.nested, cv_notes.nested(study_data)
    assert found is not None
    assert f"AUC {found.auc.value:.3f}, 95% interval {found.auc.low:.3f} to {found.auc.high:.3f}." in words
    assert f"the winner's own figure is {study_data.estimates.fold_mean.value:.3f}" in words
    assert f"and {study_data.estimates.corrected.auc.value:.3f} as BBC-CV corrects it" in words
    assert "Only the 7 of 16 configurations that were proposed without a look at any result took part" in words
    assert "In each outer fold the ladder was applied anew on the 4 others" in words
    spent = int(study_data.trials["fold_epochs"].sum())
    assert f"It trained 500 fold-epochs, {500 / spent:.1f} times what the search had cost" in words
    path, _ = make_report([study])
    assert "Nested CV: what the search finds" in path.read_text(encoding="utf-8")


def test_a_nested_search_that_failed_says_why(make_study) -> None:
    study = make_study()
    write_atomic(study / "nested.json", json.dumps({"candidates": [0], "fold_epochs": 1, "failed": "outer fold 2: no"}))
    assert cv_notes.nested(study_data_of(study)) == "It came to nothing: outer fold 2: no."


def test_studies_are_compared_on_all_repeats_that_they_share(make_study) -> None:
    one, other = make_study("one"), make_study("other", seed=1)
    add_repeats(one, 4)
    add_repeats(other, 3)
    (row,) = between_studies([study_data_of(one), study_data_of(other)])
    assert row["name"].endswith(", 3 repeats")


def test_a_patient_in_two_folds_of_a_repeat_is_a_leak(make_study) -> None:
    study = make_study()
    add_repeats(study, 2)
    table = pd.read_parquet(study / "predictions.parquet")
    row = int(np.flatnonzero(table["repeat"] == 1)[0])
    table.iloc[row, table.columns.get_loc("fold")] = (table.iloc[row]["fold"] + 1) % 5
    table.to_parquet(study / "predictions.parquet")
    with pytest.raises(LeakageError, match="is in 2 folds; expected one"):
        _ = study_data_of(study).repeated
