"""A small study, trained by hand as the workers train it: one trial after the other, without Ray."""

from pathlib import Path

import torch

from diagram_ray.config import override
from diagram_ray.data.splits import make_splits
from diagram_ray.search.messages import Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.scheduler import StudyState
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place
from diagram_ray.study.config import read_study
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.study_folder import Plan, new_document, write_document
from diagram_ray.study.tables import write_tables
from diagram_ray.study.trial_files import TrialCleanup, TrialFiles
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.cross_validation import CrossValidation
from diagram_ray.training.runs.inputs import SPLITS
from diagram_ray.training.runs.trial import TrialRun
from tests.support.training.tiny_data import tiny_data, write_dataset

STUDY = """
name: small
base: {model.width: 4, model.generator_width: 4, model.latent_size: 8, training.image_batch: 4,
       training.patch_batch: 4, training.epochs: 2}
space: {training.k: {type: int, low: 1, high: 2}, training.augment.rotation: {type: float, low: 0.0, high: 20.0}}
folds: 3
trials: 4
ladder: {rungs: [[3, 1], [3, 2]], reduction: 2}
race: {rule: none}
parallel: {lookback: 1}
"""


def make_study(folder: Path, reduction: int = 2, study: Place | None = None, rungs: str = "[[3, 1], [3, 2]]") -> Place:
    """Four trials on a dataset beside them; with this reduction, some are pruned after their first epoch.

    `study`: where it is, if not in `folder`.
    """
    data, dataset, study = tiny_data(), folder / "dataset", study or folder / "study"
    folder.mkdir(exist_ok=True)
    write_dataset(dataset, data)
    (folder / "asked.yaml").write_text(STUDY)
    asked, base = read_study(folder / "asked.yaml", [f"ladder.reduction={reduction}", f"ladder.rungs={rungs}"])
    base, splits, ladder = fit_to_data(base, data), make_splits(data, 3, 0), asked.make_ladder(2)
    study.mkdir()
    write_document(
        study, new_document(Plan(asked, base, str(dataset), study), {"fingerprint": data.fingerprint}, data.classes)
    )
    write_atomic(study / SPLITS, splits.to_json())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with open_ledger(study) as ledger:
        state = StudyState(Rules(4, 1, 1, ladder), Sampler(asked.space, asked.sampler, 0, 1), ledger)
        keeper = TrialCleanup(study, ledger.trials)
        while not state.finished:
            trial = state.next_start()
            config, files = override(base, trial.params, ""), TrialFiles.of(study, trial.number)
            run = TrialRun(trial.number, config, ladder, files, lambda c: CrossValidation(c, data, splits))
            while (told := run.step()).rung is None or state.measured(trial.number, told.rung, told.measurement):
                pass
            run.close()
            keeper.ended(ledger.trials[trial.number])
        write_tables(study, ledger.trials)
    torch.set_num_threads(threads)
    return study
