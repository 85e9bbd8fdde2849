"""A whole study on a cluster: folder, search, tables, control. What `tune` does once its arguments are checked."""

import json
import logging
import os
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from rich.console import Console

from diagram_ray.config import override
from diagram_ray.distributed.after_search.ended_study import Searched
from diagram_ray.distributed.after_search.fold_tasks import Cluster
from diagram_ray.distributed.after_search.negative_controls import Winner, run_control, run_leaky
from diagram_ray.distributed.after_search.steps import run_further, tell_price
from diagram_ray.distributed.metrics import telemetry
from diagram_ray.distributed.nodes import gone
from diagram_ray.distributed.resources import Share, share_of
from diagram_ray.distributed.retries import Losses
from diagram_ray.distributed.session import own_ray_ended
from diagram_ray.distributed.tune.runner import run_search
from diagram_ray.distributed.work import MakeValidation, Work, cross_validation
from diagram_ray.errors import CheckpointError, DiagramError, StoreError, UsageError
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.logs import EVENT, event
from diagram_ray.monitoring.live_server import FILE as PAGE
from diagram_ray.monitoring.live_server import study_page
from diagram_ray.monitoring.optuna_journal import write_optuna_file
from diagram_ray.monitoring.snapshot import Sight, sight_of
from diagram_ray.monitoring.terminal import Lines, Progress, Screen
from diagram_ray.results import Trial, best_of
from diagram_ray.search.budget import Meter
from diagram_ray.search.constraints import Gauge
from diagram_ray.search.messages import Rules
from diagram_ray.search.optuna_sampler import Sampler
from diagram_ray.search.racing import Cases, interval, make_race
from diagram_ray.search.scheduler import StudyState
from diagram_ray.signals import cooperative_stop
from diagram_ray.storage.atomic import write_atomic
from diagram_ray.storage.paths import Place
from diagram_ray.storage.tables import write_table
from diagram_ray.study.case_scores import FiledStandings
from diagram_ray.study.config import seconds
from diagram_ray.study.folder import DOCUMENT, Plan, clear, make_folder, new_document, write_document
from diagram_ray.study.ledger import Ledger, open_ledger
from diagram_ray.study.provenance import commit
from diagram_ray.study.summary import CONTROL, LEAKAGE, outcome
from diagram_ray.study.tables import write_tables
from diagram_ray.study.warm_start import Mapper, Source, gather, read_warm_start, write_warm_start
from diagram_ray.training.checkpoints.run_identity import fit_to_data
from diagram_ray.training.runs.inputs import SPLITS, Materials
from diagram_ray.yaml_text import read_yaml

log = logging.getLogger("diagram_ray")

INTERRUPTED = "interrupted"
INTERRUPTED_EXIT = 130
GRACE = 25.0
"""Seconds that Ray is given to stop. It takes up to 15 where a worker is in the middle of a long round."""
TICK = 0.02
IMAGES = "images.parquet"


def run_study(plan: Plan, materials: Materials, console: Console, make: MakeValidation | None = None) -> dict[str, Any]:
    """Runs or resumes a study on the cluster that is joined; returns what the command prints.

    Raises DiagramError if no trial is complete, UsageError if the folder is taken or another driver is at it.
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    share = share_of(resources, plan.study.parallel, plan.study.scaling)
    folder = plan.out if plan.resume and plan.out else make_folder(plan.out, plan.study.name)
    study = plan.study.resolved(plan.base.training.epochs, share.trials)
    base = fit_to_data(plan.base, materials.data)
    real = partial(cross_validation, initial=materials.initial)
    run = _Run(replace(plan, study=study, base=base), folder.absolute(), materials, share, make or real)
    try:
        return run.go(console)
    except (StoreError, CheckpointError) as error:
        kept = f"what is done is kept, go on with it: tune --resume {folder}"
        raise type(error)(f"{error}; {kept}") from error


class _Run:
    """A study under way."""

    def __init__(self, plan: Plan, folder: Place, materials: Materials, share: Share, make: MakeValidation) -> None:
        self.plan, self.folder, self.materials, self.share, self.make = plan, folder, materials, share, make
        self.interrupted = threading.Event()
        self.ended = threading.Event()
        self.began = time.monotonic()
        self.document: dict[str, Any] = {}
        self.sources: list[Source] = []
        self.losses = Losses(gone)
        self.origin = ""
        self.meter = Meter(plan.study.budget, share.workers)

    def go(self, console: Console) -> dict[str, Any]:
        """Search, tables, control."""
        with open_ledger(self.folder) as ledger:
            clear(self.folder)  # nobody else works on it now
            state = self._state(ledger)
            self.document = self._document()
            self.meter.worker_seconds = self.document.get("worker_seconds") or 0.0
            if self.materials.sides is not None:
                write_table(self.folder / IMAGES, self.materials.sides)
            write_document(self.folder, self.document)
            self._introduce()
            alarm = threading.Thread(target=self._abandon, args=[ledger], daemon=True)
            with ExitStack() as stack:
                stack.enter_context(cooperative_stop(lambda: self._interrupt(state, alarm)))
                progress = self._progress(state, console)
                self._show(stack, progress)
                if isinstance(progress, Screen):
                    stack.enter_context(progress)
                searched = Searched(
                    self.folder, self.plan.study, self.plan.base, ledger.trials, self.materials, self.make
                )
                tell_price(searched)
                self._search(state, progress)
                self._controls(best_of(ledger.trials), progress)
                run_further(searched, Cluster(self.share, self.interrupted.is_set, progress.tick), progress.announce)
            self.ended.set()
            with suppress(OSError):  # trials that are put aside keep their checkpoints
                (self.folder / "checkpoints").rmdir()
            self._close(ledger, state.short or None)
            return outcome(self.folder, ledger.trials, self.document)

    def _introduce(self) -> None:
        """Says which data and which code this is, for the log and the page."""
        found = {"fingerprint": self.materials.data.fingerprint, "commit": self.document["versions"].get("commit")}
        self.origin = f"dataset {found['fingerprint'][:12]}, commit {found['commit'] or 'unknown'}"
        name = self.plan.study.name
        log.info("study %s: %s", name, self.origin, extra=event("study", study=name, **found))

    def _interrupt(self, state: StudyState, alarm: threading.Thread) -> None:
        self.interrupted.set()
        state.stop(INTERRUPTED)
        alarm.start()

    def _close(self, ledger: Ledger, interrupted: str | None) -> None:
        ledger.check()
        write_tables(self.folder, ledger.trials)
        study = self.plan.study
        write_optuna_file(self.folder, study.name, study.space, ledger.trials, study.aims)
        spent = self.document["seconds"] + time.monotonic() - self.began
        before = self.document.get("lost") or {"workers": 0, "fold_epochs": 0}  # of runs before this one
        lost = {name: count + getattr(self.losses, name) for name, count in before.items()}
        self.document |= {"seconds": spent, "worker_seconds": self.meter.worker_seconds, "cost": self.meter.cost}
        self.document |= {"interrupted": interrupted, "lost": lost}
        write_document(self.folder, self.document)

    def _abandon(self, ledger: Ledger) -> None:
        """Ends the process when Ray does not let go of it, or is gone.

        A SIGTERM to the whole process group (timeout, SLURM, Kubernetes) ends a local Ray before this process, which
        would wait a minute for it or be ended by it. All work is in the ledger by now: nothing is lost by leaving.
        """
        latest = time.monotonic() + GRACE
        while time.monotonic() < latest and not own_ray_ended():
            if self.ended.wait(TICK):
                return
        try:
            self._close(ledger, INTERRUPTED)
        except (DiagramError, OSError) as error:  # --resume makes the tables from the ledger
            log.warning("the tables could not be written: %s", error)
        log.warning("Ray did not stop by itself; left it. Go on: tune --resume %s", self.folder)
        os._exit(INTERRUPTED_EXIT)

    def _document(self) -> dict[str, Any]:
        """study.yaml; of a resumed study the old one, with the new budget."""
        if not self.plan.resume:
            write_atomic(self.folder / SPLITS, self.materials.splits.to_json())
            initial = self.materials.initial
            started = initial.describe() if initial is not None else None
            document = new_document(self.plan, self.materials.info, self.materials.data.classes, started)
            versions = {**document["versions"], "commit": commit() or "unknown"}
            return document | {"versions": versions, "warm_start": [asdict(source) for source in self.sources]}
        document = read_yaml(self.folder / DOCUMENT)
        dataset = {**document["dataset"], "uri": self.plan.data}
        return document | {"study": self.plan.study.model_dump(mode="json"), "dataset": dataset}

    def _state(self, ledger: Ledger) -> StudyState:
        study = self.plan.study
        if ledger.trials and not self.plan.resume:  # begun by another driver since --out was looked at
            raise UsageError(f"{self.folder}: holds a study already; go on with it by --resume {self.folder}")
        if study.trials < len(ledger.trials):
            raise UsageError(f"{self.folder}: trials {study.trials}: the study has {len(ledger.trials)} trials already")
        lookback = study.lookback(self.share.trials)
        ladder = study.make_ladder(self.plan.base.training.epochs)
        measure = self._gauge()
        earlier = self._earlier(Mapper(study.space, ladder, study.aims, measure))
        sampler = Sampler(study.space, study.sampler, study.seed, lookback, study.first, study.aims, earlier)
        race = make_race(study.race)
        rules = Rules(study.trials, self.share.trials, lookback, ladder, race, study.aims, study.budget.fold_epochs)
        cases = Cases.of(self.materials.data, self.materials.splits, study.race.resamples, study.seed)
        self.standings = FiledStandings(self.folder, ladder, cases)
        return StudyState(rules, sampler, ledger, self.standings, measure)

    def _gauge(self) -> Gauge | None:
        """What tells the sizes of a trial's networks, where the study asks for them."""
        if not self.plan.study.aims.need_sizes:
            return None
        from diagram_ray.training.model_size import gauge  # PyTorch, which most drivers need not load

        height, width = self.materials.data.images.shape[-2:]
        return gauge(self.plan.base, (height, width), self.plan.study.folds)

    def _earlier(self, mapper: Mapper) -> list[Trial]:
        """Trials of other studies that the sampler learns from: those that it had learnt from if this is resumed."""
        names = self.plan.study.warm_start
        if not names:
            return []
        if self.plan.resume:
            return read_warm_start(self.folder)
        trials, self.sources = gather(names, mapper)
        write_warm_start(self.folder, trials, self.sources)
        for source in self.sources:
            log.info("warm start: %s", source)
            if source.dataset != self.materials.info.get("fingerprint"):
                log.warning("warm start: %s was measured on other data; its AUC may mislead the sampler", source.study)
        return trials

    def _progress(self, state: StudyState, console: Console) -> Progress:
        where = f"{self.folder}: up to {self.share.trials} trials at once, each on {self.share}"
        if console.is_terminal and log.getEffectiveLevel() > EVENT:
            return Screen(state, where, console)
        return Lines(state, where, self.plan.study.name)

    def _show(self, stack: ExitStack, progress: Progress) -> None:
        """Metrics, and the study's page, for as long as `stack` is open."""
        study, data, top = self.plan.study, self.materials.data, progress.state.rules.ladder.top
        dataset = f"{self.materials.info.get('name', '')}, {len(data.labels)} images"

        def look() -> Sight:
            price = study.budget.cost_per_worker_hour
            return sight_of(progress, study.name, dataset, partial(self._span, top), self.origin, price)

        stack.enter_context(telemetry(study.name, len(data.labels) * (1 - 1 / study.folds), look))
        if study.page.on:
            folder = self.folder
            if not isinstance(folder, Path):  # the page's token is for this machine's user alone
                folder = Path(stack.enter_context(TemporaryDirectory(prefix="diagram-ray-")))
            address = stack.enter_context(study_page(folder, study.page.host, study.page.port, look))
            log.info("watch it at %s with the token in %s", address, folder / PAGE)

    def _span(self, top: int, trial: Trial) -> Interval:
        return interval(self.standings.standing(trial.number, top))

    def _search(self, state: StudyState, progress: Progress) -> None:
        work = Work(self.plan.study.name, self.folder, self.plan.base, state.rules.ladder, self.share.device, self.make)
        budget = self.plan.study.time_budget
        limit = seconds(budget, "time_budget") if budget else None
        run_search(
            state,
            work,
            self.share,
            self.materials.data,
            self.materials.splits,
            progress,
            self.losses,
            limit,
            self.meter,
        )

    def _controls(self, best: Trial | None, progress: Progress) -> None:
        """Writes control.json and leakage.json, unless they are there already for this winner."""
        study, data = self.plan.study, self.materials.data
        if best is None:
            return
        config = override(self.plan.base, best.params, f"trial {best.number}")
        winner = Winner(best.number, config, study.folds, study.seed, self.make)
        cluster = Cluster(self.share, self.interrupted.is_set, progress.tick)
        name = f"trial {best.number}"
        if study.control.shuffles and self._wanted(CONTROL, best):
            progress.announce(f"control: {name} on labels shuffled by patient")
            self._keep(CONTROL, run_control(winner, study.control.shuffles, data, cluster))
        if study.control.leakage and self._wanted(LEAKAGE, best):
            progress.announce(f"price of leakage: {name} with folds dealt by image")
            self._keep(LEAKAGE, run_leaky(winner, data, cluster))

    def _wanted(self, name: str, best: Trial) -> bool:
        path = self.folder / name
        there = path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("trial") == best.number
        return not there and not self.interrupted.is_set()

    def _keep(self, name: str, result: dict[str, Any] | None) -> None:
        if result is not None:
            write_atomic(self.folder / name, json.dumps(result, indent=1))
