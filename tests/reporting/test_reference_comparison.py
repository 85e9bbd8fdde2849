"""The reference network in the report: a row, figures and a sentence of its own; no part of the verdict."""

import json
import re

import pytest

from diagram_ray.evaluation.plots import style
from diagram_ray.reporting.page import make_report
from diagram_ray.reporting.study_data import StudyData
from diagram_ray.results import Study


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    monkeypatch.setattr(style, "_data_uri", lambda made: "data:image/svg+xml;base64,")


def told(study):
    """The section's text, and --json."""
    path, (figures,) = make_report([study])
    text = re.sub(r"<[^>]*>", " ", path.read_text(encoding="utf-8").partition("</style>")[2])
    text = " ".join(text.split()).replace("&#39;", "'")
    return text.partition("Beside trivial baselines")[2].partition("How sure is the number?")[0], figures


def test_a_row_figures_and_a_sentence_of_its_own(make_study):
    study = make_study(baselines=(0.55, 0.6), reference=0.7)
    section, figures = told(study)
    found = StudyData(Study.load(study)).estimates.reference
    value, interval = found.difference.value, f"{found.difference.low:+.3f} to {found.difference.high:+.3f}"
    assert f"Frozen features 0 (reference network) Note 0. {value:+.3f} {interval}" in section
    assert f"Frozen features 0 (reference network) {found.auc.value:.3f} " in section, "on the scale"
    assert "The reference network, below, does see shape." in section
    sentence = figures["reference"]["sentence"]
    assert sentence.startswith("The winner's AUC of ")
    assert f"above frozen features 0, the {found.auc.value:.2f} that" in sentence
    assert f"A reference network. {sentence} It learnt from photographs" in section
    assert figures["reference"]["name"] == found.name
    assert figures["reference"]["auc"]["value"] == found.auc.value
    assert figures["reference"]["difference"]["low"] == found.difference.low
    json.dumps(figures)


def test_a_winner_below_it_keeps_its_verdict_and_grade(make_study):
    alone = told(make_study("alone", baselines=(0.55, 0.6)))[1]
    _, figures = told(make_study("beside", baselines=(0.55, 0.6), reference=0.999))
    assert figures["reference"]["sentence"].startswith("The winner is below frozen features 0: ")
    assert figures["verdict"] == alone["verdict"]
    assert figures["grade"] == alone["grade"]
    assert figures["grade"] not in ("trivial", "none")
    assert figures["baselines"] == alone["baselines"]


def test_a_study_without_one_says_how_to_get_it_and_warns_of_nothing(make_study):
    study = make_study(baselines=(0.55,))
    section, figures = told(study)
    how = f"after pip install 'diagram_ray[pretrained]', tune --resume {study} does it, without training a network"
    assert f"Frozen ImageNet features, a reference network, were not measured: {how}." in section
    assert "below, does see shape" not in section
    assert figures["reference"] == {"unmeasured": how}
    assert "pretrained" not in figures["verdict"]
    assert StudyData(Study.load(study)).warnings() == []
    assert Study.load(study).reference is None


def test_one_that_could_not_be_measured_says_why(make_study):
    study = make_study(baselines=(0.55,))
    found = {"identity": "x", "groups": [], "absent": [], "unmeasured": "the worker died", "seconds": 0.1}
    (study / "reference.json").write_text(json.dumps(found))
    section, figures = told(study)
    why = f"the worker died; remove reference.json, and tune --resume {study} tries again"
    assert f"were not measured: {why}." in section
    assert figures["reference"] == {"unmeasured": why}


def test_it_is_told_without_baselines_too(make_study):
    section, figures = told(make_study(reference=0.7))
    assert section.strip().startswith("Not measured: ")
    assert f"A reference network. {figures['reference']['sentence']}" in section


def test_no_complete_trial_has_none_beside_it(make_study):
    _, figures = told(make_study(none_complete=True, reference=0.7))
    assert figures["reference"] == {"unmeasured": "no trial is complete"}
