"""Do the intervals of `evaluate` hold the truth? `python -m benchmarks.hospitals`, some minutes on one core.

Simulates hospitals of 80 patients with two breasts and two views each, whose scores agree within a patient and within a
breast, and a model whose true figures are known from a hospital of 40,000 patients. Prints how often the 95 % intervals
of 500 hospitals hold them. Calibration is planted: the scores are too extreme by a known slope.
"""

import argparse

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from diagram_ray.evaluation.held_out import ModelEvaluation, TrainingSide, evaluate_scores

PATIENTS, LARGE = 80, 40_000
SHOWN = ("auc", "average_precision", "sensitivity", "specificity", "sensitivity_at_80%", "brier", "calibration_slope")
Random = np.random.Generator


def draw(patients: int, prevalence: float, random: Random) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of a hospital's images, and its manifest. A patient has at most one affected breast."""
    affected = random.random(patients) < prevalence
    side = random.integers(0, 2, patients)
    rows = np.arange(4 * patients)
    owner, breast = rows // 4, rows // 2 % 2
    label = (affected[owner] & (side[owner] == breast)).astype(np.int64)
    values = (
        label * 1.2 - 1.5 + shared(owner, 0.5, random) + shared(rows // 2, 0.4, random) + shared(rows, 0.77, random)
    )
    table = pd.DataFrame(
        {"image_id": rows.astype(str), "patient_id": owner.astype(str), "label": label, "score": expit(values)}
    )
    return table, pd.DataFrame({"image_id": table["image_id"], "laterality": np.array(["L", "R"])[breast]})


def shared(group: NDArray[np.int64], sd: float, random: Random) -> NDArray[np.float64]:
    """A normal value of each group, for every image in it."""
    return sd * random.normal(size=int(group.max()) + 1)[group]


def figures(patients: int, prevalence: float, seed: int, resamples: int) -> ModelEvaluation:
    """The evaluation of one hospital."""
    table, manifest = draw(patients, prevalence, np.random.default_rng(seed))
    return evaluate_scores("model", table, TrainingSide(), manifest, resamples=resamples)


def coverage(prevalence: float, hospitals: int, resamples: int) -> None:
    """Prints, for each figure, the truth, the mean estimate and the part of the intervals that hold the truth."""
    truth = figures(LARGE, prevalence, 0, 2)
    seen = [figures(PATIENTS, prevalence, 1 + number, resamples) for number in range(hospitals)]
    print(f"{PATIENTS} patients, {prevalence:.0%} of them positive, {hospitals} hospitals")
    for place, unit in enumerate(truth.units):
        for name in (name for name in SHOWN if name in unit.figures):
            true = unit.figures[name].value
            found = [evaluation.units[place].figures[name] for evaluation in seen]
            held = np.mean([figure.low <= true <= figure.high for figure in found])
            mean = np.nanmean([figure.value for figure in found])
            print(f"  {unit.unit:8} {name:20} true {true:.3f}, mean {mean:.3f}, held in {held:.1%}", flush=True)


def main() -> None:
    """Prints the coverage for two prevalences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hospitals", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    for prevalence in (0.4, 0.15):
        coverage(prevalence, asked.hospitals, asked.resamples)


if __name__ == "__main__":
    main()
