"""Races drop what hardly beats the incumbent, as seldom wrongly as they promise, and say why in figures."""

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from diagram_ray.errors import DataError
from diagram_ray.evaluation.delong import paired_delong
from diagram_ray.evaluation.resampling import draw_patients
from diagram_ray.results import Measurement, TrialState
from diagram_ray.search.ladder import Ladder, Rung
from diagram_ray.search.messages import Rules
from diagram_ray.search.racing import (
    RULES,
    Cases,
    CaseScores,
    Race,
    chance_by_bootstrap,
    chance_by_delong,
    interval,
    mean_auc,
)
from diagram_ray.search.scheduler import StudyState
from tests.support.studies.scheduling import Memory, Uniform

FOLDS = 5
POINT = Rung(FOLDS, 3)


def cases(patients: int = 60, each: int = 2, resamples: int = 300, seed: int = 0) -> Cases:
    """Patients with `each` images of one label, assigned over the folds."""
    owner = np.repeat(np.arange(patients), each)
    return Cases((owner // FOLDS % 2).astype(np.int64), (owner % FOLDS).astype(np.int64), owner, resamples, seed)


def drawn(known: Cases, gain: float, seed: int, common: float = 0.0) -> list[np.ndarray]:
    """Scores of each fold's images; `gain` parts the classes, `common` of the variance is the image's own."""
    shared = np.random.default_rng(99).standard_normal(len(known.labels))
    own = np.random.default_rng(seed).standard_normal(len(known.labels))
    scores = gain * known.labels + math.sqrt(common) * shared + math.sqrt(1 - common) * own
    return [scores[known.rows(fold)] for fold in range(FOLDS)]


def case_scores(known: Cases, scores: list[np.ndarray]) -> CaseScores:
    return known.case_scores(len(scores), np.concatenate(scores))


def test_the_bootstrap_is_that_of_the_definition() -> None:
    known = cases(30, resamples=150)
    one, two = drawn(known, 1.0, 1), drawn(known, 1.2, 2)
    counts = known._counts
    assert counts.shape == (30, 150)
    won = []
    for column in counts.T:
        means = []
        for scores in (one, two):
            weights = [column[known.patients[known.rows(fold)]] for fold in range(FOLDS)]
            labels = [known.labels[known.rows(fold)] for fold in range(FOLDS)]
            if any(len(set(label[weight > 0])) < 2 for label, weight in zip(labels, weights, strict=True)):
                break
            found = zip(labels, scores, weights, strict=True)
            means.append(np.mean([roc_auc_score(label, s, sample_weight=weight) for label, s, weight in found]))
        else:
            won.append(float(means[0] > means[1] + 1e-12) + 0.5 * float(abs(means[0] - means[1]) <= 1e-12))
    assert 50 < len(won) <= 150
    assert chance_by_bootstrap(case_scores(known, one), case_scores(known, two)) == pytest.approx(
        np.mean(won), abs=0.011
    )


def test_patients_are_drawn_within_folds_and_the_same_for_all() -> None:
    known = cases()
    again = cases()
    np.testing.assert_array_equal(known._counts, again._counts)
    for fold in range(FOLDS):
        mine = np.unique(known.patients[known.rows(fold)])
        np.testing.assert_array_equal(known._counts[mine].sum(axis=0), len(mine))
    assert (known._counts != cases(seed=1)._counts).any()
    assert draw_patients.__module__ == "diagram_ray.evaluation.resampling"


def test_delong_is_that_of_the_comparison_of_one_fold() -> None:
    known = Cases(np.arange(80) % 2, np.zeros(80, np.int64), np.arange(80))
    random_ = np.random.default_rng(3)
    one, two = (random_.standard_normal(80) + gain * known.labels for gain in (0.8, 1.1))
    _, p = paired_delong(known.labels, one, two)
    chance = chance_by_delong(known.case_scores(1, one), known.case_scores(1, two))
    assert 2 * min(chance, 1 - chance) == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("rule", list(RULES))
def test_equals_go_on_and_the_far_worse_are_dropped(rule: str) -> None:
    known = cases()
    good, bad = case_scores(known, drawn(known, 2.5, 1)), case_scores(known, drawn(known, 0.1, 2))
    race = Race(rule, 0.05)
    assert race.judge(POINT, good, good, 3).go_on
    assert race.judge(POINT, good, bad, 3).go_on
    dropped = race.judge(POINT, bad, good, 3)
    assert not dropped.go_on
    assert dropped.statistic < dropped.threshold
    assert dropped.against == 3
    assert dropped.why.startswith(f"dropped: {mean_auc(bad):.4f} at 5 folds x 3 epochs against {mean_auc(good):.4f}")
    assert dropped.why.endswith(f"({rule})")


@pytest.mark.parametrize("folds", [1, 2, 3])
def test_ranks_cannot_act_before_the_fourth_fold(folds: int) -> None:
    known = cases()
    good, bad = drawn(known, 3.0, 1), drawn(known, 0.0, 2)
    judged = Race("wilcoxon", 0.1).judge(Rung(folds, 3), case_scores(known, bad[:folds]), case_scores(known, good), 0)
    assert judged.go_on
    assert not Race("wilcoxon", 0.1).judge(POINT, case_scores(known, bad), case_scores(known, good), 0).go_on


def test_the_two_rules_of_early_stopped_cross_validation() -> None:
    known = cases()
    incumbent = case_scores(known, drawn(known, 1.5, 1))
    aucs = [fold.auc for fold in incumbent]
    between = next(
        mine
        for seed in range(200)
        if min(aucs) < mean_auc(mine := case_scores(known, drawn(known, 1.2, seed)[:2])) < np.mean(aucs)
    )
    assert Race("forgiving", 0.0).judge(Rung(2, 3), between, incumbent, 0).go_on
    assert not Race("aggressive", 0.0).judge(Rung(2, 3), between, incumbent, 0).go_on


@pytest.mark.parametrize("rule", ["bbcd", "delong"])
def test_an_equally_good_trial_is_dropped_about_as_seldom_as_said(rule: str) -> None:
    known = cases(120, 1, resamples=400)
    race, drops, count = Race(rule, 0.05), 0, 400
    for seed in range(count):
        one, two = (case_scores(known, drawn(known, 1.2, 2 * seed + n, common=0.6)) for n in (0, 1))
        drops += not race.judge(POINT, one, two, 0).go_on
    assert 0.02 < drops / count < 0.10


def test_pairing_tells_more_than_the_means() -> None:
    """Two trials that agree on which cases are hard: a small gap is certain."""
    known = cases(120, 1)
    shared = drawn(known, 1.0, 1)
    better = [scores + 0.25 * known.labels[known.rows(fold)] for fold, scores in enumerate(shared)]
    alone = drawn(known, 1.25, 7)
    worse = case_scores(known, shared)
    assert chance_by_bootstrap(worse, case_scores(known, better)) == 0.0
    assert chance_by_bootstrap(worse, case_scores(known, alone)) > 0.0


def test_the_interval_of_a_standing_is_that_of_its_resamples() -> None:
    known = cases(40, 1, resamples=200)
    one = case_scores(known, drawn(known, 1.0, 1))
    found, means = interval(one), np.mean([fold.draws for fold in one], axis=0)
    assert found.value == mean_auc(one)
    assert (found.low, found.high) == pytest.approx(np.nanpercentile(means, [2.5, 97.5]))
    assert found.low < found.value < found.high


def test_without_both_classes_in_a_resample_nothing_is_dropped() -> None:
    known = Cases(np.array([0, 1]), np.zeros(2, np.int64), np.array([0, 1]), resamples=1, seed=2)
    seed = next(s for s in range(99) if (replace(known, seed=s)._counts == 0).any())
    known = replace(known, seed=seed)
    bad, good = known.case_scores(1, np.array([1.0, 0.0])), known.case_scores(1, np.array([0.0, 1.0]))
    assert chance_by_bootstrap(bad, good) == 0.5


def test_scores_of_other_images_are_refused() -> None:
    with pytest.raises(DataError, match="the first 2 folds have 48 images"):
        cases().case_scores(2, np.zeros(47))


class Remembered:
    """Made-up standings: a function of a trial's parameters and the rung alone."""

    def __init__(self, journal: Memory) -> None:
        self.known, self.journal = cases(40, 1, resamples=100), journal

    def case_scores(self, number: int, rung: int) -> CaseScores:
        text = repr(sorted(self.journal.trials[number].params.items()))
        gain = random.Random(text).uniform(0.0, 3.0) * (rung + 1) / 3
        seed = random.Random(f"of {text}").randrange(2**32)
        return case_scores(self.known, drawn(self.known, gain, seed)[: LADDER.rungs[rung].folds])

    def measurement(self, number: int, rung: int) -> Measurement:
        aucs = tuple(fold.auc for fold in self.case_scores(number, rung))
        return Measurement(len(aucs), LADDER.rungs[rung].epochs, aucs, aucs, 0.0)


LADDER = Ladder((Rung(2, 1), Rung(4, 3), Rung(FOLDS, 9)), 2)


def run(workers: int, clock: random.Random, race: Race | None, journal: Memory, events: int = 10**9) -> dict[int, Any]:
    score_source = Remembered(journal)
    state = StudyState(Rules(40, workers, 5, LADDER, race), Uniform(5), journal, score_source)
    while not state.finished and events > 0:
        while state.next_start() is not None:
            pass
        number = clock.choice(sorted(state.running))
        rung = len(state.trials[number].measurements)
        state.measured(number, rung, score_source.measurement(number, rung))
        events -= 1
    return journal.trials


@settings(max_examples=8, deadline=None)
@given(st.integers(1, 6), st.integers(), st.lists(st.integers(1, 30), max_size=3))
def test_a_race_decides_alike_whatever_the_order_and_the_cuts(workers: int, seed: int, cuts: list[int]) -> None:
    race = Race("bbcd", 0.4)
    whole = run(1, random.Random(0), race, Memory())
    journal = Memory()
    for events in [*cuts, 10**9]:
        run(workers, random.Random(seed), race, journal, events)
    assert journal.trials == whole
    reasons = [trial.reason for trial in whole.values() if trial.state is TrialState.PRUNED]
    assert any("(bbcd)" in reason for reason in reasons)
    assert any("is number" in reason for reason in reasons)


def test_a_race_never_runs_against_a_trial_that_could_have_come_later() -> None:
    journal = Memory()
    found = run(3, random.Random(1), Race("delong", 0.4), journal)
    raced = [trial for trial in found.values() if "of trial " in trial.reason]
    for trial in raced:
        against = int(trial.reason.split("of trial ")[1].split(":")[0])
        assert against <= trial.number - 5
        assert found[against].state is TrialState.COMPLETE
    assert raced
