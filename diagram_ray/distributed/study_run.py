"""A whole study on a cluster: folder, search, tables, control. What `tune` does once its arguments are checked."""

import json
import logging
import os
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from rich.console import Console

from diagram_ray.config import override, read_yaml
from diagram_ray.data.dataset import TrainingData
from diagram_ray.data.mapping import open_training_data
from diagram_ray.data.shards import read_info, read_sides
from diagram_ray.data.splits import Splits, make_splits
from diagram_ray.distributed.control import Control, run_control
from diagram_ray.distributed.interrupt import cooperative_stop
from diagram_ray.distributed.session import own_ray_ended
from diagram_ray.distributed.share import Share, share_of
from diagram_ray.distributed.tuner import run_search
from diagram_ray.distributed.worker import MakeValidation, Work, cross_validation
from diagram_ray.errors import DiagramError, UsageError
from diagram_ray.results import Trial, TrialState, write_atomic
from diagram_ray.search.files import best_of
from diagram_ray.search.ledger import Ledger, open_ledger
from diagram_ray.search.optuna_driver import Sampler
from diagram_ray.search.progress import Lines, Progress, Screen
from diagram_ray.search.study import seconds
from diagram_ray.search.study_folder import DOCUMENT, Plan, make_folder, new_document, write_document
from diagram_ray.search.study_state import Rules, StudyState
from diagram_ray.search.tables import write_table, write_tables
from diagram_ray.training.loop import fit_to_data
from diagram_ray.training.transfer import InitialWeights, read_initial

log = logging.getLogger("diagram_ray")

INTERRUPTED = "interrupted"
INTERRUPTED_EXIT = 130
GRACE = 25.0
"""Seconds that Ray is given to stop. It takes up to 15 where a worker is in the middle of a long round."""
TICK = 0.02
SPLITS = "splits.json"
IMAGES = "images.parquet"


@dataclass(frozen=True)
class Materials:
    """What a study is run on."""

    data: TrainingData
    splits: Splits
    info: dict[str, Any]
    """dataset.json"""
    initial: InitialWeights | None = None
    """Weights that the trials start with."""
    sides: pa.Table | None = None
    """image_id and laterality of the images; None leaves it unrecorded."""


def load(plan: Plan) -> Materials:
    """Data, folds and initial weights; nothing is written.

    Raises DataError, UsageError if a study is resumed on other data or weights, and what `read_initial` raises.
    """
    info = read_info(plan.data)
    if plan.resume and plan.out is not None:
        _check_same(plan.out, info)
    data = open_training_data(plan.data, plan.base.data, plan.study.pixels)
    if plan.resume and plan.out is not None:
        path = plan.out / SPLITS
        splits = Splits.from_json(path.read_text(encoding="utf-8"), str(path))
    else:
        splits = make_splits(data, plan.study.folds, plan.study.seed)
    initial = None
    if plan.study.init_from is not None:
        initial = read_initial(plan.study.init_from, fit_to_data(plan.base, data), data, splits)
        if plan.resume and plan.out is not None:
            _check_same_weights(plan.out, initial)
    return Materials(data, splits, info, initial, read_sides(plan.data, data.image_ids))


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
    return _Run(replace(plan, study=study, base=base), folder.absolute(), materials, share, make or real).go(console)


class _Run:
    """A study under way."""

    def __init__(self, plan: Plan, folder: Path, materials: Materials, share: Share, make: MakeValidation) -> None:
        self.plan, self.folder, self.materials, self.share, self.make = plan, folder, materials, share, make
        self.interrupted = threading.Event()
        self.ended = threading.Event()
        self.began = time.monotonic()
        self.document: dict[str, Any] = {}

    def go(self, console: Console) -> dict[str, Any]:
        """Search, tables, control."""
        with open_ledger(self.folder) as ledger:
            state = self._state(ledger)
            self.document = self._document()
            if self.materials.sides is not None:
                write_table(self.folder / IMAGES, self.materials.sides)
            write_document(self.folder, self.document)
            alarm = threading.Thread(target=self._abandon, args=[ledger], daemon=True)
            with ExitStack() as stack:
                stack.enter_context(cooperative_stop(lambda: self._interrupt(state, alarm)))
                progress = self._progress(state, console)
                if isinstance(progress, Screen):
                    stack.enter_context(progress)
                self._search(state, progress)
                self._control(best_of(ledger.trials), progress)
            self.ended.set()
            with suppress(OSError):  # trials that are put aside keep their checkpoints
                (self.folder / "checkpoints").rmdir()
            self._close(ledger, state.stopping or None)
            return self._result(ledger)

    def _interrupt(self, state: StudyState, alarm: threading.Thread) -> None:
        self.interrupted.set()
        state.stop(INTERRUPTED)
        alarm.start()

    def _close(self, ledger: Ledger, interrupted: str | None) -> None:
        write_tables(self.folder, ledger.trials)
        spent = self.document["seconds"] + time.monotonic() - self.began
        self.document |= {"seconds": spent, "interrupted": interrupted}
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
        self._close(ledger, INTERRUPTED)
        log.warning("Ray did not stop by itself; left it. Go on: tune --resume %s", self.folder)
        os._exit(INTERRUPTED_EXIT)

    def _document(self) -> dict[str, Any]:
        """study.yaml; of a resumed study the old one, with the new budget."""
        if not self.plan.resume:
            write_atomic(self.folder / SPLITS, self.materials.splits.to_json())
            initial = self.materials.initial
            started = initial.describe() if initial is not None else None
            return new_document(self.plan, self.materials.info, self.materials.data.classes, started)
        document = read_yaml(self.folder / DOCUMENT)
        dataset = {**document["dataset"], "uri": self.plan.data}
        return document | {"study": self.plan.study.model_dump(mode="json"), "dataset": dataset}

    def _state(self, ledger: Ledger) -> StudyState:
        study = self.plan.study
        if study.trials < len(ledger.trials):
            raise UsageError(f"{self.folder}: trials {study.trials}: the study has {len(ledger.trials)} trials already")
        lookback = study.parallel.lookback or 2 * self.share.trials
        ladder = study.make_ladder(self.plan.base.training.epochs)
        sampler = Sampler(study.space, study.sampler, study.seed, lookback)
        return StudyState(Rules(study.trials, self.share.trials, lookback, ladder), sampler, ledger)

    def _progress(self, state: StudyState, console: Console) -> Progress:
        where = f"{self.folder}: up to {self.share.trials} trials at once, each on {self.share}"
        return Screen(state, where, console) if console.is_terminal else Lines(state, where)

    def _search(self, state: StudyState, progress: Progress) -> None:
        work = Work(self.folder, self.plan.base, state.rules.ladder, self.share.device, self.make)
        budget = self.plan.study.time_budget
        limit = seconds(budget, "time_budget") if budget else None
        run_search(state, work, self.share, self.materials.data, self.materials.splits, progress, limit)

    def _control(self, winner: Trial | None, progress: Progress) -> None:
        """Writes control.json, unless it is there already for this winner."""
        path, study = self.folder / "control.json", self.plan.study
        if winner is None or not study.control.shuffles or self.interrupted.is_set():
            return
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("trial") == winner.number:
            return
        progress.announce(f"control: trial {winner.number} on labels shuffled by patient")
        config = override(self.plan.base, winner.params, f"trial {winner.number}")
        control = Control(winner.number, config, study.folds, study.seed, study.control.shuffles, self.make)
        result = run_control(control, self.materials.data, self.share, self.interrupted.is_set, progress.tick)
        if result is not None:
            write_atomic(path, json.dumps(result, indent=1))

    def _result(self, ledger: Ledger) -> dict[str, Any]:
        counts = Counter(trial.state.value.lower() for trial in ledger.trials.values())
        best = best_of(ledger.trials)
        if best is None and not self.document["interrupted"]:
            failed = [trial for trial in ledger.trials.values() if trial.state is TrialState.FAIL]
            first = f"; trial {failed[0].number}: {failed[0].reason}" if failed else ""
            raise DiagramError(f"{self.folder}: none of {len(ledger.trials)} trials is complete{first}")
        control = self.folder / "control.json"
        return {
            "study": str(self.folder),
            "trials": dict(counts),
            "best": _best(best),
            "control_auc": json.loads(control.read_text(encoding="utf-8"))["auc_mean"] if control.is_file() else None,
            "seconds": round(self.document["seconds"], 1),
            "interrupted": self.document["interrupted"],
        }


def _best(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None or trial.last is None:
        return None
    last = trial.last
    scores = {"auc_mean": last.auc_mean, "auc_sd": last.auc_sd, "accuracy_mean": last.accuracy_mean}
    return {"number": trial.number, "params": trial.params, **scores}


def _check_same(folder: Path, info: dict[str, Any]) -> None:
    before = read_yaml(folder / DOCUMENT)["dataset"].get("fingerprint")
    if before != info["fingerprint"]:
        raise UsageError(
            f"{folder}: was run on the dataset with the fingerprint {before}; this one has {info['fingerprint']}"
        )


def _check_same_weights(folder: Path, initial: InitialWeights) -> None:
    before = (read_yaml(folder / DOCUMENT).get("init_from") or {}).get("weights")
    if before != initial.digest:
        raise UsageError(
            f"{folder}: its trials started with weights of {initial.source} with the SHA-256 {before}; they are now "
            f"others: {initial.digest}"
        )
