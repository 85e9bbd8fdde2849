"""One piece of work on some node of the cluster, with a GPU if there are any."""

from collections.abc import Callable
from typing import Any

import ray


def run_errand(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What `work(*arguments)` returns. Raises what it raises; Ctrl-C stops it as it would stop it here."""
    gpus = min(1.0, ray.cluster_resources().get("GPU", 0.0))  # type: ignore[no-untyped-call]
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(work).remote(*arguments)
    try:
        result: dict[str, Any] = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except KeyboardInterrupt:
        ray.cancel(task)
        ray.wait([task])
        raise
    return result
