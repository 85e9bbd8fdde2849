"""The report shows training beside test, and says when the networks do not fit their own training images."""

import re

import pandas as pd
import pytest

from diagram_ray.evaluation.plots import style
from diagram_ray.reporting.page import make_report
from diagram_ray.results import Study


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr(style, "_data_uri", lambda made: "data:image/svg+xml;base64,")


def told(study, out=None):
    path, (figures,) = make_report([study], out)
    text = re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8").partition("</style>")[2])
    return " ".join(text.split()), figures


def test_training_stands_beside_test(usual_study, tmp_path):
    (text, figures), study = told(usual_study, tmp_path / "r.html"), Study.load(usual_study)
    last = study.curves[(study.curves["trial"] == study.best["number"]) & (study.curves["epoch"] == 9)]
    training, test = last["training_auc"].mean(), study.best["auc_mean"]
    assert f"On its own training images {training:.3f}." in text
    assert "AUC on training and on test images" in text
    difference = f"{training - test:+.3f}".replace("-", "\N{MINUS SIGN}")
    assert f"mean {training:.3f} {test:.3f} {difference}" in text
    assert (figures["training_auc"], figures["underfits"]) == (pytest.approx(training), None)
    assert "underfits" not in text
    assert "training images (AUC" not in figures["verdict"]


def test_a_winner_that_does_not_fit_its_training_images_is_told_on_the_first_page(make_study):
    text, figures = told(make_study(ceiling=0.6, fitted=0.62, failing=(), baselines=(0.55, 0.6)))
    first = text.partition("Beside trivial baselines")[0]
    assert figures["training_auc"] == pytest.approx(0.62, abs=0.02)
    assert re.match(r"underfits: training AUC 0\.6\d after 9 epochs, test AUC 0\.\d\d; try ", figures["underfits"])
    assert f"The best trial {figures['underfits']}." in first
    assert figures["verdict"].startswith("The winner is ")
    said = f"But the networks do not fit even their own training images (AUC {figures['training_auc']:.2f} there)"
    assert said in figures["verdict"]
    assert said in first


def test_what_was_learnt_by_heart_is_told_in_the_verdict(make_study):
    text, figures = told(make_study(ceiling=0.55, fitted=0.99, failing=(), baselines=(0.6,)))
    assert figures["grade"] in ("none", "trivial")
    assert "what they have learnt of them does not carry over to other patients." in figures["verdict"]
    assert figures["underfits"] is None
    assert "underfits" not in text


def test_of_a_leak_nothing_else_is_said(make_study):
    _, figures = told(make_study(ceiling=0.6, fitted=0.62, failing=(), control=0.9, baselines=(0.55,)))
    assert figures["verdict"].startswith("Something leaks")
    assert figures["verdict"].endswith("until the cause is found.")


def test_epochs_after_an_early_stop_do_not_count(make_study):
    study = make_study()
    number, path = Study.load(study).best["number"], study / "curves.parquet"
    curves = pd.read_parquet(path)
    curves.loc[(curves["trial"] == number) & (curves["epoch"] > 6), "training_auc"] = None
    curves.to_parquet(path)
    text, figures = told(study)
    last = curves[(curves["trial"] == number) & (curves["epoch"] == 6)]
    assert figures["training_auc"] == pytest.approx(last["training_auc"].mean())
    assert f"0 6 {last['training_auc'].iloc[0]:.3f} " in text.partition("AUC after the last epoch")[2]


@pytest.mark.parametrize("column", ["absent", "empty"])
def test_of_an_older_study_training_is_not_told(make_study, column):
    study = make_study(fitted=None)
    if column == "empty":
        path = study / "curves.parquet"
        pd.read_parquet(path).assign(training_auc=float("nan")).to_parquet(path)
    text, figures = told(study)
    assert "training images" not in text
    assert "underfits" not in text
    assert (figures["training_auc"], figures["underfits"]) == (None, None)
