"""A study that this process drives: its folder, ledger, scheduler and document, from opening to closing."""

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from diagram_ray.distributed.nodes import gone
from diagram_ray.distributed.resources import TrialResources
from diagram_ray.distributed.retries import RetryPolicy
from diagram_ray.distributed.work import CrossValidationFactory
from diagram_ray.errors import UsageError
from diagram_ray.monitoring.optuna_journal import write_optuna_file
from diagram_ray.results import Trial
from diagram_ray.search.budget import Meter
from diagram_ray.search.constraints import SizeEstimator
from diagram_ray.search.messages import Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.racing import Cases, make_race
from diagram_ray.search.scheduler import StudyState
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.parquet_files import write_table
from diagram_ray.storage.paths import Place
from diagram_ray.study.case_scores import CaseScoreReader
from diagram_ray.study.ledger import Ledger
from diagram_ray.study.provenance import commit
from diagram_ray.study.study_folder import DOCUMENT, Plan, clear, new_document, write_document
from diagram_ray.study.tables import write_tables
from diagram_ray.study.warm_start import Mapper, Source, gather, read_warm_start, write_warm_start
from diagram_ray.training.runs.inputs import SPLITS, StudyInputs
from diagram_ray.yaml_text import read_yaml

log = logging.getLogger("diagram_ray")

IMAGES = "images.parquet"


@dataclass
class StudySession:
    """A study under way. Nobody else works on its folder while the ledger is open."""

    plan: Plan
    """The plan of the study, with all that was left open filled in: trials at once, lookback, classes."""
    folder: Place
    inputs: StudyInputs
    share: TrialResources
    make: CrossValidationFactory
    ledger: Ledger
    state: StudyState
    score_source: CaseScoreReader
    document: dict[str, Any]
    """The content of study.yaml."""
    meter: Meter
    retries: RetryPolicy
    began: float
    """Time on the monotonic clock when the study was opened."""

    @property
    def origin(self) -> str:
        """The fingerprint of the data and the commit of the code, in one line."""
        commit_ = self.document["versions"].get("commit") or "unknown"
        return f"dataset {self.inputs.data.fingerprint[:12]}, commit {commit_}"

    def close(self, interrupted: str | None, failed_steps: dict[str, str] | None = None) -> None:
        """Writes the tables and the document. Raises OSError or DiagramError if that cannot be."""
        self.ledger.check()
        write_tables(self.folder, self.ledger.trials)
        study = self.plan.study
        write_optuna_file(self.folder, study.name, study.space, self.ledger.trials, study.goals)
        spent = self.document["seconds"] + time.monotonic() - self.began
        before = self.document.get("lost") or {"workers": 0, "fold_epochs": 0}  # of runs before this one
        lost = {name: count + getattr(self.retries, name) for name, count in before.items()}
        self.document |= {"seconds": spent, "worker_seconds": self.meter.worker_seconds, "cost": self.meter.cost}
        self.document |= {"interrupted": interrupted, "lost": lost, "failed_steps": failed_steps or {}}
        write_document(self.folder, self.document)


def open_session(
    plan: Plan, folder: Place, inputs: StudyInputs, share: TrialResources, make: CrossValidationFactory, ledger: Ledger
) -> StudySession:
    """Opens a new or a resumed study in `folder`, whose ledger is locked, and writes its document.

    Raises UsageError if the folder has a study that is not to be resumed, or one with more trials than are asked for.
    """
    began = time.monotonic()
    clear(folder)  # nobody else works on it now
    _check_trials(plan, folder, ledger)
    study, data = plan.study, inputs.data
    ladder = study.make_ladder(plan.base.training.epochs)
    measure = _size_estimator(plan, inputs)
    earlier, sources = _earlier(plan, folder, inputs, Mapper(study.space, ladder, study.goals, measure))
    lookback = study.lookback(share.trials)
    sampler = Sampler(study.space, study.sampler, study.seed, lookback, study.first, study.goals, earlier)
    race = make_race(study.race)
    rules = Rules(study.trials, share.trials, lookback, ladder, race, study.goals, study.budget.fold_epochs)
    score_source = CaseScoreReader(folder, ladder, Cases.of(data, inputs.splits, study.race.resamples, study.seed))
    state = StudyState(rules, sampler, ledger, score_source, measure)
    document = _document(plan, folder, inputs, sources)
    meter = Meter(study.budget, share.workers)
    meter.worker_seconds = document.get("worker_seconds") or 0.0
    if inputs.sides is not None:
        write_table(folder / IMAGES, inputs.sides)
    write_document(folder, document)
    return StudySession(
        plan, folder, inputs, share, make, ledger, state, score_source, document, meter, RetryPolicy(gone), began
    )


def _check_trials(plan: Plan, folder: Place, ledger: Ledger) -> None:
    if ledger.trials and not plan.resume:  # begun by another driver since --out was looked at
        raise UsageError(f"{folder}: holds a study already; go on with it by --resume {folder}")
    if plan.study.trials < len(ledger.trials):
        raise UsageError(f"{folder}: trials {plan.study.trials}: the study has {len(ledger.trials)} trials already")


def _size_estimator(plan: Plan, inputs: StudyInputs) -> SizeEstimator | None:
    """The function that estimates the sizes of a trial's networks, where the study needs them."""
    if not plan.study.goals.need_sizes:
        return None
    from diagram_ray.training.model_size import size_estimator  # PyTorch, which most drivers need not load

    height, width = inputs.data.images.shape[-2:]
    return size_estimator(plan.base, (height, width), plan.study.folds)


def _earlier(plan: Plan, folder: Place, inputs: StudyInputs, mapper: Mapper) -> tuple[list[Trial], list[Source]]:
    """Trials of other studies that the sampler learns from: those that it had learnt from if this is resumed."""
    if not plan.study.warm_start:
        return [], []
    if plan.resume:
        return read_warm_start(folder), []
    trials, sources = gather(plan.study.warm_start, mapper)
    write_warm_start(folder, trials, sources)
    for source in sources:
        log.info("warm start: %s", source)
        if source.dataset != inputs.info.get("fingerprint"):
            log.warning("warm start: %s was measured on other data; its AUC may mislead the sampler", source.study)
    return trials, sources


def _document(plan: Plan, folder: Place, inputs: StudyInputs, sources: list[Source]) -> dict[str, Any]:
    """The content of study.yaml; of a resumed study the old one, with the new budget."""
    if not plan.resume:
        write_atomic(folder / SPLITS, inputs.splits.to_json())
        started = inputs.initial.describe() if inputs.initial is not None else None
        document = new_document(plan, inputs.info, inputs.data.classes, started)
        versions = {**document["versions"], "commit": commit() or "unknown"}
        return document | {"versions": versions, "warm_start": [asdict(source) for source in sources]}
    document = read_yaml(folder / DOCUMENT)
    dataset = {**document["dataset"], "uri": plan.data}
    return document | {"study": plan.study.model_dump(mode="json"), "dataset": dataset}
