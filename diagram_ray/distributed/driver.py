"""A whole study on a cluster: opened, searched, measured once more, closed."""

import logging
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from rich.console import Console

from diagram_ray.distributed.after_search.ended_study import EndedStudy
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.steps import run_steps, tell_price
from diagram_ray.distributed.resources import divide_resources
from diagram_ray.distributed.study_session import StudySession, open_session
from diagram_ray.distributed.supervision import supervised
from diagram_ray.distributed.tune.runner import run_search
from diagram_ray.distributed.work import CrossValidationFactory, Work, cross_validation
from diagram_ray.errors import CheckpointError, StoreError
from diagram_ray.logs import event
from diagram_ray.monitoring.terminal import Progress
from diagram_ray.study.config import seconds
from diagram_ray.study.holdout_files import CONTROLS
from diagram_ray.study.ledger import open_ledger
from diagram_ray.study.study_folder import Plan, make_folder
from diagram_ray.study.summary import outcome
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.runs.inputs import StudyInputs

log = logging.getLogger("diagram_ray")


def run_study(
    plan: Plan, inputs: StudyInputs, console: Console, make: CrossValidationFactory | None = None
) -> dict[str, Any]:
    """Runs or resumes a study on the cluster that is joined; returns what the command prints.

    Raises DiagramError if no trial is complete, UsageError if the folder is taken or another driver is at it.
    """
    share = divide_resources(ray.cluster_resources(), plan.study.parallel, plan.study.scaling)  # type: ignore[no-untyped-call]
    folder = plan.out if plan.resume and plan.out else make_folder(plan.out, plan.study.name)
    study = plan.study.resolved(plan.base.training.epochs, share.trials)
    plan = replace(plan, study=study, base=fit_to_data(plan.base, inputs.data))
    make = make or partial(cross_validation, initial=inputs.initial)
    try:
        with open_ledger(folder.absolute()) as ledger:
            return _run(open_session(plan, folder.absolute(), inputs, share, make, ledger), console)
    except (StoreError, CheckpointError) as error:
        kept = f"what is done is kept, go on with it: tune --resume {folder}"
        raise type(error)(f"{error}; {kept}") from error


def _run(session: StudySession, console: Console) -> dict[str, Any]:
    """Runs the search and the steps after it, and writes the tables."""
    _introduce(session)
    study = _ended(session)
    with supervised(session, console) as (progress, interruption):
        tell_price(study)
        _search(session, progress)
        cluster = Cluster(session.share, interruption.is_asked, progress.tick)
        failed = run_steps(study, cluster, progress.announce)
    for name in ("checkpoints", CONTROLS):
        with suppress(OSError):  # trials that are put aside keep their checkpoints, and controls their models
            (session.folder / name).rmdir()
    session.close(session.state.short or None, failed)
    return outcome(session.folder, session.ledger.trials, session.document)


def _introduce(session: StudySession) -> None:
    """Logs which data and which code this is."""
    about = {
        "fingerprint": session.inputs.data.fingerprint,
        "commit": session.document["versions"].get("commit"),
    }
    name = session.plan.study.name
    log.info("study %s: %s", name, session.origin, extra=event("study", study=name, **about))


def _ended(session: StudySession) -> EndedStudy:
    """The study as it will be when its search has ended: its trials grow until then."""
    plan = session.plan
    return EndedStudy(session.folder, plan.study, plan.base, session.ledger.trials, session.inputs, session.make)


def _search(session: StudySession, progress: Progress) -> None:
    plan, share, state = session.plan, session.share, session.state
    work = Work(plan.study.name, session.folder, plan.base, state.rules.ladder, share.device, session.make)
    limit = seconds(plan.study.time_budget, "time_budget") if plan.study.time_budget else None
    data, splits = session.inputs.data, session.inputs.splits
    run_search(state, work, share, data, splits, progress, session.retries, limit, session.meter)
