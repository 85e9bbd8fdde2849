"""The report begins with the margin over trivial baselines, or says why there is none."""

import json
import re

import pandas as pd
import pytest

from diagram_ray.errors import DataError
from diagram_ray.evaluation.plots import style
from diagram_ray.reporting.page import make_report
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import Study


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr(style, "_data_uri", lambda made: "data:image/svg+xml;base64,")


def told(study):
    path, (figures,) = make_report([study])
    text = re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8").partition("</style>")[2])
    return " ".join(text.split()), figures


def test_a_winner_above_its_baselines(make_study):
    study = make_study(baselines=(0.55, 0.7, 0.6))
    text, figures = told(study)
    found = StudyData(Study.load(study)).estimates.margin
    assert found.best == "group 1"
    assert found.above
    assert figures["verdict"].startswith("The winner's AUC of ")
    assert f" is {found.difference.value:.2f} (95% interval {found.difference.low:.2f} to " in figures["verdict"]
    assert text.partition(" Verdict ")[2].startswith("The winner&#39;s AUC of ")
    assert figures["grade"] not in ("trivial", "none")
    assert figures["baselines"]["best"] == "group 1"
    assert figures["baselines"]["difference"]["low"] == found.difference.low
    assert [each["name"] for each in figures["baselines"]["baselines"]] == ["group 1", "group 2", "group 0"]
    section = text.partition("Beside trivial baselines")[2].partition("How sure is the number?")[0]
    assert "The winner, corrected for selection" in section
    assert "No-signal control, and what chance allows 0.510" in section
    assert f"Group 1 Note 1. +{found.baselines[0].difference.value:.3f}" in section
    assert f"The best of them, {found.auc:.3f} Chosen anew in each resample" in section
    assert "the same for all images: scanner." in section
    json.dumps(figures)


def test_a_winner_that_is_not_above_them_is_not_praised(make_study):
    study = make_study(baselines=(0.55, 0.93))
    _, figures = told(study)
    assert figures["verdict"].startswith("The winner is ")
    assert "it is not shown to go beyond that" in figures["verdict"]
    assert "separates the classes" not in figures["verdict"]
    assert figures["grade"] == "trivial"
    assert 'class="verdict grade-trivial"' in (study / "report.html").read_text(encoding="utf-8")


def test_a_study_made_before_there_were_baselines_opens_and_says_so(make_study):
    study = make_study()
    text, figures = told(study)
    reason = f"tune --resume {study} does it, in seconds and without training"
    assert figures["verdict"].endswith(f"What trivial baselines reach on these folds was not measured: {reason}.")
    assert figures["baselines"] == {"unmeasured": reason}
    assert f"Beside trivial baselines Not measured: {reason}." in text
    assert Study.load(study).baselines is None


def test_baselines_that_could_not_be_measured_say_why(make_study):
    study = make_study()
    found = {"identity": "x", "groups": [], "absent": [], "unmeasured": "nothing varies", "seconds": 0.1}
    (study / "baselines.json").write_text(json.dumps(found))
    text, figures = told(study)
    assert figures["verdict"].endswith("was not measured: nothing varies.")
    assert "Not measured: nothing varies." in text


def test_the_python_face(make_study):
    study = Study.load(make_study(baselines=(0.6, 0.7)))
    assert [group["name"] for group in study.baselines["groups"]] == ["group 0", "group 1"]
    table = study.baseline_predictions
    assert set(table["group"]) == {"group 0", "group 1"}
    assert set(table["image_id"]) == set(study.predictions["image_id"])


def test_no_complete_trial_has_no_margin(make_study):
    _, figures = told(make_study(none_complete=True, baselines=(0.6,)))
    assert figures["verdict"].startswith("No trial is complete")
    assert figures["baselines"] == {"unmeasured": "no trial is complete"}


@pytest.mark.parametrize("name", ["baselines", "reference"])
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda figures, _: figures.write_text("{"), r"\.json: cannot be read"),
        (lambda figures, _: figures.write_text('{"unmeasured": ""}'), r"\.json: cannot be read"),
        (lambda _, scores: scores.unlink(), r"\.parquet: no such table"),
        (lambda _, scores: scores.write_bytes(b"PAR1"), r"\.parquet: cannot be read"),
        (lambda _, scores: _without(scores, "score"), r"\.parquet: column 'score' is missing"),
    ],
)
def test_damaged_files_are_one_clear_sentence(make_study, name, spoil, message):
    study = make_study(baselines=(0.6,), reference=0.7)
    spoil(study / f"{name}.json", study / f"{name}.parquet")
    with pytest.raises(DataError, match=name + message):
        make_report([study])


def _without(path, column):
    pd.read_parquet(path).drop(columns=column).to_parquet(path)
