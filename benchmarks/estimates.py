"""Do the estimates keep their promises? `nice -n 10 python benchmarks/estimates.py`, about three minutes on one core.

Simulates studies of 410 images of patients with 1 to 4 images each, whose scores agree within a patient: what the
winner of a search over pure noise looks like and what BBC-CV makes of it, how often 95 % intervals hold the truth, and
how far DeLong's figures are from their definition counted pair by pair.
"""

import argparse
import math
import os
import time
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from diagram_ray.evaluation.bbc import bbc
from diagram_ray.evaluation.comparison import corrected_t
from diagram_ray.evaluation.delong import delong, paired_delong
from diagram_ray.evaluation.out_of_fold import OutOfFold
from diagram_ray.evaluation.resampling import Interval, bootstrap, mean_over_folds

IMAGES, FOLDS = 410, 5
OF_PATIENT = 0.5
"""Correlation of the scores of two images of a patient."""
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


def draw(world: World, random: Random) -> tuple[OutOfFold, NDArray[np.float64]]:
    """A study, and the true AUC of each configuration. All images of a patient are of one class."""
    sizes = random.integers(1, 5, IMAGES)
    owner = np.repeat(np.arange(IMAGES), sizes)[:IMAGES]
    patients = int(owner[-1]) + 1
    fold = random.permutation(np.arange(patients) % FOLDS)[owner]
    labels = random.permutation(np.arange(patients) % 5 < 2).astype(np.int64)[owner]

    def noise(count: int) -> NDArray[np.float64]:
        mine, theirs = random.normal(size=(count, IMAGES)), random.normal(size=(count, patients))
        return math.sqrt(1 - world.of_patient) * mine + math.sqrt(world.of_patient) * theirs[:, owner]

    gains = world.gain + world.spread * random.normal(size=world.configurations)
    scores = math.sqrt(world.alike) * noise(1) + math.sqrt(1 - world.alike) * noise(world.configurations)
    data = OutOfFold(tuple(range(world.configurations)), scores + gains[:, None] * labels, labels, fold, owner)
    return data, norm.cdf(gains / math.sqrt(2))


def selection(name: str, world: World, studies: int, resamples: int) -> None:
    """The naive winner's AUC and BBC-CV's, beside the winner's true one."""
    random = np.random.default_rng(1)
    naive, corrected, held = [], [], []
    for study in range(studies):
        data, truth = draw(world, random)
        found = bbc(data, resamples, study)
        best = truth[_winner(data)] if world.spread else truth[0]
        naive.append(found.winner - best)
        corrected.append(found.auc.value - best)
        held.append(found.auc.low <= best <= found.auc.high)
    error = np.std(corrected) / math.sqrt(studies)
    print(
        f"{name:44} naive {np.mean(naive):+.4f}   BBC-CV {np.mean(corrected):+.4f} (± {error:.4f})   "
        f"its interval holds the truth in {np.mean(held):.1%}"
    )


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
    studies = parser.parse_args().studies
    began = time.perf_counter()
    print(f"AUC less the winner's true AUC, mean of {studies} studies; two configurations' scores correlate by 0.85")
    selection("noise, 20 configurations, images independent", World(20, 0.85, of_patient=0.0), studies, 100)
    selection("noise, 20 configurations", World(20, 0.85), studies, 100)
    selection("noise, 200 configurations", World(200, 0.85), studies, 100)
    selection("signal, 20 configurations, AUC 0.76 ± 0.02", World(20, 0.85, 1.0, 0.09), studies, 100)
    print(f"How often 95 % intervals hold the truth, {2 * studies} studies")
    coverage("noise", World(1), 2 * studies, 600)
    coverage("signal, AUC 0.76", World(1, gain=1.0), 2 * studies, 600)
    coverage("signal, AUC 0.92", World(1, gain=2.0), 2 * studies, 600)
    coverage("signal, images independent, AUC 0.76", World(1, gain=1.0, of_patient=0.0), 2 * studies, 600)
    differences(4 * studies)
    definition(50)
    print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
