"""The trivial baselines of a study that has been searched: seconds of work, in the driver's own process.

They depend on the data and the folds alone, so a study that goes on keeps those that it has. Whatever goes wrong with
them is told in baselines.json and costs the study nothing else.
"""

import json
import logging
import time
from typing import Any

import pyarrow as pa

from diagram_ray.auditing.baselines import Baselines, identity, measure, question
from diagram_ray.distributed.control import Cluster
from diagram_ray.distributed.searched import Searched
from diagram_ray.errors import DataError, told
from diagram_ray.results import BASELINE_SCORES, BASELINES, write_atomic
from diagram_ray.search.tables import write_table

log = logging.getLogger("diagram_ray")


def has_baselines(searched: Searched) -> bool:
    """Whether the folder has the baselines of these data and folds, or why there are none."""
    path = searched.folder / BASELINES
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        there = found["unmeasured"] or (searched.folder / BASELINE_SCORES).is_file()
        return bool(there) and found["identity"] == _identity(searched)
    except (ValueError, KeyError, TypeError):  # there are none, or they are damaged
        return False


def run_baselines(searched: Searched, cluster: Cluster) -> None:
    """Writes baselines.parquet, and last baselines.json; nothing if it was stopped meanwhile."""
    began = time.monotonic()
    told_of: dict[str, Any] = {"identity": _identity(searched), "groups": [], "absent": [], "unmeasured": ""}
    found = _measured(searched, cluster)
    if found is None:
        return
    if isinstance(found, Baselines):
        write_table(searched.folder / BASELINE_SCORES, pa.Table.from_pandas(found.scores, preserve_index=False))
        told_of |= {"groups": found.groups, "absent": found.absent}
    else:
        log.warning("trivial baselines could not be measured: %s", found)
        told_of |= {"unmeasured": found}
    told_of["seconds"] = round(time.monotonic() - began, 3)
    write_atomic(searched.folder / BASELINES, json.dumps(told_of, indent=1))


def _measured(searched: Searched, cluster: Cluster) -> Baselines | str | None:
    """Why there are none, where that is text."""
    materials = searched.materials
    try:
        asked = question(materials.data, materials.splits, materials.manifest, searched.base.data)
        return measure(asked, cluster.stopping)
    except DataError as error:
        return str(error)
    except Exception as error:  # of the learner's many kinds; the study is worth more than its baselines
        return told(error)


def _identity(searched: Searched) -> str:
    return identity(searched.materials.data, searched.materials.splits)
