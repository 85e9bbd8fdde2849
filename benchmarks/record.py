"""Records a landscape for search_cost.py: what many configurations score, case by case, epoch after epoch.

    python -m benchmarks.record [--configurations 160] [--patients 150] [--work runs/recorded]

A study of made-up mammograms whose ladder has many rungs and prunes nobody. It is kept in --work and gone on
with if it was cut off. The record holds the ranks of the scores within their fold, which is all that an AUC needs.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from diagram_ray.results import Study, TrialState
from diagram_ray.study.ledger import read_ledger
from diagram_ray.study.trial_files import TrialFiles, read_scores

HERE = Path(__file__).parent
FOLDS = 5
EPOCHS = (1, 2, 3, 5, 7, 9, 13, 18, 27)
"""After which all folds are measured. With fewer in all, the scores are still rising when they end."""
STUDY = {
    "name": "recorded",
    "base": {
        "model.generator_width": 4,
        "model.latent_size": 16,
        "training.epochs": EPOCHS[-1],
        "training.image_batch": 32,
        "training.patch_batch": 16,
    },
    "space": {
        "model.gan": {"type": "categorical", "choices": [True, False]},
        "model.width": {"type": "categorical", "choices": [4, 8]},
        "model.dropout": {"type": "float", "low": 0.0, "high": 0.5},
        "training.k": {"type": "int", "low": 1, "high": 4},
        "training.learning_rate.discriminator": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "training.learning_rate.classifier": {"type": "float", "low": 1e-4, "high": 3e-2, "log": True},
        "training.learning_rate.generator": {"type": "float", "low": 1e-4, "high": 3e-3, "log": True},
        "training.augment.rotation": {"type": "float", "low": 0.0, "high": 45.0},
        "training.weight_decay": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
        "training.schedule": {"type": "categorical", "choices": ["constant", "cosine"]},
    },
    "folds": FOLDS,
    "sampler": {"name": "random"},
    "ladder": {"rungs": [[FOLDS, epoch] for epoch in EPOCHS], "reduction": 1_000_000},
    "race": {"rule": "none"},
    "control": {"shuffles": 0},
}


def run(work: Path, configurations: int, patients: int) -> Path:
    """Makes the data set and the study, or goes on with it; returns its folder."""
    data, study, asked = work / "data", work / "study", work / "study.yaml"
    work.mkdir(parents=True, exist_ok=True)
    module = [sys.executable, "-m"]
    if not (data / "dataset.json").is_file():
        size = ["--patients", str(patients), "--image-size", "64x48"]
        subprocess.run([*module, "diagram_ray.prepare", "phantom", *size, "--out", str(data)], check=True)
    asked.write_text(yaml.safe_dump(STUDY | {"trials": configurations}))
    start = ["--resume", str(study)] if study.exists() else [str(asked), "--out", str(study)]
    options = ["--data", str(data), "--trials", str(configurations)]
    subprocess.run([*module, "diagram_ray.tune", *start, *options], check=True)
    return study


def compact(study: Path, out: Path) -> None:
    """Writes the complete trials' ranks, and what is needed to know whose they are."""
    trials = [trial for trial in read_ledger(study).values() if trial.state is TrialState.COMPLETE]
    cases = pq.read_table(TrialFiles.of(study, trials[0].number).predictions).to_pandas()
    folds = cases["fold"].to_numpy()
    ranks = np.zeros((len(trials), len(EPOCHS), len(cases)), dtype=np.uint16)
    for row, trial in enumerate(trials):
        for rung in range(len(EPOCHS)):
            scores = read_scores(TrialFiles.of(study, trial.number).scores(rung))
            for fold in range(FOLDS):
                ranks[row, rung, folds == fold] = np.unique(scores[folds == fold], return_inverse=True)[1]
    patients = np.unique(cases["patient_id"], return_inverse=True)[1]
    out.parent.mkdir(exist_ok=True)
    np.savez_compressed(
        out,
        ranks=ranks.astype(np.uint8) if ranks.max() < 256 else ranks,
        epochs=np.array(EPOCHS, dtype=np.uint16),
        folds=folds.astype(np.uint8),
        labels=cases["label"].to_numpy().astype(np.uint8),
        patients=patients.astype(np.uint16),
        params=np.array([json.dumps(trial.params) for trial in trials]),
        reached=np.array([[measured.auc_mean for measured in trial.measurements] for trial in trials]),
    )
    best = Study.load(study).best
    print(f"{out}: {len(trials)} configurations, best AUC {best['auc_mean']:.4f}, {out.stat().st_size / 2**20:.1f} MiB")


def main() -> None:
    """Runs all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configurations", type=int, default=160)
    parser.add_argument("--patients", type=int, default=150)
    parser.add_argument("--work", type=Path, default=Path("runs/recorded"))
    parser.add_argument("--out", type=Path, default=HERE / "recorded" / "phantom.npz")
    asked = parser.parse_args()
    compact(run(asked.work.absolute(), asked.configurations, asked.patients), asked.out)


if __name__ == "__main__":
    main()
