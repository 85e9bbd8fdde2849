"""How long the doctor takes with a long study: `python -m benchmarks.doctor [--trials 1000 10000]`, minutes.

The studies are made up, files and all: their ladder's decisions are those of the search, so the doctor finds nothing.
"""

import argparse
import dataclasses
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from diagram_ray.doctor.study_checks import examine
from diagram_ray.evaluation.metrics import auc
from diagram_ray.results import Measurement, Trial, TrialState, best_of
from diagram_ray.search.messages import Memory, Rules
from diagram_ray.search.scheduler import StudyState
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.study.config import build_study
from diagram_ray.study.ledger import BEGINNING, FILE, read_ledger
from diagram_ray.study.study_folder import Plan, new_document, write_document
from diagram_ray.study.tables import write_tables
from diagram_ray.study.trial_files import TrialFiles, write_scores

FOLDS, IMAGES = 2, 20
"""IMAGES of each fold."""
LABELS = np.tile([0, 1], IMAGES // 2)
STUDY = {
    "name": "long",
    "base": {"training.epochs": 3},
    "space": {"training.weight_decay": {"type": "float", "low": 0.0, "high": 0.1}},
    "folds": FOLDS,
    "ladder": {"rungs": [[1, 1], [FOLDS, 1], [FOLDS, 3]], "reduction": 3},
    "race": {"rule": "none"},
    "parallel": {"trials": 4, "lookback": 8},
}


class Drawn:
    """Proposes anything."""

    def ask(self, number: int, trials: Any) -> dict[str, Any]:
        return {"training.weight_decay": random.Random(number).uniform(0.0, 0.1)}


def scores_at(number: int, epochs: int, fold: int) -> np.ndarray:
    return np.random.default_rng([number, epochs, fold]).normal(size=IMAGES) + LABELS


def measured(number: int, folds: int, epochs: int) -> Measurement:
    values = tuple(auc(LABELS, scores_at(number, epochs, fold)) for fold in range(folds))
    return Measurement(folds, epochs, values, values, 0.0)


def make(folder: Path, count: int) -> None:
    """A study of `count` trials that have ended."""
    study, base = build_study(STUDY | {"trials": count}, "made up")
    ladder, journal = study.make_ladder(base.training.epochs), Memory()
    state = StudyState(Rules(count, 1, 8, ladder), Drawn(), journal)
    while (trial := state.next_start()) is not None:
        for rung, point in enumerate(ladder.rungs):
            if not state.measured(trial.number, rung, measured(trial.number, point.folds, point.epochs)):
                break
    write_document(folder, new_document(Plan(study, base, "nowhere", folder), {"fingerprint": "x"}, ("a", "b")))
    events: list[dict[str, Any]] = [BEGINNING]
    for number, trial in journal.trials.items():
        events += [{"event": "asked", "trial": number, "params": trial.params, "time": 0.0}]
        for rung, each in enumerate(trial.measurements):
            told = {"measurement": dataclasses.asdict(each), "why": "", "time": 0.0}
            events.append({"event": "measured", "trial": number, "rung": rung, **told})
        events.append({"event": "ended", "trial": number, "state": trial.state, "reason": "", "time": 0.0})
        write_files(TrialFiles.of(folder, number), trial)
    (folder / FILE).write_text("".join(json.dumps(event) + "\n" for event in events))
    best = best_of(journal.trials)
    assert best is not None
    models = folder / "trials" / f"{best.number:04d}" / "models"
    models.mkdir()
    (models / "config.yaml").write_text("{}")
    write_tables(folder, journal.trials)


def write_files(files: TrialFiles, trial: Trial) -> None:
    """What a worker leaves."""
    files.trial.mkdir(parents=True)
    rows = {(fold, each.epochs): each.fold_auc[fold] for each in trial.measurements for fold in range(each.folds)}
    columns = {"fold": [fold for fold, _ in rows], "epoch": [epoch for _, epoch in rows], "auc": [*rows.values()]}
    write_table(files.curves, pa.table(columns))
    for rung, each in enumerate(trial.measurements):
        parts = [scores_at(trial.number, each.epochs, fold) for fold in range(each.folds)]
        write_scores(files.scores(rung), np.concatenate(parts))
    if trial.state is TrialState.COMPLETE:
        ids = [f"{fold}-{image}" for fold in range(FOLDS) for image in range(IMAGES)]
        columns = {
            "fold": np.repeat(np.arange(FOLDS), IMAGES), "image_id": ids, "patient_id": ids,
            "label": np.tile(LABELS, FOLDS), "score": np.concatenate(parts),
        }  # fmt: skip
        write_table(files.predictions, pa.table(columns))
        files.measurement.write_text("{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 10_000])
    for count in parser.parse_args().trials:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "study"
            made.mkdir()
            make(made, count)
            study, base = build_study(STUDY | {"trials": count}, "made up")
            trials, ladder = read_ledger(made), study.make_ladder(base.training.epochs)
            wall, processor = time.perf_counter(), time.process_time()
            found = examine(made, trials, study, ladder)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
        print(f"{count} trials: {len(found)} findings, {wall:.1f} s, {processor:.1f} s of processor time")


if __name__ == "__main__":
    main()
