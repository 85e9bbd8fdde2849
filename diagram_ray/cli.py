"""What all commands share: how they report, fail and log.

Results go to standard output, everything else to standard error. A failure is one sentence and an exit code: 2 for
something the user can correct, 1 for a failure while working, 130 for an interrupt.
"""

import json
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.logging import RichHandler

from diagram_ray.errors import DiagramError, UsageError
from diagram_ray.logs import EVENT, JsonLines, event
from diagram_ray.storage.paths import Place

stderr = Console(stderr=True)
log = logging.getLogger("diagram_ray")

INTERRUPTED = 130


def new_app() -> typer.Typer:
    """A Typer application for one command, without rich tracebacks or completion options."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def run(work: Callable[[], dict[str, Any]], *, as_json: bool, debug: bool, log_json: bool = False) -> None:
    """Does the `work` of a command, prints its result as JSON if asked for, and exits with the right code.

    `log_json`: standard error gets one JSON object a line, and one for every event there is.
    """
    configure_logging(debug, log_json)
    try:
        result = work()
    except DiagramError as error:
        if debug:
            raise
        _end(f"error: {error}", error.exit_code, log_json)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED, log_json)
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def _end(text: str, code: int, log_json: bool) -> None:
    if log_json:
        log.error(text, extra=event("end", exit_code=code))
    else:
        sys.stderr.write(f"{text}\n")


def check_free(out: Place) -> None:
    """Raises UsageError unless `out`, the folder a command is to write, is new or empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out}: exists and is not an empty folder; choose another")


@contextmanager
def progress_bar(what: str, between_lines: float) -> Iterator[Callable[[int, int, str], None]]:
    """Yields report(done, total, text): on a terminal a bar with the time left, elsewhere plain lines.

    The lines come `between_lines` seconds apart at least, but for the last.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    last_line = time.monotonic()
    columns = (
        TextColumn(what), MofNCompleteColumn(), BarColumn(), TimeRemainingColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def report(done: int, total: int, text: str = "") -> None:
            nonlocal last_line
            bar.update(task, completed=done, total=total, description=text)
            now = time.monotonic()
            if bar.disable and (done >= total or now - last_line >= between_lines):
                last_line = now
                log.info("%s %d of %d%s", what, done, total, f": {text}" if text else "")

        yield report


def configure_logging(debug: bool, log_json: bool = False) -> None:
    """Plain lines on standard error; through rich where it is a terminal; or JSON."""
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if stderr.is_terminal and not log_json:
        handler = RichHandler(console=stderr, show_path=False, show_level=False)
    handler.setFormatter(JsonLines() if log_json else logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.DEBUG if debug else EVENT if log_json else logging.INFO)
    log.propagate = False
