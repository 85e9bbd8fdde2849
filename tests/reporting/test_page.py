"""The report says what the study's tables say, whatever state the study is in, and never runs what a study contains."""

import html
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from diagram_ray.errors import DataError, LeakageError, UsageError
from diagram_ray.evaluation.plots import style
from diagram_ray.report import app, write_report
from diagram_ray.results import Study

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}{% raw %}"


@pytest.fixture(autouse=True)
def quick_pictures(request, monkeypatch):
    """Most tests read the words: drawing is nine tenths of the time."""
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(style, "_data_uri", lambda made: "data:image/svg+xml;base64,")


@pytest.fixture
def real_pictures():
    """For tests that look at the pictures."""


class Page(HTMLParser):
    """Tags with their attributes, and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def page_of(*studies, out=None):
    return Page(write_report(list(studies), out).read_text(encoding="utf-8"))


def edit(study, change):
    path = study / "study.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")


def test_the_first_page_says_whether_the_dataset_was_audited(make_study):
    def first(study):
        return page_of(study).text.partition("How sure is the number?")[0]

    study = make_study()
    assert "Nobody has audited this data set" in first(study)
    fingerprint = yaml.safe_load((study / "study.yaml").read_text(encoding="utf-8"))["dataset"]["fingerprint"]
    edit(study, lambda document: document["dataset"].update(audit={"fingerprint": "old", "findings": []}))
    assert "The data set has changed since it was audited" in first(study)
    edit(study, lambda document: document["dataset"].update(audit={"fingerprint": fingerprint, "findings": []}))
    assert "The data set was audited before the study" in first(study)


def test_the_figures_are_those_of_the_tables(usual_study, tmp_path):
    page, best = page_of(usual_study, out=tmp_path / "r.html"), Study.load(usual_study).best
    assert f"{best['auc_mean']:.3f} ± {best['auc_sd']:.3f}" in page.text
    assert f"{best['accuracy_mean']:.1%}" in page.text
    assert "2 complete, 13 pruned, 1 failed" in page.text
    assert "loss_image is NaN in fold 3 after epoch 2" in page.text
    assert "No-signal control 0.510 As it should be" in page.text
    assert "no pixel data 2" in page.text
    assert "not a mammogram: modality CT 1" in page.text
    assert "python -m diagram_ray.tune search_spaces/quickstart.yaml" in page.text
    assert f"--from {usual_study}" in page.text
    assert "optuna 5.0.0" in page.text
    assert "3f9c2b7a1d" in page.text
    assert "88.4 ± 2.9%" in page.text
    assert "92.5 ± 2.4%" in page.text
    assert "makes them incomparable" in page.text or "make them incomparable" in page.text
    spent = int(Study.load(usual_study).trials["fold_epochs"].sum())
    assert f"spent {spent} fold-epochs exhaustive search 720 fold-epochs" in page.text


def test_the_configuration_shown_is_the_winners(make_study):
    study = make_study()
    trials = pd.read_parquet(study / "trials.parquet")
    trials["params.training.k"] = trials["params.training.k"].where(trials["state"] == "COMPLETE")  # floats now
    trials.to_parquet(study / "trials.parquet")
    text = write_report([study]).read_text(encoding="utf-8")
    shown = yaml.safe_load(html.unescape(re.search(r'<pre class="config"><code>(.*?)</code>', text, re.S).group(1)))
    best = Study.load(study).best
    assert shown["training"]["learning_rate"]["classifier"] == best["params.training.learning_rate.classifier"]
    assert shown["training"]["k"] == best["params.training.k"]
    assert isinstance(shown["training"]["k"], int)
    assert shown["model"]["norm"] == best["params.model.norm"]
    assert shown["model"]["width"] == 8


def test_folds_are_counted(usual_study, tmp_path):
    page = page_of(usual_study, out=tmp_path / "r.html")
    assert "Fold Patients Images benign cancer 0 24 96 80 16" in page.text
    assert "all 120 480 400 80" in page.text


def test_the_page_needs_nothing_from_elsewhere(usual_study, tmp_path, real_pictures):
    page = page_of(usual_study, out=tmp_path / "r.html")
    assert not [tag for tag, _ in page.tags if tag in {"script", "iframe", "object", "embed", "base", "form"}]
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert "default-src 'none'" in next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2 + 6 + 6  # ROC and history, the parameters, the curves
    assert all(picture["alt"] for picture in pictures)


def test_hostile_text_stays_text(make_study):
    study = make_study(
        reason=HOSTILE,
        classes=(HOSTILE, "cancer" + HOSTILE),
        dataset={"name": HOSTILE, "rejects": {HOSTILE: 3}, "uri": HOSTILE},
    )

    def spoil(document):
        document["study"]["name"] = HOSTILE
        document["command"] = HOSTILE
        document["versions"] = {HOSTILE: HOSTILE}
        document["started"] = HOSTILE
        document["interrupted"] = HOSTILE
        document["experiment"]["data"]["target"] = HOSTILE
        document["experiment"][HOSTILE] = HOSTILE

    edit(study, spoil)
    trials = pd.read_parquet(study / "trials.parquet")
    trials = trials.rename(columns={"params.model.norm": f"params.{HOSTILE}"})
    trials[f"params.{HOSTILE}"] = HOSTILE
    trials.to_parquet(study / "trials.parquet")
    page = page_of(study)
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "link", "body", "main", "article", "section", "header", "footer"),
        *(
            "h1",
            "h2",
            "h3",
            "h4",
            "p",
            "br",
            "div",
            "span",
            "i",
            "em",
            "strong",
            "ul",
            "li",
            "dl",
            "dt",
            "dd",
            "pre",
            "code",
        ),
        *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "img", "details", "summary"),
    }
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert all(a["src"].startswith("data:image/svg+xml;base64,") for t, a in page.tags if t == "img")
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert "{{ 7*7 }}" in page.text
    assert "49" not in re.findall(r"alert\(2\)>\"'&(\S+)", page.text)


def test_mathematics_and_odd_characters_in_names_are_drawn_as_they_are(make_study, real_pictures):
    study = make_study()
    trials = pd.read_parquet(study / "trials.parquet")
    trials["params.model.norm"] = ["$x^2$", r"\frac{", "$", "группа"] * 4
    trials.to_parquet(study / "trials.parquet")
    write_report([study])


def test_one_complete_trial(make_study, real_pictures):
    page = page_of(make_study(trials=1, failing=()))
    assert "Trial 0 is the only complete one" in page.text
    assert "there was no choice to correct for" in page.text
    assert "Which settings matter cannot be said" in page.text


def test_no_complete_trial(make_study):
    page = page_of(make_study(none_complete=True, failing=(1, 2)))
    assert "No trial is complete (14 pruned, 2 failed)" in page.text
    assert "Corrected AUC" not in page.text
    assert "All 16 trials" in page.text


def test_nothing_but_failures(make_study, real_pictures):
    study = make_study(trials=3, failing=(0, 1, 2), rungs=((5, 1), (5, 3)))
    (study / "curves.parquet").unlink()
    assert "No trial is complete (3 failed)" in page_of(study).text


def test_many_failures_are_cut_short_and_counted(make_study):
    page = page_of(make_study(trials=26, failing=tuple(range(1, 26))))
    assert "And 5 more, in trials.parquet." in page.text


def test_without_a_control_the_page_says_so(make_study):
    page = page_of(make_study(control=None))
    assert "No-signal control none This study trained nothing on shuffled labels" in page.text


def test_noise_teaches_next_to_nothing(make_study):
    page = page_of(make_study(ceiling=0.55, trials=8, patients=80, failing=()))
    assert "The images teach the model next to nothing" in page.text


def test_a_leak_comes_before_the_figures(make_study):
    page = page_of(make_study(control=0.81))
    assert page.text.index("Something leaks") < page.text.index("Best AUC")
    assert "No-signal control 0.810 Not as it should be" in page.text


def test_the_price_of_leakage_is_told_if_it_is_known(make_study):
    study = make_study()
    assert "price of leakage" not in page_of(study).text
    number = int(Study.load(study).best["number"])
    found = {"trial": number, "auc_mean": 0.95, "fold_auc": [0.93, 0.94, 0.95, 0.96, 0.97]}
    (study / "leakage.json").write_text(json.dumps(found))
    price = 0.95 - Study.load(study).best["auc_mean"]
    words = f"the same configuration scores 0.950 ± 0.016: {price:+.3f} against folds assigned by patient"
    assert words in page_of(study).text
    (study / "leakage.json").write_text(json.dumps(found | {"trial": number + 1}))
    assert "price of leakage" not in page_of(study).text
    (study / "leakage.json").write_text(json.dumps({"trial": number}))
    with pytest.raises(DataError, match=r"leakage\.json: cannot be read"):
        page_of(study)


def test_a_control_of_another_trial_is_pointed_out(make_study):
    study = make_study()
    control = json.loads((study / "control.json").read_text())
    (study / "control.json").write_text(json.dumps(control | {"trial": 9}))
    assert "The no-signal control was run for another trial" in page_of(study).text


def test_tables_that_disagree_are_pointed_out(make_study):
    study = make_study()
    trials = pd.read_parquet(study / "trials.parquet")
    trials.loc[trials["state"] == "COMPLETE", "auc_mean"] += 0.02
    trials.to_parquet(study / "trials.parquet")
    assert re.search(
        r"trials.parquet says AUC 0\.\d+ for the best trial; its predictions give 0\.\d+", page_of(study).text
    )


def test_an_interrupted_study_says_so(make_study):
    page = page_of(make_study(document={"interrupted": "time budget", "seconds": 0.0}))
    assert "ended early (time budget)" in page.text
    assert "not recorded from start to end" in page.text


def test_several_studies_side_by_side(make_study, tmp_path):
    studies = [
        make_study("one", name="with-gan"),
        make_study("two", name="without-gan", seed=3),
        make_study("three", none_complete=True, name="cut"),
    ]
    path = write_report(studies)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "3 studies side by side" in page.text
    assert [a["href"] for t, a in page.tags if t == "a"] == ["#study-1", "#study-2", "#study-3"]
    assert {"study-1", "study-2", "study-3"} <= {a.get("id") for _, a in page.tags}
    assert "cannot be ranked by these figures" in page.text


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda s: (s / "study.yaml").unlink(), DataError, "not a study"),
        (lambda s: (s / "study.yaml").write_text("a: [", encoding="utf-8"), DataError, "study.yaml: cannot be read"),
        (lambda s: edit(s, lambda d: d.pop("dataset")), DataError, "dataset is missing"),
        (lambda s: edit(s, lambda d: d.update(classes=["a"])), DataError, r"classes: \['a'\]"),
        (lambda s: edit(s, lambda d: d["study"].pop("ladder")), DataError, "ladder cannot be read"),
        (lambda s: (s / "trials.parquet").unlink(), DataError, "trials.parquet: no such table"),
        (lambda s: (s / "trials.parquet").write_bytes(b"PAR1"), DataError, "trials.parquet: cannot be read"),
        (lambda s: (s / "predictions.parquet").unlink(), DataError, "predictions.parquet: no such table"),
        (lambda s: (s / "control.json").write_text("{}"), DataError, "control.json: cannot be read"),
        (
            lambda s: pd.read_parquet(s / "curves.parquet").drop(columns="epoch").to_parquet(s / "curves.parquet"),
            DataError,
            "curves.parquet: column 'epoch' is missing",
        ),
    ],
)
def test_a_damaged_study_is_one_clear_sentence(make_study, spoil, error, message):
    study = make_study()
    spoil(study)
    with pytest.raises(error, match=message):
        write_report([study])


def test_a_patient_tested_in_a_fold_that_is_not_the_patients_is_a_leak(make_study):
    study = make_study()
    splits = json.loads((study / "splits.json").read_text())
    patient = next(iter(splits["patients"]))
    splits["patients"][patient] = 4
    (study / "splits.json").write_text(json.dumps(splits))
    with pytest.raises(
        LeakageError, match=f"patient {patient} was tested in fold 0, but splits.json has the patient in fold 4"
    ):
        write_report([study])


def test_an_old_report_stays_if_the_new_one_cannot_be_made(make_study):
    study = make_study()
    (study / "report.html").write_text("old")
    (study / "predictions.parquet").unlink()
    with pytest.raises(DataError):
        write_report([study])
    assert (study / "report.html").read_text() == "old"
    assert not list(study.glob(".report*"))


def test_out_must_be_a_file(usual_study, tmp_path):
    with pytest.raises(UsageError, match="is a folder; name the file"):
        write_report([usual_study], tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        write_report([usual_study], tmp_path / "file" / "r.html")


def test_the_command(usual_study, tmp_path):
    study = tmp_path / "copy"
    shutil.copytree(usual_study, study)
    result = CliRunner().invoke(app, [str(study), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["report"] == str(study / "report.html")
    assert found["studies"][0]["auc_mean"] == pytest.approx(Study.load(study).best["auc_mean"])
    assert (
        found["studies"][0]["corrected_low"]
        < found["studies"][0]["corrected_auc"]
        < found["studies"][0]["corrected_high"]
    )
    assert [unit["count"] for unit in found["studies"][0]["units"]] == [480, 240, 120]
    assert CliRunner().invoke(app, [str(tmp_path / "nowhere")]).exit_code == 2
    assert "Example:" in CliRunner().invoke(app, ["--help"]).stdout


def test_the_same_study_gives_the_same_page(usual_study, tmp_path, real_pictures):
    one, two = write_report([usual_study], tmp_path / "1.html"), write_report([usual_study], tmp_path / "2.html")
    assert one.read_bytes() == two.read_bytes()


def test_the_report_loads_neither_torch_nor_ray(usual_study, tmp_path):
    code = (
        "import sys; from pathlib import Path; from diagram_ray.report import write_report;"
        f"write_report([Path({str(usual_study)!r})], Path({str(tmp_path / 'r.html')!r}));"
        "assert not {'torch', 'ray'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_image_breast_and_patient_stand_side_by_side(usual_study, make_study, tmp_path):
    text = page_of(usual_study, out=tmp_path / "r.html").text
    assert "By image (480), mean over folds" in text
    assert "By breast (240), mean of its views" in text
    assert "Positive are 80 of 480 images, 40 of 240 breasts, 40 of 120 patients." in text
    without = page_of(make_study(sides=False)).text
    assert "By breast" not in without
    assert "By patient (120)" in without
    assert "does not say of every image which side it shows" in without


def test_decisions_and_power_are_told(usual_study, tmp_path):
    text, best = page_of(usual_study, out=tmp_path / "r.html").text, Study.load(usual_study).best
    assert f"Accuracy at the threshold 0.5 {best['accuracy_mean']:.1%}" in text
    assert "Accuracy at the Youden point of the other folds" in text
    assert re.search(r"Sensitivity at 90% specificity \d+\.\d% \d+\.\d% to \d+\.\d%", text)
    assert "To see a difference of 0.02 between two configurations" in text
    assert "It makes the search again without each fold" in text


def test_the_winner_is_compared_with_the_best_of_each_other_choice(make_study):
    study = make_study(trials=40)
    trials, best = pd.read_parquet(study / "trials.parquet"), Study.load(study).best
    other = trials[(trials["state"] == "COMPLETE") & (trials["params.model.norm"] != best["params.model.norm"])]
    rival = other.sort_values("auc_mean").iloc[-1]
    text = page_of(study).text
    assert f"model. norm = {rival['params.model.norm']} (trial {rival['number']})" in text.replace("\u200b", " ")
    assert f"{rival['auc_mean']:.3f}, {best['auc_mean']:.3f} +{best['auc_mean'] - rival['auc_mean']:.3f}" in text
    assert "corrected by Holm over 1 comparison." in text


def test_studies_on_the_same_folds_are_paired_and_others_are_not(make_study):
    one, two, three = (make_study(f"s{seed}", name=f"s{seed}", seed=seed) for seed in range(3))
    edit(three, lambda document: document["dataset"].update(fingerprint="other"))
    text = page_of(one, two, three).text
    assert "s1 less s0" in text
    assert "less s1" not in text
    assert "s2 less" not in text
    assert "corrected by Holm over 1 comparison." in text
    assert "s1 less s0" not in page_of(one, three).text


def test_a_study_whose_trials_started_with_other_weights_says_so(make_study):
    study = make_study(trials=6)
    assert "trials started with" not in page_of(study).text
    edit(study, lambda document: document.update(init_from={"source": "runs/ddsm", "weights": "5f" * 32}))
    text = page_of(study).text
    assert "trials started with F and E of runs/ddsm" in text
    assert "5f" * 32 in text.replace("\u200b", "")
