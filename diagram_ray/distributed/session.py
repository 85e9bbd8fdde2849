"""Joining a Ray cluster, or starting one on this machine where there is none.

A cluster started here asks every client for a token of its own, kept in a private temporary folder; nothing is written
into the home folder, and only what was started here is shut down.
"""

import atexit
import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import ray

from diagram_ray.errors import DiagramError, UsageError

log = logging.getLogger("diagram_ray")

QUIET = {
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_TQDM_PATCH_PRINT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
}
VITAL = {"gcs_server", "raylet"}
"""Ray's processes without which nothing works."""
WORKERS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""Several trials share a machine's cores: each computes in one thread."""


@contextmanager
def ray_session(num_cpus: int | None = None) -> Iterator[None]:
    """Ray, joined to the cluster of RAY_ADDRESS or started on this machine with `num_cpus` (None: all of them).

    Inside a session that is already open it changes nothing. Raises UsageError if the cluster cannot be joined.
    """
    if ray.is_initialized():
        yield
        return
    with _environment(QUIET):
        if os.environ.get("RAY_ADDRESS"):
            _join()
        else:
            _start(num_cpus)
        try:
            yield
        finally:
            ray.shutdown()


def _join() -> None:
    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": WORKERS})
    except Exception as error:  # Ray raises many kinds, among them RuntimeError for a missing token
        raise UsageError(
            f"RAY_ADDRESS={address}: the Ray cluster cannot be joined: {' '.join(str(error).split())[:150]}; "
            f"{_about_the_token()}, or unset RAY_ADDRESS to start one on this machine"
        ) from None
    log.info("joined the Ray cluster at %s: %s", address, _size())


def _about_the_token() -> str:
    """Advice if the token was wrong. A refusal and a cluster that does not answer look alike to Ray's client."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        return (
            "no token was sent: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the cluster's token"
        )
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "is RAY_AUTH_TOKEN the token of this cluster?"
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "~/.ray/auth_token")
    return f"is {path} there, and the token of this cluster in it? set RAY_AUTH_TOKEN_PATH to the file that has it"


def _start(num_cpus: int | None) -> None:
    # ray.init turns token authentication on by itself where RAY_AUTH_MODE is not set; set later than Ray's import it
    # would be read by the processes that Ray starts but not by this one.
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(_token_file()))
    # Workers inherit WORKERS from Ray's processes: with a runtime_env, those that Ray starts first would fit nobody.
    try:
        with environment(WORKERS):
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except Exception as error:  # as above
        raise DiagramError(f"Ray could not be started here: {' '.join(str(error).split())[:400]}") from None
    log.info("started Ray on this machine: %s", _size())


@lru_cache(maxsize=1)
def _token_file() -> Path:
    """This process's token, in a private folder that goes when the process ends. Ray reads it once a process."""
    folder = tempfile.TemporaryDirectory(prefix="diagram-ray-")
    atexit.register(folder.cleanup)
    token = Path(folder.name) / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    return token


def _size() -> str:
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return f"{resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs"


def own_ray_ended() -> bool:
    """Whether the Ray that this process has started is gone, as it is soon after a signal to the whole process group.

    The next call of Ray would then end this process on the spot.
    """
    node: Any = ray._private.worker._global_node
    return node is not None and any(kind in VITAL for kind, _ in node.dead_processes())


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Sets variables, and puts these back afterwards; others that are set meanwhile stay."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Sets variables that are not set yet, and restores all of them afterwards."""
    before = dict(os.environ)
    os.environ.update({name: value for name, value in values.items() if name not in before})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def run_remote(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Returns what `work(*arguments)` returns. Raises what it raises; Ctrl-C stops it as it would stop it here."""
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work).remote(*arguments)
    try:
        result: dict[str, Any] = result_of(task)
    except KeyboardInterrupt:
        ray.cancel(task)
        ray.wait([task])
        raise
    return result


def result_of(task: Any) -> Any:
    """Returns what a Ray task returned. Raises what it raised, and RayError if its process died too often."""
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
