"""Supervision of a search: what stops it, what shows it, and what ends the process when Ray does not let go of it."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from diagram_ray.distributed.ray_metrics import telemetry
from diagram_ray.distributed.session import own_ray_ended
from diagram_ray.distributed.study_session import StudySession
from diagram_ray.errors import DiagramError
from diagram_ray.evaluation.resampling import Interval
from diagram_ray.logs import EVENT
from diagram_ray.monitoring.live_server import FILE as PAGE
from diagram_ray.monitoring.live_server import study_page
from diagram_ray.monitoring.snapshot import StudySnapshot, take_snapshot
from diagram_ray.monitoring.terminal import Lines, Progress, Screen
from diagram_ray.results import Trial
from diagram_ray.search.racing import interval
from diagram_ray.signals import cooperative_stop

log = logging.getLogger("diagram_ray")

INTERRUPTED = "interrupted"
INTERRUPTED_EXIT = 130
GRACE = 25.0
"""Seconds that Ray has to stop. It takes up to 15 where a worker is in the middle of a long round."""
SOON = 1.0
"""Seconds in which Ray ends if it was told to stop by the same signal."""
TICK = 0.02


class Interruption:
    """An interruption by Ctrl-C or SIGTERM: stops the search, and ends the process if Ray does not let go of it."""

    def __init__(self, session: StudySession) -> None:
        self._session = session
        self._asked, self._over = threading.Event(), threading.Event()

    def is_asked(self) -> bool:
        """Whether the study is to stop."""
        return self._asked.is_set()

    def ask(self) -> None:
        """Asks the search to stop, and Ray to do so in time.

        Runs in the main thread, as signals do, and keeps it for a second: where Ray ends in it, being told to stop by
        the same signal, the next call of Ray would end this process before its tables are written.
        """
        self._asked.set()
        self._session.state.stop(INTERRUPTED)
        alarm, asked = threading.Thread(target=self._abandon, daemon=True), time.monotonic()
        alarm.start()
        while (waited := time.monotonic() - asked) < SOON or (waited < GRACE and own_ray_ended()):
            alarm.join(TICK)

    def over(self) -> None:
        """Notes that nothing of the study runs any more."""
        self._over.set()

    def _abandon(self) -> None:
        """Ends the process when Ray does not let go of it, or is gone.

        A SIGTERM to the whole process group (timeout, SLURM, Kubernetes) ends a local Ray before this process, which
        would wait a minute for it or be ended by it. All work is in the ledger by now: nothing is lost by leaving.
        """
        latest = time.monotonic() + GRACE
        while time.monotonic() < latest and not own_ray_ended():
            if self._over.wait(TICK):
                return
        try:
            self._session.close(INTERRUPTED)
        except (DiagramError, OSError) as error:  # --resume makes the tables from the ledger
            log.warning("the tables could not be written: %s", error)
        log.warning("Ray did not stop by itself; left it. Go on: tune --resume %s", self._session.folder)
        os._exit(INTERRUPTED_EXIT)


@contextmanager
def supervised(session: StudySession, console: Console) -> Iterator[tuple[Progress, Interruption]]:
    """Signals stop the study, and metrics, page and terminal show it, while this is open."""
    interruption, progress = Interruption(session), _progress(session, console)
    with ExitStack() as stack:
        stack.enter_context(cooperative_stop(interruption.ask))
        _show(stack, session, progress)
        if isinstance(progress, Screen):
            stack.enter_context(progress)
        yield progress, interruption
    interruption.over()


def _progress(session: StudySession, console: Console) -> Progress:
    share = session.share
    where = f"{session.folder}: up to {share.trials} trials at once, each on {share}"
    if console.is_terminal and log.getEffectiveLevel() > EVENT:
        return Screen(session.state, where, console)
    return Lines(session.state, where, session.plan.study.name)


def _show(stack: ExitStack, session: StudySession, progress: Progress) -> None:
    """Shows metrics, and the study's page, for as long as `stack` is open."""
    study, inputs = session.plan.study, session.inputs
    images, top = len(inputs.data.labels), session.state.rules.ladder.top
    dataset = f"{inputs.info.get('name', '')}, {images} images"

    def look() -> StudySnapshot:
        price = study.budget.cost_per_worker_hour
        return take_snapshot(progress, study.name, dataset, partial(_span, session, top), session.origin, price)

    stack.enter_context(telemetry(study.name, images * (1 - 1 / study.folds), look))
    if study.page.on:
        folder = session.folder
        if not isinstance(folder, Path):  # the page's token is for this machine's user alone
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="diagram-ray-")))
        address = stack.enter_context(study_page(folder, study.page.host, study.page.port, look))
        log.info("watch it at %s with the token in %s", address, folder / PAGE)


def _span(session: StudySession, top: int, trial: Trial) -> Interval:
    return interval(session.score_source.case_scores(trial.number, top))
