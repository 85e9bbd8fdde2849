"""The margin over trivial baselines against a slow reference, without bias where there is nothing, and in words."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from diagram_ray.errors import DataError
from diagram_ray.evaluation.estimates.bbc import bags, bbc
from diagram_ray.evaluation.estimates.margin import Baseline, Margin, beside, margin
from diagram_ray.evaluation.estimates.winner import ControlCheck, estimate
from diagram_ray.evaluation.metrics import auc
from diagram_ray.evaluation.out_of_fold import out_of_fold
from diagram_ray.evaluation.resampling import Interval, draw_patients
from diagram_ray.evaluation.verdict import Grade, grade, signed, verdict


def tables(seed=0, trials=(0.9, 1.0), groups=(0.3, 0.4), patients=40, folds=4, same=0.0):
    """Predictions of trials and of groups whose classes are so far apart; two images a patient, of one class."""
    random = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 2)
    sick = (owner // folds) % 2
    common = np.repeat(random.normal(size=patients), 2)

    def table(key, name, gain):
        own = np.repeat(random.normal(size=patients), 2) + 0.5 * random.normal(size=2 * patients)
        score = same * common + (1 - same) * own + gain * sick
        ids = {"image_id": [f"i{n:03d}" for n in range(2 * patients)], "patient_id": [f"p{n:03d}" for n in owner]}
        return pd.DataFrame({key: name, "repeat": 0, "fold": owner % folds, **ids, "label": sick, "score": score})

    mine = pd.concat([table("trial", 3 * n, gain) for n, gain in enumerate(trials)])
    theirs = pd.concat([table("group", f"g{n}", gain) for n, gain in enumerate(groups)])
    return mine, theirs.drop(columns="repeat").sample(frac=1, random_state=seed)


def found_in(mine, theirs, resamples=200, seed=0):
    return estimate(mine, int(mine["trial"].max()), resamples, seed, theirs)


def test_the_margin_is_that_of_a_loop_over_resamples():
    mine, theirs = tables(trials=(0.8, 0.9, 1.0), groups=(0.5, 0.6), patients=60, folds=2)
    found = found_in(mine, theirs, 150, seed=4).margin
    trials, groups = out_of_fold(mine), out_of_fold(theirs.assign(trial=theirs["group"].str[1:].astype(int), repeat=0))
    counts = draw_patients(trials, 150, 4)

    def mean_auc(data, at, chosen):
        folds = [[i for i in rows for _ in range(int(chosen[data.patients[i]]))] for rows in data.rows()]
        return np.mean([auc(data.labels[rows], data.scores[at, rows]) for rows in folds])

    def both(data, resample):
        inside = [mean_auc(data, at, counts[:, resample]) for at in range(len(data.trials))]
        outside = [mean_auc(data, at, counts[:, resample] == 0) for at in range(len(data.trials))]
        return inside, outside

    measured = []
    for resample in range(150):
        (inside, outside), (other_inside, other_outside) = both(trials, resample), both(groups, resample)
        measured.append((inside, outside, other_inside, other_outside))
    inside, outside, other_inside, other_outside = (np.array(side).T for side in zip(*measured, strict=True))
    one, two = inside.argmax(axis=0), other_inside.argmax(axis=0)
    every = np.arange(150)
    differences = outside[one, every] - other_outside[two, every]
    part = np.mean([(outside[a] - other_outside[b]).var() for a, b in zip(one, two, strict=True)])
    whole = np.mean([(inside[a] - other_inside[b]).var() for a, b in zip(one, two, strict=True)])
    reach = 1.959963984540054 * differences.std() * np.sqrt(whole / part)
    assert found.difference.value == pytest.approx(differences.mean())
    assert found.difference.high - found.difference.value == pytest.approx(reach)
    assert found.difference.value - found.difference.low == pytest.approx(reach)
    assert found.auc == pytest.approx(other_outside[two, every].mean())


def test_the_winners_own_estimates_do_not_depend_on_baselines():
    mine, theirs = tables()
    beside_them, alone = found_in(mine, theirs), found_in(mine, None)
    assert alone.margin is None
    assert beside_them.corrected == alone.corrected == bbc(out_of_fold(mine), 200)
    assert beside_them.pooled == alone.pooled
    assert beside_them.chance_sd == alone.chance_sd


def test_the_figures_of_the_page_add_up():
    mine, theirs = tables(groups=(0.3, 1.2, 0.6))
    estimates = found_in(mine, theirs)
    found = estimates.margin
    by_group = {
        name: np.mean([auc(part["label"], part["score"]) for _, part in table.groupby("fold")])
        for name, table in theirs.groupby("group")
    }
    assert {each.name: each.auc.value for each in found.baselines} == pytest.approx(by_group)
    assert found.best == found.baselines[0].name == max(by_group, key=by_group.get)
    values = [each.auc.value for each in found.baselines]
    assert values == sorted(values, reverse=True)
    assert found.difference.value == pytest.approx(estimates.corrected.auc.value - found.auc)
    assert found.auc < values[0], "what was highest of several was lucky"
    for each in found.baselines:
        assert each.difference.value == pytest.approx(estimates.corrected.auc.value - each.auc.value)
        assert each.auc.low < each.auc.value < each.auc.high


def test_a_network_that_is_its_baseline_is_not_above_it_and_the_interval_is_a_point():
    mine, _ = tables(trials=(0.7,))
    theirs = mine.drop(columns=["trial", "repeat"]).assign(group="the same")
    found = found_in(mine, theirs).margin
    assert found.difference.value == found.difference.low == found.difference.high == 0.0
    assert not found.above


def test_what_is_hard_for_both_narrows_the_interval():
    apart, alike = (found_in(*tables(trials=(0.9,), groups=(0.9,), same=same)).margin.difference for same in (0.0, 0.8))
    assert alike.high - alike.low < 0.7 * (apart.high - apart.low)


def test_the_luck_of_neither_side_is_in_the_margin():
    """Of noise on both sides, the highest of 12 is ahead of the only one by luck; the margin does not say so."""
    plain, margins = [], []
    for seed in range(30):
        mine, theirs = tables(seed, trials=(0.0,) * 12, groups=(0.0,), patients=60)
        both, names = beside(mine, theirs)
        measured = bags(both, 200, seed)
        trials, groups = measured.part(slice(12)), measured.part(slice(12, None))
        plain.append(trials.whole.max() - groups.whole.max())
        margins.append(margin(trials, groups, names).difference.value)
    assert np.mean(plain) > 0.08
    assert abs(np.mean(margins)) < 0.035


def test_a_clear_lead_is_shown_and_so_is_a_clear_lack():
    lead = found_in(*tables(trials=(2.5,), groups=(0.2,), patients=80)).margin
    assert lead.above
    assert lead.difference.value == pytest.approx(norm.cdf(2.5 / 1.58) - norm.cdf(0.2 / 1.58), abs=0.15)
    lack = found_in(*tables(trials=(0.2,), groups=(2.5,), patients=80)).margin
    assert lack.difference.high < 0
    assert not lack.above


def test_so_few_patients_that_nothing_can_be_said():
    mine, theirs = tables(patients=2, folds=1)
    found = found_in(mine, theirs).margin
    assert (found.difference.low, found.difference.high) == (-1.0, 1.0)


@pytest.mark.parametrize(("column", "value"), [("fold", 9), ("label", 2), ("image_id", "i999"), ("patient_id", "p999")])
def test_baselines_of_other_images_labels_or_folds_are_refused(column, value):
    mine, theirs = tables()
    theirs.loc[theirs["image_id"] == "i007", column] = value
    with pytest.raises(DataError, match=r"baselines\.parquet: was not measured on the images, labels and folds"):
        found_in(mine, theirs)


FINE = ControlCheck(0.52, 0.42, 0.58, 1)


def by(difference, auc=0.59):
    return Margin("histogram", auc, difference, (Baseline("histogram", Interval(0.6, 0.5, 0.7), difference),))


@pytest.mark.parametrize(
    ("interval", "difference", "first", "found"),
    [
        (
            Interval(0.71, 0.66, 0.76),
            Interval(0.12, 0.06, 0.18),
            "The winner's AUC of 0.71 is 0.12 (95% interval 0.06 to 0.18) above the best trivial baseline, the 0.59 "
            "that “histogram” reaches without any network. ",
            Grade.WEAK,
        ),
        (
            Interval(0.97, 0.93, 0.99),
            Interval(0.01, -0.03, 0.04),
            "The winner is not shown to be above the best trivial baseline: its AUC of 0.97 against the 0.59 that "
            "“histogram” reaches without any network is a difference of +0.01 (95% interval −0.03 to +0.04). Whatever",
            Grade.TRIVIAL,
        ),
        (
            Interval(0.62, 0.55, 0.68),
            Interval(-0.09, -0.15, -0.03),
            "The winner is below the best trivial baseline: its AUC of 0.62 is 0.09 (95% interval 0.03 to 0.15) less "
            "than the 0.59 that “histogram” reaches without any network. Whatever",
            Grade.TRIVIAL,
        ),
        (
            Interval(0.55, 0.46, 0.64),
            Interval(0.0, -0.004, 0.004),
            "The winner is not shown to be above the best trivial baseline: its AUC of 0.55 against the 0.59 that "
            "“histogram” reaches without any network is a difference of +0.00 (95% interval +0.00 to +0.00). The "
            "images teach the model next to nothing: there is no evidence",
            Grade.NONE,
        ),
    ],
)
def test_the_verdict_begins_with_the_margin(interval, difference, first, found):
    sentence = verdict(interval, FINE, by(difference))
    assert sentence.startswith(first)
    assert sentence.endswith(
        f"AUC {interval.value:.2f}, 95% interval {interval.low:.2f} to {interval.high:.2f}; 0.5 is guessing."
    )
    assert grade(interval, FINE, by(difference)) is found


def test_a_leak_is_told_before_any_margin():
    leaking = ControlCheck(0.71, 0.42, 0.58, 1)
    assert verdict(Interval(0.9, 0.8, 0.95), leaking, by(Interval(0.2, 0.1, 0.3))).startswith("Something leaks")
    assert grade(Interval(0.9, 0.8, 0.95), leaking, by(Interval(0.2, -0.1, 0.3))) is Grade.LEAK


def test_signs():
    assert [signed(value, 2) for value in (0.123, -0.123, -0.001, 0.0)] == ["+0.12", "−0.12", "+0.00", "+0.00"]
    assert signed(-0.0126) == "−0.013"
