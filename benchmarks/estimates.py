"""Do the estimates keep their promises? `nice -n 10 python -m benchmarks.estimates`, some minutes on one core.

Simulates studies of 410 images of patients with 1 to 4 images each, whose scores agree within a patient: what the
winner of a search over pure noise looks like and what BBC-CV and nested CV (the platform's own selection, on simulated
models) make of it, how often 95 % intervals hold the truth, and
how far DeLong's figures are from their definition counted pair by pair.
"""

import argparse
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from diagram_ray.evaluation.comparison import corrected_t
from diagram_ray.evaluation.delong import delong, paired_delong
from diagram_ray.evaluation.estimates.bbc import bags, bbc
from diagram_ray.evaluation.estimates.margin import margin
from diagram_ray.evaluation.estimates.nested_estimate import nested_estimate
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Interval, bootstrap, mean_over_folds
from diagram_ray.search.ladder import Ladder, Rung, decide
from diagram_ray.search.nested import Field, HeldOutModel, NestedSearch, Outer
from diagram_ray.search.racing import Cases
from diagram_ray.study.nested_plan import inner_ladder

IMAGES, FOLDS = 410, 5
OF_PATIENT = 0.5
"""Correlation of the scores of two images of a patient."""
ALIKE = 0.8
"""Correlation of what two models of one configuration, trained on different folds, make of an image."""
WHOLE = Ladder((Rung(FOLDS, 9),), 3)
"""All trials in full."""
Random = np.random.Generator


@dataclass(frozen=True)
class World:
    """Studies to simulate."""

    configurations: int
    alike: float = 0.0
    """Correlation of two configurations' scores of an image."""
    gain: float = 0.0
    """Mean distance of the classes, in standard deviations of the score; 0 is noise."""
    spread: float = 0.0
    """Its standard deviation between configurations."""
    of_patient: float = OF_PATIENT
    images: int = IMAGES


def draw(world: World, random: Random) -> tuple[OutOfFold, NDArray[np.float64]]:
    """A study, and the true AUC of each configuration. All images of a patient are of one class."""
    sizes = random.integers(1, 5, world.images)
    owner = np.repeat(np.arange(world.images), sizes)[: world.images]
    patients = int(owner[-1]) + 1
    fold = random.permutation(np.arange(patients) % FOLDS)[owner]
    labels = random.permutation(np.arange(patients) % 5 < 2).astype(np.int64)[owner]
    gains = world.gain + world.spread * random.normal(size=world.configurations)
    values = scores(world, owner, random) + gains[:, None] * labels
    return OutOfFold(tuple(range(world.configurations)), values, labels, fold, owner), norm.cdf(gains / math.sqrt(2))


def scores(world: World, owner: NDArray[np.int64], random: Random) -> NDArray[np.float64]:
    """(C, N) of images of the patients `owner`, without any signal."""

    def noise(count: int) -> NDArray[np.float64]:
        mine, theirs = random.normal(size=(count, len(owner))), random.normal(size=(count, int(owner[-1]) + 1))
        return math.sqrt(1 - world.of_patient) * mine + math.sqrt(world.of_patient) * theirs[:, owner]

    return math.sqrt(world.alike) * noise(1) + math.sqrt(1 - world.alike) * noise(world.configurations)


class Models:
    """What each model of a simulated study scores (`search.nested.Scores`): those of its own folds, and those that were
    trained without two. Models of one configuration agree about an image as much as `ALIKE` says, not wholly."""

    def __init__(self, world: World, data: OutOfFold, gains: NDArray[np.float64], random: Random) -> None:
        self._data = data
        signal = gains[:, None] * data.labels
        self._pairs = [
            signal + ALIKE * (data.scores - signal) + math.sqrt(1 - ALIKE**2) * scores(world, data.patients, random)
            for _ in range(FOLDS)
        ]

    def of(self, cell: HeldOutModel, fold: int) -> NDArray[np.float64]:
        others = [other for other in cell.without if other != fold]
        whole = self._pairs[others[0]] if others else self._data.scores
        return whole[cell.trial, self._data.folds == fold]


def nested(data: OutOfFold, models: Models, ladder: Ladder) -> list[Outer]:
    """The outer folds, as the platform makes them."""
    cases = Cases(data.labels, data.folds, data.patients)
    search = NestedSearch(Field(data.trials, inner_ladder(ladder), 1, None, cases), models)
    assert search.advance() == []
    found = search.results()
    assert isinstance(found, list)
    return found


def complete(data: OutOfFold, ladder: Ladder) -> OutOfFold:
    """The trials that a study with this ladder would have left complete."""
    if len(ladder.rungs) == 1:
        return data
    alive, once = [], np.ones((len(data.labels), 1), dtype=np.float32)
    earlier: dict[Rung, list[float]] = {rung: [] for rung in ladder.rungs}
    for trial in range(len(data.trials)):
        for rung in ladder.rungs:
            value = mean_over_folds(data, trial, once, data.rows()[: rung.folds])[0]
            go_on = rung == ladder.rungs[-1] or decide(rung, value, earlier[rung], ladder.reduction).go_on
            earlier[rung].append(value)
            if not go_on:
                break
        else:
            alive.append(trial)
    return OutOfFold(tuple(alive), data.scores[alive], data.labels, data.folds, data.patients)


def selection(name: str, world: World, studies: int, resamples: int, ladder: Ladder = WHOLE) -> None:
    """The naive winner's AUC, BBC-CV's and nested CV's, each beside the true AUC of what it speaks of."""
    random, others = np.random.default_rng(1), np.random.default_rng(5)
    naive, corrected, unbiased = list[float](), list[tuple[float, bool]](), list[tuple[float, bool]]()
    for study in range(studies):
        data, truth = draw(world, random)
        optimism, told = _corrected(complete(data, ladder), truth, resamples, study)
        naive.append(optimism)
        corrected.append(told)
        models = Models(world, data, norm.ppf(truth) * math.sqrt(2), others)
        auc, best = _nested_auc(data, nested(data, models, ladder), truth)
        unbiased.append((auc.value - best, _holds(auc, best)))
    words = f"naive {np.mean(naive):+.4f}   BBC-CV {_words(corrected)}   nested CV {_words(unbiased)}"
    print(f"{name:44} {words}", flush=True)


def correction(name: str, world: World, studies: int, resamples: int, ladder: Ladder = WHOLE) -> None:
    """BBC-CV alone, in other studies than those of `selection` and in more worlds."""
    random = np.random.default_rng(6)
    drawn = (draw(world, random) for _ in range(studies))
    found = [_corrected(complete(data, ladder), truth, resamples, study) for study, (data, truth) in enumerate(drawn)]
    naive, corrected = zip(*found, strict=True)
    print(f"{name:44} naive {np.mean(naive):+.4f}   BBC-CV {_words(list(corrected))} in {studies}", flush=True)


def margins(name: str, trials: World, baselines: World, shared: float, studies: int, resamples: int) -> None:
    """The winner's distance from the best trivial baseline, beside the true one of the two that were chosen.

    `shared`: the correlation of the baselines' scores with the first configuration's, within a class.
    """
    random, plain, found = np.random.default_rng(7), list[float](), list[tuple[float, bool]]()
    names = tuple(map(str, range(baselines.configurations)))
    for study in range(studies):
        data, truth = draw(trials, random)
        gains = baselines.gain + baselines.spread * random.normal(size=baselines.configurations)
        common = data.scores[0] - norm.ppf(truth[0]) * math.sqrt(2) * data.labels
        noise = math.sqrt(shared) * common + math.sqrt(1 - shared) * scores(baselines, data.patients, random)
        every = np.vstack([data.scores, noise + gains[:, None] * data.labels])
        both = OutOfFold(tuple(range(len(every))), every, data.labels, data.folds, data.patients)
        measured = bags(both, resamples, study)
        mine, theirs = (measured.part(part) for part in (slice(len(truth)), slice(len(truth), None)))
        true = truth[mine.whole.argmax()] - norm.cdf(gains / math.sqrt(2))[theirs.whole.argmax()]
        told = margin(mine, theirs, names).difference
        plain.append(mine.whole.max() - theirs.whole.max() - true)
        found.append((told.value - true, _holds(told, true)))
    print(f"{name:44} plain {np.mean(plain):+.4f}   margin {_words(found)} in {studies}", flush=True)


def _corrected(
    left: OutOfFold, truth: NDArray[np.float64], resamples: int, seed: int
) -> tuple[float, tuple[float, bool]]:
    """The winner's AUC less its true one; BBC-CV's less it, and whether the interval holds it."""
    found, best = bbc(left, resamples, seed), truth[left.trials[_winner(left)]]
    return found.winner - best, (found.auc.value - best, _holds(found.auc, best))


def _nested_auc(data: OutOfFold, outers: list[Outer], truth: NDArray[np.float64]) -> tuple[Interval, float]:
    """The estimate, and the mean of the inner winners' true AUC."""
    parts = [(outer, np.flatnonzero(data.folds == outer.fold)) for outer in outers]
    rows = np.concatenate([rows for _, rows in parts])
    table = pd.DataFrame(
        {
            "trial": np.concatenate([np.full(len(rows), outer.trial) for outer, rows in parts]),
            "fold": data.folds[rows],
            "image_id": rows,
            "patient_id": data.patients[rows],
            "label": data.labels[rows],
            "score": np.concatenate([outer.scores for outer, _ in parts]),
        }
    )
    found = nested_estimate(table, 600)
    return found.auc, float(np.mean([truth[trial] for trial in found.winners]))


def _words(found: list[tuple[float, bool]]) -> str:
    errors, held = (np.array(each) for each in zip(*found, strict=True))
    return f"{errors.mean():+.4f} (± {errors.std() / math.sqrt(len(errors)):.4f}), interval holds {held.mean():.1%}"


def _winner(data: OutOfFold) -> int:
    once = np.ones((len(data.labels), 1), dtype=np.float32)
    return int(np.argmax([mean_over_folds(data, trial, once)[0] for trial in range(len(data.trials))]))


def coverage(name: str, world: World, studies: int, resamples: int) -> None:
    """How often the intervals of one configuration hold its true AUC."""
    random = np.random.default_rng(2)
    held: dict[str, list[bool]] = {"by patient, mean over folds": [], "by patient, pooled": [], "DeLong, pooled": []}
    for study in range(studies):
        data, truth = draw(world, random)
        found = (*bootstrap(data, resamples, study), delong(data.labels, data.scores[0]))
        for key, interval in zip(held, found, strict=True):
            held[key].append(_holds(interval, float(truth[0])))
    error = math.sqrt(0.05 * 0.95 / studies)
    print(f"{name:44} " + "   ".join(f"{key} {np.mean(hit):.1%}" for key, hit in held.items()) + f"   (± {error:.1%})")


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def differences(studies: int) -> None:
    """The corrected t test where nothing differs: fold differences as overlapping training parts correlate them."""
    random = np.random.default_rng(3)
    folds = random.normal(size=(studies, FOLDS)) + random.normal(size=(studies, 1)) * math.sqrt(1 / (FOLDS - 1))
    found = {share: np.mean([corrected_t(row, share).p < 0.05 for row in folds]) for share in (0.0, 1 / (FOLDS - 1))}
    plain, corrected = found.values()
    print(
        f"{'no difference between two configurations':44} plain t test {plain:.1%}   corrected {corrected:.1%}   (5 %)"
    )


def definition(cases: int) -> None:
    """DeLong's intervals against covariances of placement values counted pair by pair."""
    random, worst = np.random.default_rng(4), 0.0
    for _ in range(cases):
        labels = np.concatenate([[0, 0, 1, 1], (random.random(100) < 0.4).astype(int)])
        one, other = ((labels + random.normal(size=104)).round(int(random.integers(0, 6))) for _ in range(2))
        single, (paired, _) = delong(labels, one), paired_delong(labels, one, other)
        (p1, n1), (p2, n2) = (_placements(labels, scores) for scores in (one, other))
        matrix = np.cov([p1, p2]) / len(p1) + np.cov([n1, n2]) / len(n1)
        reach = 1.959963984540054 * np.sqrt([matrix[0, 0], matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1]])
        mean = float(np.mean(p1))
        slow = [max(0.0, mean - reach[0]), min(1.0, mean + reach[0])]
        slow += [np.mean(p2) - mean - reach[1], np.mean(p2) - mean + reach[1]]
        fast = [single.low, single.high, paired.low, paired.high]
        worst = max(worst, float(np.abs(np.subtract(slow, fast)).max()))
    print(f"{'DeLong, single and paired':44} largest difference from the definition in {cases} cases: {worst:.1e}")


def _placements(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[list[float], list[float]]:
    positive, negative = scores[labels == 1], scores[labels == 0]
    wins = [[1.0 if x > y else 0.5 if x == y else 0.0 for y in negative] for x in positive]
    return [sum(row) / len(negative) for row in wins], [
        sum(column) / len(positive) for column in zip(*wins, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--part", type=int, help="only this part, from 0: parts may run side by side")
    arguments = parser.parse_args()
    began = time.perf_counter()
    print("AUC less the true AUC of the winner (of nested CV: of the outer folds' winners), mean over the studies, and")
    print("how often 95 % intervals hold the truth; two configurations' scores correlate by 0.85", flush=True)
    for number, part in enumerate(parts(arguments.studies)):
        if arguments.part in (None, number):
            part()
    print(f"{time.perf_counter() - began:.0f} s")


def parts(studies: int) -> list[Callable[[], None]]:
    ladder = Ladder((Rung(1, 9), Rung(FOLDS, 9)), 3)
    of_one = [
        ("noise", World(1)),
        ("signal, AUC 0.76", World(1, gain=1.0)),
        ("signal, AUC 0.92", World(1, gain=2.0)),
        ("signal, images independent, AUC 0.76", World(1, gain=1.0, of_patient=0.0)),
    ]
    of_many = [
        ("noise, 20 configurations, images independent", World(20, 0.85, of_patient=0.0), WHOLE),
        ("noise, 20 configurations", World(20, 0.85), WHOLE),
        ("noise, 200 configurations", World(200, 0.85), WHOLE),
        ("signal, 20 configurations, AUC 0.76 ± 0.02", World(20, 0.85, 1.0, 0.09), WHOLE),
        ("noise, 60 configurations, 1/3 after one fold", World(60, 0.85), ladder),
    ]
    corrections = [
        ("noise, 5 configurations", World(5, 0.85), WHOLE, 1),
        ("noise, 20 configurations", World(20, 0.85), WHOLE, 2),
        ("noise, 200 configurations", World(200, 0.85), WHOLE, 1),
        ("noise, 60 configurations, 1/3 after one fold", World(60, 0.85), ladder, 1),
        ("noise, 20 configurations, 100 images", World(20, 0.85, images=100), WHOLE, 2),
        ("signal, 20 configurations, AUC 0.76 ± 0.02", World(20, 0.85, 1.0, 0.09), WHOLE, 2),
        ("signal, 60 configurations, AUC 0.86 ± 0.03", World(60, 0.85, 1.5, 0.2), WHOLE, 1),
        ("signal, 20 alike by 0.95, AUC 0.92 ± 0.02", World(20, 0.95, 2.0, 0.2), WHOLE, 2),
        ("signal, 20 alike by 0.7, AUC 0.92 ± 0.03", World(20, 0.7, 2.0, 0.3), WHOLE, 2),
        ("the same, 100 images", World(20, 0.7, 2.0, 0.3, images=100), WHOLE, 2),
        ("noise, 20 configurations alike by 0.5", World(20, 0.5), WHOLE, 1),
        ("noise, 20 configurations, nothing alike", World(20), WHOLE, 1),
    ]
    beside = [
        ("winner 0.76 ± 0.02 of 20, baseline noise of 16", World(20, 0.85, 1.0, 0.09), World(16, 0.5), 0.0),
        ("winner 0.76 ± 0.02 of 20, 0.71 ± 0.03 of 16", World(20, 0.85, 1.0, 0.09), World(16, 0.5, 0.8, 0.12), 0.3),
        ("noise of 20, noise of 16", World(20, 0.85), World(16, 0.5), 0.0),
        ("0.92 ± 0.02 of 20, 0.92 ± 0.02 of 16", World(20, 0.85, 2.0, 0.2), World(16, 0.5, 2.0, 0.2), 0.3),
        ("the same, 100 images", World(20, 0.85, 2.0, 0.2, images=100), World(16, 0.5, 2.0, 0.2), 0.3),
    ]
    return [
        *(partial(selection, name, world, studies, 100, rungs) for name, world, rungs in of_many),
        *(partial(coverage, name, world, 2 * studies, 600) for name, world in of_one),
        partial(differences, 4 * studies),
        partial(definition, 50),
        *(partial(correction, name, world, more * studies, 100, rungs) for name, world, rungs, more in corrections),
        *(partial(margins, *each, studies, 100) for each in beside),
    ]


if __name__ == "__main__":
    main()
